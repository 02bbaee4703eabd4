//! The options of a request: copied out of the frame, then walked once.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_xdp_get_buff_len, bpf_xdp_load_bytes};
use talos_pxe_ebpf::frame::{MAGIC, MAGIC_AT};
use talos_pxe_ebpf::outcome::Outcome;

use super::maps::{Scratch, forget};
use super::walk::{self, Step, Walk};
use super::words;

const PAD: u8 = 0;
const END: u8 = 255;

/// An option that matters: its place is kept in the slot of this number.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum Slot {
    SubnetMask = 1,
    RequestedAddress,
    LeaseTime,
    Overload,
    MessageType,
    ServerIdentifier,
    MaxMessageSize,
    Renewal,
    Rebinding,
    ClassIdentifier,
    UserClass,
    ParameterList,
    Architecture,
    Ipxe,
    ClientIdentifier,
    MachineIdentifier,
    RelayInformation,
}

/// For each option code the lengths it may have, as the daemon checks them
/// (`wire::dhcp::Options`), and its slot: slot, shortest, longest, and 1 for even ones only, an
/// octet each from the lowest. Zero for options that do not matter.
static RULES: [u32; 256] = {
    let any = (0, 255, 0);
    let some = (1, 255, 0);
    let four = (4, 4, 0);
    let rules = [
        (1, Slot::SubnetMask, four),
        (50, Slot::RequestedAddress, four),
        (51, Slot::LeaseTime, four),
        (52, Slot::Overload, any),
        (53, Slot::MessageType, (1, 1, 0)),
        (54, Slot::ServerIdentifier, four),
        (57, Slot::MaxMessageSize, (2, 2, 0)),
        (58, Slot::Renewal, four),
        (59, Slot::Rebinding, four),
        (60, Slot::ClassIdentifier, any),
        (77, Slot::UserClass, any),
        (55, Slot::ParameterList, any),
        (93, Slot::Architecture, (2, 255, 1)),
        (175, Slot::Ipxe, any),
        (61, Slot::ClientIdentifier, some),
        (97, Slot::MachineIdentifier, some),
        (82, Slot::RelayInformation, some),
    ];
    let mut table = [0; 256];
    let mut at = 0;
    while at < rules.len() {
        let (code, slot, (shortest, longest, even)) = rules[at];
        table[code] = slot as u32 | shortest << 8 | longest << 16 | even << 24;
        at += 1;
    }
    table
};

/// The options of one request, in this CPU's scratch.
#[derive(Clone, Copy)]
pub struct Options(pub *mut Scratch);

impl Options {
    /// Copies them from the frame, if that is not long.
    ///
    /// Before anything is known of the frame: the verifier follows what comes before this once
    /// for each length that the frame may have.
    #[inline(always)]
    pub fn copy(ctx: *mut xdp_md, scratch: *mut Scratch) {
        // SAFETY: the scratch is this CPU's own, and has room.
        unsafe {
            let to = (&raw mut (*scratch).options).cast();
            words::copy_options(ctx, to, &raw mut (*scratch).copied);
        }
    }

    /// Copies them from a long frame, and returns the frame's length. The options' length, with
    /// the magic cookie, must be in the frame.
    #[inline(always)]
    pub fn copy_rest(ctx: *mut xdp_md, scratch: *mut Scratch, length: u64) -> Result<u64, Outcome> {
        // SAFETY: `length` fits the scratch, which is this CPU's own.
        unsafe {
            let copied = (&raw const (*scratch).copied).read_volatile();
            if copied != words::MORE {
                let is_there = length <= copied;
                return if is_there {
                    Ok(MAGIC_AT as u64 + copied)
                } else {
                    Err(Outcome::BadLength)
                };
            }
            if length > words::COPIED {
                let to = (&raw mut (*scratch).options).cast();
                let length = forget(length);
                // Again, of what the verifier knows now. It fails where the frame is too short.
                if length < MAGIC.len() as u64
                    || bpf_xdp_load_bytes(ctx, MAGIC_AT as u32, to, length as u32) != 0
                {
                    return Err(Outcome::BadLength);
                }
            }
            Ok(bpf_xdp_get_buff_len(ctx))
        }
    }

