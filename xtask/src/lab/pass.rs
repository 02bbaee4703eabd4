//! An XDP program that passes all frames on, for the other end of a cable.
//!
//! A veth device delivers the frames that an XDP program transmits only when the other end runs a
//! program too; otherwise they stay in a queue that nobody reads. Receive offload (GRO) on the
//! other end does not help.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};

use super::netns::Netns;

/// The program `return XDP_PASS`: `r0 = 2; exit`, in the kernel's instruction format.
const PROGRAM: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];
const LICENSE: &CStr = c"Dual MIT/GPL";

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
/// In the driver.
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// The begin of `union bpf_attr` for loading a program; the kernel takes the rest for zero.
#[repr(C)]
struct ProgramAttributes {
    program_type: u32,
    instructions: u32,
    program: u64,
    license: u64,
}

/// The begin of `union bpf_attr` for attaching a program.
#[repr(C)]
struct LinkAttributes {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

/// The attached program; dropping it detaches it.
#[derive(Debug)]
pub struct Pass {
    _link: OwnedFd,
}

impl Pass {
    /// Attaches it to an interface of a namespace.
    ///
    /// # Errors
    /// Without root, or when the interface already has a program.
    pub fn attach(netns: &Netns, interface: &CStr) -> Result<Pass> {
        let attach = || -> io::Result<Pass> {
            let program = bpf(
                BPF_PROG_LOAD,
                &ProgramAttributes {
                    program_type: BPF_PROG_TYPE_XDP,
                    instructions: PROGRAM.len() as u32,
                    program: PROGRAM.as_ptr() as u64,
                    license: LICENSE.as_ptr() as u64,
                },
            )?;
            // SAFETY: the name ends with a zero and outlives the call.
            #[allow(unsafe_code)]
            let index = unsafe { libc::if_nametoindex(interface.as_ptr()) };
            let link = bpf(
                BPF_LINK_CREATE,
                &LinkAttributes {
                    program: program.as_raw_fd().unsigned_abs(),
                    interface: index,
                    attach_type: BPF_XDP,
                    flags: XDP_FLAGS_DRV_MODE,
                },
            )?;
            Ok(Pass { _link: link })
        };
        netns.inside(|| attach().context("cannot attach an XDP program to a cable of the lab"))
    }
}

/// A command of bpf(2) that returns a file descriptor.
fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: pointer and length describe the attributes; they and what they point to outlive the
    // call.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>())
    };
    match i32::try_from(result) {
        Ok(fd @ 0..) => {
            // SAFETY: the kernel has just opened it for us alone.
            #[allow(unsafe_code)]
            Ok(unsafe { OwnedFd::from_raw_fd(fd) })
        }
        _ => Err(io::Error::last_os_error()),
    }
}
