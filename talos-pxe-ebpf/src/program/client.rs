//! What a client is: the daemon's `Client::of` in the program's words. What takes more to find
//! out is left to the daemon; a test compares the two.

use talos_pxe_ebpf::class::Class;
use talos_pxe_ebpf::outcome::Outcome;

use super::maps::Scratch;
use super::options::{Options, Slot};
use super::walk::{self, Step, Walk};
use super::words;

/// Within iPXE's options: it can load from HTTP.
const IPXE_HTTP: u8 = 0x13;
const BOOT_FILE_NAME: u8 = 67;

/// The class of the client that sent these options; `names_file` when its `file` field is not
/// empty.
#[inline(always)]
pub fn class(options: &Options, names_file: bool) -> Result<Class, Outcome> {
    if is_ipxe(options) {
        return Ok(ipxe(options));
    }
    let class = options.place(Slot::ClassIdentifier);
    let length = if class == 0 { 0 } else { options.octet(class + 1) };
    let architecture = options.architecture();
    if length >= 9 && options.octets(class + 2) == *b"PXEClien" && options.octet(class + 10) == b't'
    {
        return architecture.map(Class::pxe).ok_or(Outcome::UnusualClient);
    }
    if length >= 10
        && options.octets(class + 2) == *b"HTTPClie"
        && options.octets(class + 10) == *b"nt"
    {
        return architecture.map(Class::http).ok_or(Outcome::UnusualClient);
    }
    match architecture {
        Some(architecture) => Ok(Class::bootp(architecture)),
        // A class may name the architecture between colons.
        None if contains(options, class, b':')? => Err(Outcome::UnusualClient),
        None if names_file => Ok(Class::bootp(0)),
        None if contains(options, options.place(Slot::ParameterList), BOOT_FILE_NAME)? => {
            Ok(Class::bootp(0))
        }
        None => Ok(Class::PLAIN),
    }
}

/// The user class is plain text, or a list of length-prefixed ones (RFC 3004).
#[inline(always)]
fn is_ipxe(options: &Options) -> bool {
    let at = options.place(Slot::UserClass);
    if at == 0 {
        return false;
    }
    match options.octet(at + 1) {
        4 => options.octets(at + 2) == *b"iPXE",
        5 => options.octet(at + 2) == 4 && options.octets(at + 3) == *b"iPXE",
        _ => false,
    }
}

#[inline(always)]
fn ipxe(options: &Options) -> Class {
    let place = options.place(Slot::Ipxe);
    if place == 0 {
        return Class::IPXE_TFTP;
    }
    let from = place + 2;
    match walk::run_loop::<IpxeOptions>(options.0, from, from + u64::from(options.octet(place + 1)))
    {
        Ok(()) => Class::IPXE_HTTP,
        Err(_) => Class::IPXE_TFTP,
    }
}

/// The options within iPXE's option.
struct IpxeOptions;

impl Walk for IpxeOptions {
    #[inline(always)]
    fn step(scratch: *mut Scratch, at: u64, end: u64) -> Step {
        let options = Options(scratch);
        if at + 2 > end {
            return Step::Failed(Outcome::UnendedOptions);
        }
        if options.octet(at) == IPXE_HTTP {
            return Step::Done;
        }
        Step::Next(at + 2 + u64::from(options.octet(at + 1)))
    }
}

/// Whether the value of the option at `place` contains `wanted`; an error if it is too long to
/// search.
#[inline(always)]
fn contains(options: &Options, place: u64, wanted: u8) -> Result<bool, Outcome> {
    if place == 0 {
        return Ok(false);
    }
    let length = u64::from(options.octet(place + 1));
    if length > words::SEARCHED {
        return Err(Outcome::UnusualClient);
    }
    // SAFETY: there is room to read on behind any option.
    Ok(unsafe { words::contain(options.value_at(place), length, wanted) })
}
