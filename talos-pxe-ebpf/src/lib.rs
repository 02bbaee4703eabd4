//! What the XDP program and the daemon share: the layout of the maps, and the parsing of frames,
//! which is plain code so that it can be tested on the host.
//!
//! The library never names `aya_ebpf`: linked into host code, that crate's byte-loop `memcpy`
//! would replace the C library's.

#![no_std]

pub mod frame;

use bytemuck::{Pod, Zeroable};

use frame::Kind;

/// The name of the XDP program in the object file.
pub const PROGRAM: &str = "talos_pxe";

/// The name of the per-CPU array whose only element is a [`Counters`].
pub const COUNTERS: &str = "COUNTERS";

/// How many frames the program saw, by what they were. The kernel keeps one per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Counters {
    /// Frames to the DHCP server port.
    pub dhcp: u64,
    /// Frames to the PXE boot server port.
    pub boot_server: u64,
    /// All other frames.
    pub other: u64,
}

const _: () = assert!(size_of::<Counters>() == 24);

impl Counters {
    /// Counts one frame.
    #[inline(always)]
    pub fn count(&mut self, kind: Kind) {
        let counter = match kind {
            Kind::Dhcp => &mut self.dhcp,
            Kind::BootServer => &mut self.boot_server,
            Kind::Other => &mut self.other,
        };
        *counter = counter.wrapping_add(1);
    }

    /// All frames.
    pub fn frames(&self) -> u64 {
        self.dhcp.wrapping_add(self.boot_server).wrapping_add(self.other)
    }

    /// The counts of two CPUs together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            dhcp: self.dhcp.wrapping_add(other.dhcp),
            boot_server: self.boot_server.wrapping_add(other.boot_server),
            other: self.other.wrapping_add(other.other),
        }
    }
}

// SAFETY: Counters is `bytemuck::Pod`: every bit pattern is a value and there is no padding.
#[cfg(not(target_arch = "bpf"))]
#[expect(unsafe_code, reason = "aya has a marker trait of its own")]
unsafe impl aya::Pod for Counters {}
