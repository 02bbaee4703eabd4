//! The maps, from the program's side, and the clock.

use aya_ebpf::helpers::generated::{bpf_ktime_get_boot_ns, bpf_ktime_get_coarse_ns};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, RingBuf};
use talos_pxe_ebpf::maps::{
    Answer, Config, DEFAULT_CAPACITY, EVENTS_SIZE, Machine, MachineKey, Template,
};
use talos_pxe_ebpf::outcome::{Counters, Outcome};

#[map]
static CONFIG: Array<Config> = Array::with_max_entries(1, 0);
#[map]
static MACHINES: HashMap<MachineKey, Machine> = HashMap::with_max_entries(DEFAULT_CAPACITY, 0);
#[map]
static TEMPLATES: Array<Template> = Array::with_max_entries(Answer::TEMPLATES, 0);
#[map]
static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_SIZE, 0);

/// What a run needs beyond the 512 octets of stack, for each CPU.
///
/// The program's loops keep their results here instead of in registers: the verifier follows the
/// possible values of every register through every step of a loop, but not those of map memory.
#[repr(C)]
pub struct Scratch {
    /// The coarse clock when `boot_time` was read.
    coarse_time: u64,
    boot_time: u64,
    /// See [`launder`].
    cursor: u64,
    /// Where the options end in `options`.
    pub end: u64,
    pub places: Places,
    /// The magic cookie and the options of the request, and room to read on behind any of them.
    pub options: [u8; Scratch::OPTIONS + 512],
    /// The options that are echoed, the end mark, and room to copy in larger pieces.
    pub tail: [u8; Scratch::TAIL + 512],
}

/// Where in `options` each option is that matters, by its slot; zero when it is not there.
#[repr(C, align(8))]
pub struct Places(pub [u16; Scratch::SLOTS]);

impl Places {
    pub const NONE: Self = Self([0; Scratch::SLOTS]);
}

impl Scratch {
    /// More than the slots that are used; a power of two, for masks.
    pub const SLOTS: usize = 32;
    /// A power of two, for masks.
    pub const OPTIONS: usize = 2048;
    /// The most that is copied to `options`, which is more than an Ethernet frame has: the end
    /// of an option that is longer than what is left stays below `OPTIONS`.
    pub const COPIED: usize = Self::OPTIONS - 2 - 255;
    /// The most that `bpf_csum_diff` sums up before Linux 6.3.
    pub const TAIL: usize = 512;
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
pub fn machine(mac: [u8; 6]) -> Option<Machine> {
    // SAFETY: the daemon replaces an entry as a whole, and the kernel keeps the old one for as
    // long as this run may look at it.
    unsafe { MACHINES.get(MachineKey::new(mac)) }.copied()
}

#[inline(always)]
pub fn template(number: u32) -> Option<&'static Template> {
    TEMPLATES.get(number)
}

#[inline(always)]
pub fn count(outcome: Outcome) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: the element is this CPU's own, and the program cannot be interrupted by itself.
        unsafe { (*counters).count(outcome) };
    }
}

/// The time on the boot-time clock, or a little less.
///
/// That clock takes longer to read than anything else the program does. So it is read once a
/// tick: as long as the coarse clock stands still, no more than a tick has passed. The coarse
/// clock leaves out the time asleep, but a machine's way into sleep moves it on, so that what
/// was read before is not used after.
#[inline(always)]
pub fn now(scratch: *mut Scratch) -> u64 {
    // SAFETY: the helpers have no requirements, and the scratch is this CPU's own.
    unsafe {
        let coarse = bpf_ktime_get_coarse_ns();
        if (*scratch).coarse_time != coarse {
            (*scratch).coarse_time = coarse;
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

/// Returns `place`, which is below [`Scratch::OPTIONS`], of which the verifier then knows no more
/// than that.
#[inline(always)]
pub fn forget(mut place: u64) -> u64 {
    // SAFETY: it changes nothing but its operand.
    unsafe { core::arch::asm!("{0} &= 2047", inout(reg) place, options(pure, nomem, nostack)) };
    place
}