    /// Walks the `length` octets that have been copied.
    #[inline(always)]
    pub fn walk(scratch: *mut Scratch, length: u64) -> Result<Self, Outcome> {
        // SAFETY: the scratch is this CPU's own.
        unsafe {
            // Word by word: the compiler would call a function that does it octet by octet.
            let places = (&raw mut (*scratch).places).cast::<u64>();
            for word in 0..Scratch::SLOTS / 4 {
                places.add(word).write_volatile(0);
            }
        }
        walk::run::<Self>(scratch, MAGIC.len() as u64, length)?;
        let options = Self(scratch);
        if options.place(Slot::Overload) != 0 {
            return Err(Outcome::Overload);
        }
        Ok(options)
    }

    #[inline(always)]
    fn note(self, rule: u32, length: u32, at: u64) -> Result<(), Outcome> {
        if length < rule >> 8 & 0xff || length > rule >> 16 & 0xff || length & rule >> 24 != 0 {
            return Err(Outcome::OptionLength);
        }
        let slot = rule as usize % Scratch::SLOTS;
        // SAFETY: the slot is below `SLOTS`.
        unsafe {
            let place = (&raw mut (*self.0).places).cast::<u16>().add(slot);
            if *place != 0 {
                return Err(Outcome::DuplicateOption);
            }
            *place = at as u16;
        }
        Ok(())
    }

    /// Where an option is, its code first; zero when it is not there.
    #[inline(always)]
    pub fn place(self, slot: Slot) -> u64 {
        // SAFETY: the slot is below `SLOTS`.
        let place = unsafe { (*self.0).places.0[slot as usize] };
        // The verifier does not know that every place is below.
        u64::from(place) % Scratch::OPTIONS as u64
    }

    /// The octet at `at`, which is below [`Scratch::OPTIONS`] and 512 more.
    #[inline(always)]
    pub fn octet(self, at: u64) -> u8 {
        // SAFETY: the verifier holds us to it.
        unsafe { *(&raw const (*self.0).options).cast::<u8>().add(at as usize) }
    }

    /// The octets from `at` on, for which the same holds.
    #[inline(always)]
    pub fn octets<const N: usize>(self, at: u64) -> [u8; N] {
        // SAFETY: the verifier holds us to it.
        unsafe { *(&raw const (*self.0).options).cast::<u8>().add(at as usize).cast() }
    }

    /// The first octet of the value of the option at `place`.
    #[inline(always)]
    pub fn value_at(self, place: u64) -> *const u8 {
        // SAFETY: there is room to read on behind any option.
        unsafe { (&raw const (*self.0).options).cast::<u8>().add(place as usize + 2) }
    }

    #[inline(always)]
    fn value<const N: usize>(self, slot: Slot) -> Option<[u8; N]> {
        match self.place(slot) {
            0 => None,
            at => Some(self.octets(at + 2)),
        }
    }

    /// The message type; zero, which is none, without one.
    #[inline(always)]
    pub fn kind(self) -> u8 {
        match self.place(Slot::MessageType) {
            0 => 0,
            at => self.octet(at + 2),
        }
    }

    #[inline(always)]
    pub fn server(self) -> Option<[u8; 4]> {
        self.value(Slot::ServerIdentifier)
    }

    #[inline(always)]
    pub fn requested_address(self) -> Option<[u8; 4]> {
        self.value(Slot::RequestedAddress)
    }

    /// The code of the architecture that is named first.
    #[inline(always)]
    pub fn architecture(self) -> Option<u16> {
        self.value(Slot::Architecture).map(u16::from_be_bytes)
    }
}

impl Walk for Options {
    #[inline(always)]
    fn step(scratch: *mut Scratch, at: u64, end: u64) -> Step {
        if at >= end {
            return Step::Failed(Outcome::UnendedOptions);
        }
        let options = Self(scratch);
        let code = options.octet(at);
        if code == PAD {
            return Step::Next(at + 1);
        }
        if code == END {
            return Step::Done;
        }
        let length = u32::from(options.octet(at + 1));
        // SAFETY: there is a rule for every octet.
        let rule = unsafe { *RULES.as_ptr().add(usize::from(code)) };
        if rule != 0
            && let Err(outcome) = options.note(rule, length, at)
        {
            return Step::Failed(outcome);
        }
        Step::Next(at + 2 + u64::from(length))
    }
}
