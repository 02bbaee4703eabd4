//! The few commands of bpf(2) that the lab needs: small programs, written as the kernel's
//! instructions, and their maps.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const LICENSE: &CStr = c"Dual MIT/GPL";

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_MAP_TYPE_XSKMAP: u32 = 17;
/// The map's memory can be shared.
const BPF_F_MMAPABLE: u32 = 1 << 10;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const BPF_TCX_INGRESS: u32 = 46;
/// What the program transmits in a test run is really transmitted.
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;
/// Where a program runs.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// In the network stack (`XDP_FLAGS_SKB_MODE`).
    Generic = 1 << 1,
    /// In the driver (`XDP_FLAGS_DRV_MODE`).
    Native = 1 << 2,
}

// Each of these is the begin of `union bpf_attr`; the kernel takes the rest for zero.

#[repr(C)]
struct MapAttributes {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    entries: u32,
    flags: u32,
}

#[repr(C)]
struct ElementAttributes {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgramAttributes {
    program_type: u32,
    instructions: u32,
    program: u64,
    license: u64,
}

#[repr(C)]
struct LinkAttributes {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
struct RunAttributes {
    program: u32,
    result: u32,
    frame_length: u32,
    output_length: u32,
    frame: u64,
    output: u64,
    repeat: u32,
    duration: u32,
    context_length: u32,
    context_output_length: u32,
    context: u64,
    context_output: u64,
    flags: u32,
    cpu: u32,
    batch: u32,
    padding: u32,
}

/// `struct xdp_md`.
#[repr(C)]
#[derive(Default)]
struct Context {
    data: u32,
    data_end: u32,
    data_meta: u32,
    interface: u32,
    queue: u32,
    to_interface: u32,
}

#[repr(C)]
struct UpdateAttributes {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// A program that the kernel has accepted.
#[derive(Debug)]
pub struct Program(OwnedFd);

/// A program on an interface; dropping it detaches the program.
#[derive(Debug)]
pub struct Link(OwnedFd);

/// A map from queues of an interface to `AF_XDP` sockets.
#[derive(Debug)]
pub struct Sockets(OwnedFd);

impl Program {
    /// Loads an XDP program: instructions in the kernel's format, in the byte order of this
    /// machine.
    ///
    /// # Errors
    /// Without root, or when the verifier refuses them.
    pub fn load(instructions: &[u64]) -> io::Result<Program> {
        Program::load_as(BPF_PROG_TYPE_XDP, instructions)
    }

    /// Loads a program that sees packets where the network stack begins.
    ///
    /// # Errors
    /// As [`Program::load`].
    pub fn load_classifier(instructions: &[u64]) -> io::Result<Program> {
        Program::load_as(BPF_PROG_TYPE_SCHED_CLS, instructions)
    }

    fn load_as(program_type: u32, instructions: &[u64]) -> io::Result<Program> {
        let attributes = ProgramAttributes {
            program_type,
            instructions: instructions.len() as u32,
            program: instructions.as_ptr() as u64,
            license: LICENSE.as_ptr() as u64,
        };
        opened(bpf(BPF_PROG_LOAD, &attributes)?).map(Program)
    }

    /// Runs it `times` times on frames of zeros of this length, as if they came in by an interface
    /// of the thread's namespace; a frame is really transmitted there when the program says so.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn run_live(&self, interface: u32, length: usize, times: u32) -> io::Result<()> {
        let frame = vec![0_u8; length];
        let context = Context { data_end: length as u32, interface, ..Context::default() };
        let attributes = RunAttributes {
            program: number(&self.0),
            result: 0,
            frame_length: length as u32,
            output_length: 0,
            frame: frame.as_ptr() as u64,
            output: 0,
            repeat: times,
            duration: 0,
            context_length: size_of::<Context>() as u32,
            context_output_length: 0,
            context: (&raw const context) as u64,
            context_output: 0,
            flags: BPF_F_TEST_XDP_LIVE_FRAMES,
            cpu: 0,
            batch: times,
            padding: 0,
        };
        bpf(BPF_PROG_TEST_RUN, &attributes).map(drop)
    }

