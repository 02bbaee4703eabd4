//! What of a reply depends on the request's options: its template, and its own options.

use talos_pxe_ebpf::frame::FIRST_OPTION;
use talos_pxe_ebpf::maps::{Answer, Template};
use talos_pxe_ebpf::outcome::Outcome;

use super::client;
use super::maps::{self, Scratch, launder};
use super::options::{Options, Slot};
use super::words;

/// What of a reply depends on the request's options.
pub struct Composed {
    /// The class of the client.
    pub class: u8,
    /// Octets of the reply's options, which have been written to the scratch.
    pub length: u64,
}

/// Finds the template for this answer to the options in the scratch, and writes the reply's.
#[inline(always)]
pub fn compose(answer: Answer, names_file: bool) -> Result<Composed, Outcome> {
    let composed = compose_packed(answer as u32, names_file.into());
    let (length, class) = (composed & 0xffff, (composed >> 16) as u8);
    // The verifier knows nothing of what a function returns.
    if length == 0 || length > Scratch::REPLY as u64 {
        return Err(match class {
            class if class == Outcome::UnusualClient as u8 => Outcome::UnusualClient,
            class if class == Outcome::NoTemplate as u8 => Outcome::NoTemplate,
            _ => Outcome::TooLong,
        });
    }
    Ok(Composed { class, length })
}

/// The options' length and, above its sixteen bits, the class; without a length the reason is in
/// place of the class.
///
/// A function by itself, which the verifier looks at once, whatever its caller has been through.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn compose_packed(answer: u32, names_file: u32) -> u64 {
    match try_compose(answer, names_file != 0) {
        Ok(Composed { class, length }) => length | u64::from(class) << 16,
        Err(outcome) => (outcome as u64) << 16,
    }
}

#[inline(always)]
fn try_compose(answer: u32, names_file: bool) -> Result<Composed, Outcome> {
    let scratch = maps::scratch().ok_or(Outcome::NoTemplate)?;
    let class = client::class(&Options(scratch), names_file)?;
    let template = maps::template(Answer::template_of(answer, class)).ok_or(Outcome::NoTemplate)?;
    let fixed = u64::from(template.length);
    if fixed == 0 || fixed > Template::LONGEST as u64 {
        return Err(Outcome::NoTemplate);
    }
    let length = write(scratch, template, fixed).ok_or(Outcome::TooLong)?;
    Ok(Composed { class: class.index() as u8, length })
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
