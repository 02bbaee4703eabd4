//! An open-loop load of DHCP requests: each is sent when it is due, whatever became of those
//! before it, and its answer's time counts from when it was due. So a server that stalls is seen
//! to stall.

use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;

use crate::interrupt;
use crate::lab::Host;
use crate::load::fleet::Machine;
use crate::load::packets::{Nanos, Packets, Share, now};
use crate::load::reply::{ACK, OFFER, Reply, sums_are_right};

/// How many threads there can be.
const THREADS: u32 = 2;
/// The rate that one thread manages, in requests a second.
const ONE_CAN: u32 = 150_000;
/// The most frames that are sent at once. There are more machines, so none is among them twice.
const BATCH: usize = 32;
/// With less time than this between frames, waiting means to look at the clock again and again.
const SPIN: Nanos = 20_000;
/// One in this many replies has its checksums checked.
const SAMPLE: u64 = 64;
/// Longer times count as this one.
const LONGEST: Nanos = 60_000_000_000;
/// How long answers may take after the last request.
const DRAIN: Nanos = 1_000_000_000;

/// What machines ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// DISCOVER.
    Discover,
    /// REQUEST for more time.
    Renew,
    /// Both in turn.
    Both,
}

/// A load.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// What is asked.
    pub kind: Kind,
    /// Requests a second.
    pub rate: u32,
    /// For how long.
    pub time: Duration,
}

/// What came of a load. Times are in nanoseconds.
#[derive(Debug)]
pub struct Outcome {
    /// Requests sent.
    pub sent: u64,
    /// Requests that got the right answer, once.
    pub answered: u64,
    /// Answers that were not right.
    pub wrong: u64,
    /// What was wrong with the first of them.
    pub fault: Option<String>,
    /// How long it took to send all.
    pub seconds: f64,
    /// From when a request was due until its answer came.
    pub latency: Histogram<u64>,
    /// From when it was sent until its answer came.
    pub service: Histogram<u64>,
    /// From when it was due until it was sent: the generator's own fault.
    pub late: Histogram<u64>,
}

impl Outcome {
    /// That of no load.
    ///
    /// # Errors
    /// Never: the bounds of the histograms are right.
    pub fn none() -> Result<Outcome> {
        let histogram = || Histogram::new_with_bounds(1, LONGEST, 3).context("no histogram");
        Ok(Outcome {
            sent: 0,
            answered: 0,
            wrong: 0,
            fault: None,
            seconds: 0.0,
            latency: histogram()?,
            service: histogram()?,
            late: histogram()?,
        })
    }

    /// Whether every request was sent in time and got its right answer.
    pub fn is_clean(&self, load: &Load) -> bool {
        self.is_lossless() && self.in_time(load)
    }

    /// Whether every request got its right answer.
    pub fn is_lossless(&self) -> bool {
        self.answered == self.sent && self.wrong == 0
    }

    /// Adds what another thread did at the same time.
    fn add(&mut self, other: Outcome) -> Result<()> {
        self.sent += other.sent;
        self.answered += other.answered;
        self.wrong += other.wrong;
        self.fault = self.fault.take().or(other.fault);
        self.seconds = self.seconds.max(other.seconds);
        self.latency.add(other.latency)?;
        self.service.add(other.service)?;
        self.late.add(other.late)?;
        Ok(())
    }

    /// Whether the generator kept up with the rate.
    pub fn in_time(&self, load: &Load) -> bool {
        self.seconds < load.time.as_secs_f64() * 1.02
    }
}

/// The slot of a request among this many.
fn slot_of(xid: u32, slots: usize) -> usize {
    (xid / THREADS) as usize % slots
}

/// A request whose answer is awaited.
#[derive(Clone, Copy, Default)]
struct Slot {
    xid: u32,
    machine: u32,
    due: Nanos,
    sent: Nanos,
    /// The type of the right answer; 0 once it came.
    expected: u8,
}

/// What makes loads: as many threads as it takes, each with its own socket and its own machines.
#[derive(Debug)]
pub struct Generator {
    packets: [Packets; THREADS as usize],
    /// The number of the next request.
    next: u32,
}