    /// Attaches it to the interface of this name in the thread's namespace.
    ///
    /// # Errors
    /// Without root, or when the interface already has a program.
    pub fn attach(&self, interface: &CStr, mode: Mode) -> io::Result<Link> {
        self.attach_to(interface, BPF_XDP, mode as u32)
    }

    /// Attaches a classifier to what comes in by an interface (Linux 6.6).
    ///
    /// # Errors
    /// Without root, or when the kernel is older.
    pub fn attach_ingress(&self, interface: &CStr) -> io::Result<Link> {
        self.attach_to(interface, BPF_TCX_INGRESS, 0)
    }

    fn attach_to(&self, interface: &CStr, attach_type: u32, flags: u32) -> io::Result<Link> {
        // SAFETY: the name ends with a zero and outlives the call.
        #[allow(unsafe_code)]
        let interface = unsafe { libc::if_nametoindex(interface.as_ptr()) };
        let program = number(&self.0);
        let attributes = LinkAttributes { program, interface, attach_type, flags };
        opened(bpf(BPF_LINK_CREATE, &attributes)?).map(Link)
    }
}

impl Link {
    /// Puts another program in place of the one that is attached; no frame meets none.
    ///
    /// # Errors
    /// When the interface is gone.
    pub fn replace(&self, program: &Program) -> io::Result<()> {
        let attributes = UpdateAttributes {
            link: number(&self.0),
            program: number(&program.0),
            flags: 0,
            old_program: 0,
        };
        bpf(BPF_LINK_UPDATE, &attributes).map(drop)
    }
}

/// A map of one value, whose memory can be shared.
#[derive(Debug)]
pub struct Shared(OwnedFd);

impl Shared {
    /// A map whose value has this many octets.
    ///
    /// # Errors
    /// Without root.
    pub fn new(length: usize) -> io::Result<Shared> {
        let attributes = MapAttributes {
            map_type: BPF_MAP_TYPE_ARRAY,
            key_size: 4,
            value_size: length as u32,
            entries: 1,
            flags: BPF_F_MMAPABLE,
        };
        opened(bpf(BPF_MAP_CREATE, &attributes)?).map(Shared)
    }

    /// The number by which instructions name the map.
    pub fn number(&self) -> u32 {
        number(&self.0)
    }
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Sockets {
    /// A map for one queue.
    ///
    /// # Errors
    /// Without root.
    pub fn new() -> io::Result<Sockets> {
        let attributes = MapAttributes {
            map_type: BPF_MAP_TYPE_XSKMAP,
            key_size: 4,
            value_size: 4,
            entries: 1,
            flags: 0,
        };
        opened(bpf(BPF_MAP_CREATE, &attributes)?).map(Sockets)
    }

    /// Makes `socket`, which is bound to the first queue, that queue's.
    ///
    /// # Errors
    /// When it is no such socket.
    pub fn set(&self, socket: &impl AsRawFd) -> io::Result<()> {
        let (key, value) = (0_u32, socket.as_raw_fd());
        let attributes = ElementAttributes {
            map: number(&self.0),
            padding: 0,
            key: (&raw const key) as u64,
            value: (&raw const value) as u64,
            flags: 0,
        };
        bpf(BPF_MAP_UPDATE_ELEM, &attributes).map(drop)
    }

    /// The number by which instructions name the map.
    pub fn number(&self) -> u32 {
        number(&self.0)
    }
}

fn number(fd: &OwnedFd) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

/// A command of bpf(2).
fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<i32> {
    // SAFETY: pointer and length describe the attributes; they and what they point to outlive the
    // call.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>())
    };
    match i32::try_from(result) {
        Ok(result @ 0..) => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The file descriptor that a command returned.
fn opened(fd: i32) -> io::Result<OwnedFd> {
    // SAFETY: the kernel has just opened it for us alone.
    #[allow(unsafe_code)]
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
