//! Walks of the options, which are as long as the client likes.
//!
//! The steps are those of a `bpf_loop`, twelve to each call of its callback: the verifier looks at
//! a callback once, and the calls cost little. A plain loop it would follow step by step, and
//! without `CAP_PERFMON` also where a processor may wrongly predict that it goes on for ever.

use core::ffi::c_void;
use core::ptr::null_mut;

use aya_ebpf::helpers::generated::bpf_loop;
use talos_pxe_ebpf::outcome::Outcome;

use super::maps::{self, Scratch, forget, launder};

/// How often twelve steps are taken: enough for as many as there are octets.
const ROUNDS: u32 = Scratch::OPTIONS.div_ceil(12) as u32;
/// The end of a walk that has not failed.
const DONE: u32 = u32::MAX;

/// What is walked.
pub trait Walk {
    /// Looks at what is at `at`; the walk ends at `end`.
    fn step(scratch: *mut Scratch, at: u64, end: u64) -> Step;
}

/// What a step came to.
pub enum Step {
    /// The next one is here, behind the last.
    Next(u64),
    /// The walk is done.
    Done,
    /// The walk has failed.
    Failed(Outcome),
}

/// Takes twelve steps with what is in the place of `step`: more would be too far to jump.
macro_rules! twelve {
    ($step:ident) => {
        $step!();
        $step!();
        $step!();
        $step!();
        $step!();
        $step!();
        $step!();
        $step!();
        $step!();
        $step!();
        $step!();
        $step!();
    };
}

/// Walks from `from` to `end`: twelve steps here, the others in a loop.
#[inline(always)]
pub fn run<W: Walk>(scratch: *mut Scratch, from: u64, end: u64) -> Result<(), Outcome> {
    // Or the verifier would follow where a step can be, from the first on.
    let mut at = forget(launder(scratch, from));
    macro_rules! step {
        () => {
            match W::step(scratch, at, end) {
                Step::Next(next) => at = forget(next),
                Step::Done => return Ok(()),
                Step::Failed(outcome) => return Err(outcome),
            }
        };
    }
    twelve!(step);
    run_loop::<W>(scratch, at, end)
}

/// Walks from `from` to `end`.
#[inline(always)]
pub fn run_loop<W: Walk>(scratch: *mut Scratch, from: u64, end: u64) -> Result<(), Outcome> {
    // SAFETY: the scratch is this CPU's own.
    let result = unsafe {
        (*scratch).walk.at = from;
        (*scratch).walk.end = end;
        bpf_loop(ROUNDS, twelve_steps::<W> as *mut c_void, null_mut(), 0);
        (&raw const (*scratch).walk.result).read_volatile()
    };
    match result {
        DONE => Ok(()),
        result if result == Outcome::UnendedOptions as u32 => Err(Outcome::UnendedOptions),
        result if result == Outcome::DuplicateOption as u32 => Err(Outcome::DuplicateOption),
        _ => Err(Outcome::OptionLength),
    }
}

/// Where a walk is. It is kept in the scratch: see there.
#[repr(C)]
pub struct State {
    at: u64,
    end: u64,
    result: u32,
    padding: u32,
}

/// The callback; it returns whether the walk is over.
extern "C" fn twelve_steps<W: Walk>(_round: u64, _argument: *mut c_void) -> u64 {
    // Passed in the argument it would be a pointer on the stack, whose place the compiler uses
    // for something else afterwards: without `CAP_PERFMON` the verifier forbids that.
    let Some(scratch) = maps::scratch() else { return 1 };
    // SAFETY: the scratch is this CPU's own.
    unsafe {
        let end = (*scratch).walk.end;
        let mut at = forget((*scratch).walk.at);
        macro_rules! step {
            () => {
                match W::step(scratch, at, end) {
                    Step::Next(next) => at = forget(next),
                    Step::Done => {
                        (*scratch).walk.result = DONE;
                        return 1;
                    }
                    Step::Failed(outcome) => {
                        (*scratch).walk.result = outcome as u32;
                        return 1;
                    }
                }
            };
        }
        twelve!(step);
        (*scratch).walk.at = at;
    }
    0
}