impl Generator {
    /// Opens the sockets on `eth0` of a host.
    ///
    /// # Errors
    /// Without root.
    pub fn open(host: &Host) -> Result<Generator> {
        let open = |remainder| Packets::open(host, Share { remainder, divisor: THREADS });
        Ok(Generator { packets: [open(0)?, open(1)?], next: 0 })
    }

    /// The socket that receives the answers to even transaction identifiers.
    pub fn one(&mut self) -> &mut Packets {
        let [one, _] = &mut self.packets;
        one
    }

    /// Runs a load.
    ///
    /// # Errors
    /// When the interface fails, or the user interrupts it.
    pub fn run(&mut self, machines: &mut [Machine], load: Load) -> Result<Outcome> {
        ensure!(machines.len() >= 2 * BATCH, "a load needs {} machines or more", 2 * BATCH);
        let threads = if load.rate < ONE_CAN { 1 } else { THREADS };
        let share = Load { rate: load.rate / threads, ..load };
        let first = self.next;
        self.next = first.wrapping_add((f64::from(load.rate) * load.time.as_secs_f64()) as u32 + 1);
        let fleets = machines.chunks_mut(machines.len().div_ceil(threads as usize));
        let start = now() + 1_000_000;
        let outcomes: Vec<Result<Outcome>> = thread::scope(|scope| {
            let sending: Vec<_> = fleets
                .zip(&mut self.packets)
                .zip(0..)
                .map(|((machines, packets), cpu)| {
                    scope.spawn(move || {
                        if threads > 1 {
                            stay_on(cpu);
                        } else if 1_000_000_000 / u64::from(load.rate.max(1)) >= SPIN {
                            be_as_prompt_as_hardware();
                        }
                        let xids = Xids { first, parity: cpu };
                        Running::new(packets, machines, share, xids)?.run(share, start)
                    })
                })
                .collect();
            sending
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
                .collect()
        });
        let mut outcomes = outcomes.into_iter();
        let mut all = outcomes.next().context("no machines")??;
        for outcome in outcomes {
            all.add(outcome?)?;
        }
        Ok(all)
    }
}

/// The transaction identifiers of a thread's requests: even ones or odd ones.
#[derive(Clone, Copy)]
struct Xids {
    first: u32,
    parity: u32,
}

impl Xids {
    /// That of the request with this number.
    fn of(self, number: u64) -> u32 {
        self.first.wrapping_add(number as u32).wrapping_mul(THREADS) | self.parity
    }
}

/// A load that runs on one thread.
struct Running<'a> {
    packets: &'a mut Packets,
    machines: &'a mut [Machine],
    xids: Xids,
    /// By transaction identifier, modulo their number.
    slots: Vec<Slot>,
    outcome: Outcome,
}

/// Keeps this thread on one CPU: what it sends is then also received there.
fn stay_on(cpu: u32) {
    // SAFETY: an empty set is all zeros; the set outlives the calls, which change this thread's
    // CPUs alone. Without the right to, it runs anywhere.
    #[allow(unsafe_code)]
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu as usize, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set);
    }
}

/// The machines that send are not the server's: its load must not keep them from sending. Refused
/// without the right to, which then shows in how late requests are.
fn be_as_prompt_as_hardware() {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameters outlive the call, which changes this thread's priority alone.
    #[allow(unsafe_code)]
    unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters)
    };
}

