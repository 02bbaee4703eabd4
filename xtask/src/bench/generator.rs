//! An open-loop load of DHCP requests: each is sent when it is due, whatever became of those
//! before it, and its answer's time counts from when it was due. So a server that stalls is seen
//! to stall.
//!
//! One thread sends. Where an XDP program answers, it does so on this thread's CPU, since a cable
//! between namespaces has no hardware that would interrupt another. A second thread checks every
//! answer; the kernel has noted when each came, so it does not matter when it does.
//!
//! Most of the time that one frame takes on such a cable goes into making a packet buffer for it.
//! So where an XDP program answers, very high rates are sent without.

use std::io;
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;

use super::checker::Checker;
use crate::interrupt;
use crate::lab::Host;
use crate::lab::netns::Netns;
use crate::load::cpu;
use crate::load::fleet::Machine;
use crate::load::inject::{self, Injector};
use crate::load::reply::{ACK, OFFER};
use crate::load::xsk::{self, Incoming, Nanos, Outgoing, now};

/// The most frames that are sent at once. There are more machines, so none is among them twice.
const BATCH: usize = inject::MOST;
/// From this rate on, frames are sent without packet buffers where they can be.
const INJECT: u32 = 200_000;
/// With less time than this between frames, waiting means to look at the clock again and again.
const SPIN: Nanos = 20_000;
/// Longer times count as this one.
const LONGEST: Nanos = 60_000_000_000;

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

    /// Whether the generator kept up with the rate. The kernel takes the CPU away from threads as
    /// prompt as ours for a twentieth of each second; they may catch up after the end.
    pub fn in_time(&self, load: &Load) -> bool {
        self.seconds < load.time.as_secs_f64() * 1.02 + 0.05
    }
}

/// A load on its way, as both threads know it: what the request of each number is.
#[derive(Debug)]
pub struct Running<'a> {
    machines: &'a [Machine],
    load: Load,
    /// The transaction identifier of the first request.
    first: u32,
    start: Nanos,
    /// When each request was sent.
    sent: Vec<AtomicU64>,
    /// Whether no more will be sent.
    ended: AtomicBool,
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Who asks.
    pub machine: &'a Machine,
    /// What: DISCOVER, or else REQUEST.
    pub discover: bool,
}

impl Request<'_> {
    /// The type of the right answer.
    pub fn expected(self) -> u8 {
        if self.discover { OFFER } else { ACK }
    }
}

impl<'a> Running<'a> {
    fn new(machines: &'a [Machine], load: Load, first: u32) -> Running<'a> {
        let count = (f64::from(load.rate) * load.time.as_secs_f64()) as usize;
        let sent = (0..count).map(|_| AtomicU64::new(0)).collect();
        let ended = AtomicBool::new(false);
        Running { machines, load, first, start: now() + 1_000_000, sent, ended }
    }

    /// How many requests there are.
    pub fn count(&self) -> u64 {
        self.sent.len() as u64
    }

    /// How many requests there are in a second.
    pub fn rate(&self) -> u32 {
        self.load.rate
    }

    /// Whether no more will be sent.
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// The number of the request with this transaction identifier, if it is of this load.
    pub fn number(&self, xid: u32) -> Option<u64> {
        Some(u64::from(xid.wrapping_sub(self.first))).filter(|number| *number < self.count())
    }

    /// When a request is due.
    pub fn due(&self, number: u64) -> Nanos {
        self.start + (number as f64 * (1e9 / f64::from(self.load.rate.max(1)))) as u64
    }

    /// When a request was sent; 0 before that.
    pub fn sent(&self, number: u64) -> Nanos {
        self.sent.get(number as usize).map_or(0, |sent| sent.load(Ordering::Relaxed))
    }

    /// A request of this load.
    pub fn request(&self, number: u64) -> Option<Request<'a>> {
        let fleet = self.machines.len() as u64;
        let discover = match self.load.kind {
            Kind::Discover => true,
            Kind::Renew => false,
            Kind::Both => (number + number / fleet).is_multiple_of(2),
        };
        Some(Request { machine: self.machines.get((number % fleet) as usize)?, discover })
    }

    fn gap(&self) -> Nanos {
        1_000_000_000 / u64::from(self.load.rate.max(1))
    }

