//! What of a reply depends on the request's options: its template, and its own options.

use talos_pxe_ebpf::frame::FIRST_OPTION;
use talos_pxe_ebpf::maps::{Answer, Template};
use talos_pxe_ebpf::outcome::Outcome;

use super::client;
use super::maps::{self, Scratch, launder};
use super::options::{Options, Slot};
use super::request::{Request, Service};
use super::words;

/// What of a reply depends on the request's options.
pub struct Composed {
    /// What kind of answer it is.
    pub answer: Answer,
    /// The class of the client.
    pub class: u8,
    /// Octets of the reply's options, which have been written to the scratch.
    pub length: u64,
}

/// Walks the options in the scratch, finds the template for the answer to them, and writes the
/// reply's options.
#[inline(always)]
pub fn compose(request: &Request) -> Result<Composed, Outcome> {
    let facts =
        u32::from(request.names_file) << 1 | u32::from(request.service == Service::BootServer);
    let composed = compose_packed(request.options_length, facts);
    let (length, class, answer) = (composed & 0xffff, (composed >> 16) as u8, composed >> 24);
    // The verifier knows nothing of what a function returns.
    if length == 0 || length > Scratch::REPLY as u64 {
        return Err(reason(class));
    }
    let answer = match answer {
        0 => Answer::Offer,
        1 => Answer::Ack,
        _ => Answer::BootServer,
    };
    Ok(Composed { answer, class, length })
}

/// The reason of this number.
#[inline(always)]
fn reason(number: u8) -> Outcome {
    macro_rules! among {
        ($($outcome:ident)*) => {
            match number {
                $(number if number == Outcome::$outcome as u8 => Outcome::$outcome,)*
                _ => Outcome::TooLong,
            }
        };
    }
    among!(Overload DuplicateOption OptionLength UnendedOptions OtherKind UnusualClient NoTemplate)
}

/// From the lowest bit: the options' length (16 bits), the class (8 bits) and the answer; without
/// a length the reason is in place of the class.
///
/// A function by itself, which the verifier looks at once, whatever its caller has been through.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn compose_packed(options_length: u64, facts: u32) -> u64 {
    match try_compose(options_length, facts & 2 != 0, facts & 1 != 0) {
        Ok(packed) => packed,
        Err(outcome) => (outcome as u64) << 16,
    }
}

#[inline(always)]
fn try_compose(
    options_length: u64,
    names_file: bool,
    to_boot_server: bool,
) -> Result<u64, Outcome> {
    let scratch = maps::scratch().ok_or(Outcome::NoTemplate)?;
    let options = Options::walk(scratch, options_length)?;
    let answer = answer(options.kind(), to_boot_server)?;
    let class = client::class(&options, names_file)?;
    let template = maps::template(answer.template(class)).ok_or(Outcome::NoTemplate)?;
    let fixed = u64::from(template.length);
    if fixed == 0 || fixed > Template::LONGEST as u64 {
        return Err(Outcome::NoTemplate);
    }
    let length = write(scratch, template, fixed).ok_or(Outcome::TooLong)?;
    Ok(length | u64::from(class.index()) << 16 | u64::from(answer as u32) << 24)
}

const DISCOVER: u8 = 1;
const REQUEST: u8 = 3;
const INFORM: u8 = 8;

/// The answer to a message of this type, if it is one that the program gives.
#[inline(always)]
fn answer(kind: u8, to_boot_server: bool) -> Result<Answer, Outcome> {
    match (kind, to_boot_server) {
        (DISCOVER | REQUEST | INFORM, true) => Ok(Answer::BootServer),
        (DISCOVER, false) => Ok(Answer::Offer),
        (REQUEST, false) => Ok(Answer::Ack),
        _ => Err(Outcome::OtherKind),
    }
}

/// Writes what of the template are options, those that are echoed, the end mark, and zeros.
#[inline(always)]
fn write(scratch: *mut Scratch, template: &Template, fixed: u64) -> Option<u64> {
    let own = fixed.checked_sub(FIRST_OPTION as u64)?;
    // SAFETY: the template has room for the pieces, and so have the options.
    unsafe {
        let from = template.frame.as_ptr().add(FIRST_OPTION);
        words::copy_option(from, (&raw mut (*scratch).reply).cast(), own);
    }
    let options = Options(scratch);
    let length = checked(scratch, own)?;
    let length = echo(scratch, options, Slot::MachineIdentifier, length)?;
    let length = echo(scratch, options, Slot::ClientIdentifier, length)?;
    let length = echo(scratch, options, Slot::RelayInformation, length)?;
    // SAFETY: the length has been checked.
    unsafe {
        let to = (&raw mut (*scratch).reply).cast::<u8>().add(length as usize);
        words::end_options(to);
    }
    Some(length + 1)
}

/// Appends an option, if it is there, to options of this length, and returns the new length.
#[inline(always)]
fn echo(scratch: *mut Scratch, options: Options, slot: Slot, length: u64) -> Option<u64> {
    let at = options.place(slot);
    if at == 0 {
        return Some(length);
    }
    let whole = 2 + u64::from(options.octet(at + 1));
    // SAFETY: there is room for the longest option in whole pieces behind the longest options.
    unsafe {
        let from = (&raw const (*scratch).options).cast::<u8>().add(at as usize);
        let to = (&raw mut (*scratch).reply).cast::<u8>().add(length as usize);
        words::copy_option(from, to, whole);
    }
    checked(scratch, length + whole)
}

/// Checks the options' length, of which the verifier then knows no more than that it is checked.
#[inline(always)]
fn checked(scratch: *mut Scratch, length: u64) -> Option<u64> {
    let length = launder(scratch, length);
    if length > (Scratch::REPLY - 8) as u64 { None } else { Some(length) }
}
