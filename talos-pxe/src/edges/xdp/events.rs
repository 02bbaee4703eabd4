//! What the XDP program tells the daemon: the answers that it sent;
//! [`Event`] says how it is told without a lock.

use std::net::Ipv4Addr;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use talos_pxe_ebpf::class::Class;
use talos_pxe_ebpf::maps::{Answer, EVENTS_PER_CPU, Event};

use crate::time::BootTime;
use crate::wire::MacAddr;

/// Words of a CPU's ring.
pub const RING: usize = EVENTS_PER_CPU as usize * Event::WORDS;

/// An answer that the program sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// When, to within a clock tick: rather too early than too late.
    pub time: BootTime,
    /// The client.
    pub mac: MacAddr,
    /// What it was answered.
    pub answer: Answer,
    /// What kind of client it is; see [`client`](crate::decisions::dhcp::templates::client).
    pub class: Class,
    /// The address that was offered or leased; none by the proxy and the boot server.
    pub address: Option<Ipv4Addr>,
}

/// The rings of all CPUs.
pub struct Events<W> {
    words: W,
    /// For each CPU the number of its next event.
    next: Vec<usize>,
}

impl<W: Deref<Target = [AtomicU64]>> Events<W> {
    /// Of rings that are all zero.
    pub fn new(words: W) -> Self {
        let next = vec![0; words.len() / RING];
        Self { words, next }
    }

    /// Takes up to `limit` events, those of each CPU in their order.
    pub fn take(&mut self, limit: usize) -> Vec<Sent> {
        let mut sent = Vec::new();
        let mut left = limit;
        for (ring, next) in self.words.chunks_exact(RING).zip(&mut self.next) {
            while left > 0
                && let Some(event) = take_event(ring, *next)
            {
                *next = (*next + 1) % EVENTS_PER_CPU as usize;
                left -= 1;
                sent.extend(Sent::of(event));
            }
        }
        sent
    }
}

/// Takes the event of this number, if it is there, and makes its place free.
fn take_event(ring: &[AtomicU64], number: usize) -> Option<Event> {
    let start = number * Event::WORDS;
    let words = ring.get(start..)?.first_chunk::<{ Event::WORDS }>()?;
    let event = words.each_ref().map(|word| word.load(Ordering::Relaxed));
    if event.contains(&0) {
        return None;
    }
    // The time, which is the first word, last.
    words.iter().rev().for_each(|word| word.store(0, Ordering::Release));
    Some(bytemuck::cast(event))
}

impl Sent {
    fn of(event: Event) -> Option<Self> {
        let address = Ipv4Addr::from(event.address);
        Some(Self {
            time: BootTime::BOOT + Duration::from_nanos(event.time),
            mac: MacAddr(event.mac),
            answer: *Answer::ALL.get(usize::from(event.answer.checked_sub(1)?))?,
            class: Class::from_index(event.class.into())?,
            address: (!address.is_unspecified()).then_some(address),
        })
    }
}