    /// Sends all requests, each when it is due.
    fn send_all(&self, sender: &mut Sender<'_>) -> Result<Outcome> {
        let mut outcome = Outcome::none()?;
        let (count, mut number, mut last_check) = (self.count(), 0, self.start);
        while number < count {
            let time = now();
            if time > last_check + 100_000_000 {
                interrupt::check()?;
                last_check = time;
            }
            let (first, end) = (number, count.min(number + BATCH as u64));
            while number < end && self.due(number) <= time {
                self.add(sender, number)?;
                number += 1;
            }
            if number > first {
                self.flush(sender, first..number).context("cannot send")?;
            }
            let wait = self.due(number).saturating_sub(now());
            if wait > SPIN {
                thread::sleep(Duration::from_nanos(wait));
            }
        }
        outcome.sent = count;
        outcome.seconds = now().saturating_sub(self.start) as f64 / 1e9;
        Ok(outcome)
    }

    fn add(&self, sender: &mut Sender<'_>, number: u64) -> Result<()> {
        let request = self.request(number).context("no machines")?;
        let Machine { discover, renew, .. } = request.machine;
        let frame = if request.discover { discover } else { renew };
        let xid = self.first.wrapping_add(number as u32);
        let write = |to: &mut [u8]| frame.write(xid, to);
        match sender {
            Sender::Socket(outgoing) => outgoing.add(write),
            Sender::Injector(injector) => injector.add(write),
        }
        .context("cannot send")
    }

    fn flush(&self, sender: &mut Sender<'_>, numbers: Range<u64>) -> io::Result<()> {
        let note = |number: u64, time| {
            if let Some(sent) = self.sent.get(number as usize) {
                sent.store(time, Ordering::Relaxed);
            }
        };
        match sender {
            Sender::Socket(outgoing) => {
                let time = now();
                numbers.for_each(|number| note(number, time));
                outgoing.flush()
            }
            Sender::Injector(injector) => {
                injector.flush(|number, time| note(numbers.start + number as u64, time))
            }
        }
    }
}

/// How requests are sent.
enum Sender<'a> {
    Socket(&'a mut Outgoing),
    Injector(&'a mut Injector),
}

/// What makes loads.
#[derive(Debug)]
pub struct Generator {
    netns: Netns,
    outgoing: Outgoing,
    incoming: Incoming,
    /// For the highest rates, where they arrive.
    injector: Option<Injector>,
    /// The transaction identifier of the next request.
    next: u32,
}

impl Generator {
    /// Takes the far end of a host's cable. From then on nobody else receives there what DHCP
    /// servers send. `native` says that an XDP program answers at the near end, in the driver.
    ///
    /// # Errors
    /// Without root.
    pub fn open(host: &Host, far: &Host, native: bool) -> Result<Generator> {
        let (outgoing, incoming) = xsk::open(host, far)?;
        let netns = far.netns().clone();
        let open = || Injector::open().context("cannot load the program that sends");
        let injector = if native { Some(netns.inside(open)?) } else { None };
        Ok(Generator { netns, outgoing, incoming, injector, next: 0 })
    }

    /// Runs a load.
    ///
    /// # Errors
    /// When the interface fails, or the user interrupts it.
    pub fn run(&mut self, machines: &[Machine], load: Load) -> Result<Outcome> {
        ensure!(machines.len() >= 2 * BATCH, "a load needs {} machines or more", 2 * BATCH);
        let Generator { netns, outgoing, incoming, injector, next } = self;
        incoming.take_all(|_, _| ());
        let lost = incoming.lost()?;
        let running = Running::new(machines, load, *next);
        *next = next.wrapping_add(running.count() as u32);
        let mut sender = match injector {
            Some(injector) if load.rate >= INJECT => Sender::Injector(injector),
            _ => Sender::Socket(outgoing),
        };
        let (sent, checker) = thread::scope(|scope| {
            let checking = scope.spawn(|| {
                be_as_prompt_as_hardware();
                if running.gap() < SPIN {
                    stay_on(cpu::count() as usize - 1);
                }
                let mut checker = Checker::new(&running);
                checker.check_all(incoming);
                checker
            });
            let sent = netns.inside(|| {
                be_as_prompt_as_hardware();
                if running.gap() < SPIN {
                    stay_on(0);
                }
                let sent = running.send_all(&mut sender);
                running.ended.store(true, Ordering::Release);
                sent
            });
            running.ended.store(true, Ordering::Release);
            (sent, checking.join().unwrap_or_else(|panic| resume_unwind(panic)))
        });
        let mut outcome = sent?;
        checker.judge(&mut outcome);
        let lost = incoming.lost()? - lost;
        ensure!(lost == 0, "the generator lost {lost} replies: it has no room for them");
        Ok(outcome)
    }
}

/// Keeps this thread on one CPU.
fn stay_on(cpu: usize) {
    // SAFETY: an empty set is all zeros; the set outlives the calls, which change this thread's
    // CPUs alone. Without the right to, it runs anywhere.
    #[allow(unsafe_code)]
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
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
