//! The maps, from the program's side, and the clock.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_boot_ns};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerCpuArray};
use talos_pxe_ebpf::maps::{Answer, Config, Template};
use talos_pxe_ebpf::outcome::Outcome;

use super::walk::State;
use super::words;

#[map]
static CONFIG: Array<Config> = Array::with_max_entries(1, 0);
#[map]
static TEMPLATES: Array<Template> = Array::with_max_entries(Answer::TEMPLATES, 0);
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Outcome::COUNT, 0);
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// The flag of a map whose memory the daemon reads and writes, too.
pub const MAPPED: u32 = BPF_F_MMAPABLE;

/// What a run needs beyond the 512 octets of stack, for each CPU.
///
/// The program's loops keep their results here instead of in registers: the verifier follows the
/// possible values of every register through every step of a loop, but not those of map memory.
#[repr(C)]
pub struct Scratch {
    /// The count of ticks when `boot_time` was read.
    ticks: u64,
    boot_time: u64,
    /// How many events this CPU has recorded.
    pub events: u32,
    padding: u32,
    /// See [`launder`].
    cursor: u64,
    /// What [`words::copy_options`] found.
    pub copied: u64,
    pub walk: State,
    /// The sum of the reply's options.
    pub sum: u64,
    pub places: Places,
    /// The magic cookie and the options of the request, and room to read on behind any of them.
    pub options: Buffer<{ Scratch::OPTIONS + 512 }>,
    /// The options of the reply, and room to copy in larger pieces.
    pub reply: Buffer<{ Scratch::REPLY + 512 }>,
}

/// Octets that begin where a word can.
#[repr(C, align(8))]
pub struct Buffer<const N: usize>([u8; N]);

/// Where in `options` each option is that matters, by its slot; zero when it is not there.
#[repr(C, align(8))]
pub struct Places(pub [u16; Scratch::SLOTS]);

impl Scratch {
    /// More than the slots that are used; a power of two, for masks.
    pub const SLOTS: usize = 32;
    /// A power of two, for masks.
    pub const OPTIONS: usize = 2048;
    /// The most that is copied to `options`, which is more than an Ethernet frame has: the end
    /// of an option that is longer than what is left stays below `OPTIONS`.
    pub const COPIED: usize = Self::OPTIONS - 2 - 255;
    /// The most options that a reply has, which is as many as are copied.
    pub const REPLY: usize = words::WRITTEN;
}

#[inline(always)]
pub fn config() -> Option<&'static Config> {
    CONFIG.get(0)
}

#[inline(always)]
pub fn scratch() -> Option<*mut Scratch> {
    SCRATCH.get_ptr_mut(0)
}

#[inline(always)]
pub fn template(number: u32) -> Option<&'static Template> {
    TEMPLATES.get(number)
}

#[inline(always)]
pub fn count(outcome: Outcome) {
    if let Some(counter) = COUNTERS.get_ptr_mut(outcome as u32) {
        // SAFETY: the element is this CPU's own, and the program cannot be interrupted by itself.
        unsafe { *counter += 1 };
    }
}

/// The time on the boot-time clock, or a tick less.
///
/// That clock takes longer to read than anything else that the program does, so it is read once
/// a tick. The count of ticks stands still while the machine sleeps, but what was read before is
/// not used after: on the way into sleep and out of it, between the last frame and the next, the
/// network card's driver alone takes more than a tick.
#[inline(always)]
pub fn now(scratch: *mut Scratch) -> u64 {
    // SAFETY: the helpers have no requirements, and the scratch is this CPU's own.
    unsafe {
        let ticks = bpf_jiffies64();
        if (*scratch).ticks != ticks {
            (*scratch).ticks = ticks;
            (*scratch).boot_time = bpf_ktime_get_boot_ns();
        }
        (*scratch).boot_time
    }
}

/// Returns `value`, of which the verifier then knows nothing, so that it need not look at what
/// follows once for each way that led here.
#[inline(always)]
pub fn launder(scratch: *mut Scratch, value: u64) -> u64 {
    // SAFETY: the scratch is this CPU's own.
    unsafe {
        (&raw mut (*scratch).cursor).write_volatile(value);
        (&raw const (*scratch).cursor).read_volatile()
    }
}

/// Returns `place`, which is below [`Scratch::OPTIONS`], of which the verifier then knows that and
/// no more. The compiler compares one copy of a value and uses another; before Linux 6.8 the
/// verifier has then forgotten what it had learnt.
#[inline(always)]
pub fn forget(mut place: u64) -> u64 {
    // SAFETY: it changes nothing but its operand.
    unsafe { core::arch::asm!("{0} &= 2047", inout(reg) place, options(pure, nomem, nostack)) };
    place
}