impl<'a> Running<'a> {
    fn new(
        packets: &'a mut Packets,
        machines: &'a mut [Machine],
        load: Load,
        xids: Xids,
    ) -> Result<Running<'a>> {
        // Room for the answers of two seconds.
        let slots = (load.rate as usize).saturating_mul(2).next_power_of_two();
        Ok(Running {
            packets,
            machines,
            xids,
            slots: vec![Slot::default(); slots],
            outcome: Outcome::none()?,
        })
    }

    fn run(mut self, load: Load, start: Nanos) -> Result<Outcome> {
        while self.packets.receive(|_| ()).is_some() {}
        let count = (f64::from(load.rate) * load.time.as_secs_f64()) as u64;
        let gap = 1e9 / f64::from(load.rate.max(1));
        let due = |number: u64| start + (number as f64 * gap) as u64;
        let mut number = 0;
        let mut last_check = start;
        while number < count {
            let time = now();
            if time - last_check.min(time) > 100_000_000 {
                interrupt::check()?;
                last_check = time;
            }
            let mut end = number;
            while end < count && end - number < BATCH as u64 && due(end) <= time {
                end += 1;
            }
            if end > number {
                self.send(number..end, load.kind, due)?;
                number = end;
            }
            while self.receive() {}
            let wait = due(number).saturating_sub(now());
            if wait > SPIN {
                thread::sleep(Duration::from_nanos(wait));
            }
        }
        let end = now();
        self.outcome.seconds = (end.saturating_sub(start)) as f64 / 1e9;
        while self.outcome.answered < self.outcome.sent && now() < end + DRAIN {
            if !self.receive() {
                self.packets.wait(1);
            }
        }
        let lost = self.packets.lost()?;
        ensure!(lost == 0, "the generator lost {lost} replies: it has no room for them");
        Ok(self.outcome)
    }

    fn send(
        &mut self,
        numbers: std::ops::Range<u64>,
        kind: Kind,
        due: impl Fn(u64) -> Nanos,
    ) -> Result<()> {
        let (time, fleet, slots) = (now(), self.machines.len() as u64, self.slots.len());
        for number in numbers.clone() {
            let xid = self.xids.of(number);
            let discover = match kind {
                Kind::Discover => true,
                Kind::Renew => false,
                Kind::Both => (number + number / fleet) % 2 == 0,
            };
            let expected = if discover { OFFER } else { ACK };
            let due = due(number);
            let machine = number % fleet;
            if let Some(slot) = self.slots.get_mut(slot_of(xid, slots)) {
                *slot = Slot { xid, machine: machine as u32, due, sent: time, expected };
            }
            self.outcome.late.saturating_record(time.saturating_sub(due));
        }
        let mut frames = Vec::with_capacity(BATCH);
        let start = (numbers.start % fleet) as usize;
        let (before, after) = self.machines.split_at_mut(start);
        for (number, machine) in numbers.clone().zip(after.iter_mut().chain(before)) {
            let xid = self.xids.of(number);
            let slot = self.slots.get(slot_of(xid, slots)).copied().unwrap_or_default();
            let frame =
                if slot.expected == OFFER { &mut machine.discover } else { &mut machine.renew };
            frames.push(frame.with_xid(xid));
        }
        self.packets.send(&frames).context("cannot send")?;
        self.outcome.sent += frames.len() as u64;
        Ok(())
    }

    /// Takes an answer; false when there is none.
    fn receive(&mut self) -> bool {
        let Running { packets, machines, slots, outcome, .. } = self;
        let taken = packets.receive(|arrival| {
            let Some(reply) = Reply::parse(arrival.frame) else {
                return Err(format!("not a DHCP reply: {:02x?}", arrival.frame));
            };
            let index = slot_of(reply.xid, slots.len());
            let slot = slots.get_mut(index).filter(|slot| slot.xid == reply.xid);
            // An answer to a load before this one.
            let Some(slot) = slot else { return Ok(()) };
            let Some(machine) = machines.get(slot.machine as usize) else { return Ok(()) };
            let right = (slot.expected, machine.mac, machine.address);
            if (reply.kind, reply.mac, reply.address) != right {
                return Err(format!("{reply:?} instead of {right:?}"));
            }
            slot.expected = 0;
            outcome.answered += 1;
            outcome.latency.saturating_record(arrival.at.saturating_sub(slot.due));
            outcome.service.saturating_record(arrival.at.saturating_sub(slot.sent));
            if outcome.answered % SAMPLE == 0 && arrival.summed && !sums_are_right(arrival.frame) {
                return Err(format!("wrong checksum: {:02x?}", arrival.frame));
            }
            Ok(())
        });
        match taken {
            None => false,
            Some(Ok(())) => true,
            Some(Err(fault)) => {
                outcome.wrong += 1;
                outcome.fault.get_or_insert(fault);
                true
            }
        }
    }
}
