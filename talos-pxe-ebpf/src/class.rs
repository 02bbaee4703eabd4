//! Client classes: the numbers by which program and daemon agree on what a client is, and so on
//! the template of its reply.

/// A client class, below [`Class::COUNT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class(u32);

impl Class {
    /// How many classes there are.
    pub const COUNT: u32 = 3 + 3 * ARCHITECTURES;
    /// Wants nothing besides an address.
    pub const PLAIN: Self = Self(0);
    /// iPXE without HTTP.
    pub const IPXE_TFTP: Self = Self(1);
    /// iPXE with HTTP.
    pub const IPXE_HTTP: Self = Self(2);

    /// A BOOTP-minded loader of this architecture (option 93).
    #[inline(always)]
    pub fn bootp(architecture: u16) -> Self {
        Self(3 + architecture_index(architecture))
    }

    /// A PXE boot ROM of this architecture.
    #[inline(always)]
    pub fn pxe(architecture: u16) -> Self {
        Self(3 + ARCHITECTURES + architecture_index(architecture))
    }

    /// UEFI HTTP boot on this architecture.
    #[inline(always)]
    pub fn http(architecture: u16) -> Self {
        Self(3 + 2 * ARCHITECTURES + architecture_index(architecture))
    }

    /// The class's number.
    #[inline(always)]
    pub const fn index(self) -> u32 {
        self.0
    }

    /// The class of this number, which must be one.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        Self(number as u32)
    }

    /// The class of this number; none when there is no such class.
    pub const fn from_index(index: u32) -> Option<Self> {
        if index < Self::COUNT { Some(Self(index)) } else { None }
    }
}

/// x86 BIOS, UEFI on IA-32, x86-64, ARM and ARM64, and all others.
const ARCHITECTURES: u32 = 6;

/// The number of an architecture; codes that share one are told the same boot file (option 93,
/// IANA "Processor Architecture Types").
#[inline(always)]
fn architecture_index(code: u16) -> u32 {
    match code {
        0 => 0,
        6 | 15 => 1,
        7 | 9 | 16 => 2,
        10 | 18 => 3,
        11 | 19 => 4,
        _ => ARCHITECTURES - 1,
    }
}
