//! What the program tells the daemon: the answers that it sent.

use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use talos_pxe_ebpf::maps::{EVENTS_PER_CPU, Event};

use super::maps::{MAPPED, Scratch};

/// The daemon makes it larger, for as many CPUs as there are.
#[map]
static EVENTS: Array<Event> = Array::with_max_entries(EVENTS_PER_CPU, MAPPED);

/// A free place for an event.
pub struct Place(*mut Event);

/// The place of this CPU's next event; none while the daemon has yet to take the one there.
#[inline(always)]
pub fn next(scratch: *mut Scratch) -> Option<Place> {
    // SAFETY: the scratch is this CPU's own, and so is the event while its time is zero.
    unsafe {
        let cpu = bpf_get_smp_processor_id();
        let number = cpu * EVENTS_PER_CPU + (*scratch).events % EVENTS_PER_CPU;
        let event = EVENTS.get_ptr_mut(number)?;
        if (&raw const (*event).time).read_volatile() == 0 { Some(Place(event)) } else { None }
    }
}

impl Place {
    /// Records the event.
    #[inline(always)]
    pub fn record(self, scratch: *mut Scratch, event: Event) {
        let words: [u64; Event::WORDS] = bytemuck::cast(event);
        let to = self.0.cast::<u64>();
        // SAFETY: as above.
        unsafe {
            to.add(2).write_volatile(words[2]);
            to.add(1).write_volatile(words[1]);
            to.write_volatile(words[0]);
            (*scratch).events = (*scratch).events.wrapping_add(1);
        }
    }
}
