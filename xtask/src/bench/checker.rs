//! Checks every answer to a load.

use std::thread;
use std::time::Duration;

use super::generator::{Outcome, Running};
use crate::load::reply::{Reply, sums_are_right};
use crate::load::xsk::{Incoming, Nanos, now};

/// One in this many replies has its checksums checked.
const SAMPLE: u64 = 64;
/// About so many replies gather before they are looked at: far fewer than there is room for.
const GATHER: u32 = 256;
/// How long answers may take after the last request.
const DRAIN: Nanos = 1_000_000_000;

/// What is known of the answers to a load.
pub struct Checker<'a> {
    running: &'a Running<'a>,
    /// When the answer to the request of each number came; 0 before that.
    came: Vec<Nanos>,
    answered: u64,
    wrong: u64,
    /// What was wrong with the first of them.
    fault: Option<String>,
}

impl<'a> Checker<'a> {
    /// Knows of no answer yet.
    pub fn new(running: &'a Running<'a>) -> Checker<'a> {
        let came = vec![0; running.count() as usize];
        Checker { running, came, answered: 0, wrong: 0, fault: None }
    }

    /// Checks answers until there is one to each request, or none for a second after the last
    /// request.
    pub fn check_all(&mut self, incoming: &mut Incoming) {
        let pause = Duration::from_secs(1) * GATHER / self.running.rate().max(1);
        let pause = pause.clamp(Duration::from_micros(50), Duration::from_millis(5));
        let mut deadline = None;
        loop {
            let ended = self.running.ended();
            incoming.take_all(|frame, at| {
                if let Err(fault) = self.check(frame, at) {
                    self.wrong += 1;
                    self.fault.get_or_insert(fault);
                }
            });
            let late = ended && now() > *deadline.get_or_insert_with(|| now() + DRAIN);
            if late || ended && self.answered == self.running.count() {
                return;
            }
            thread::sleep(pause);
        }
    }

    /// Says what came of it, once all was sent.
    pub fn judge(self, outcome: &mut Outcome) {
        outcome.answered = self.answered;
        outcome.wrong = self.wrong;
        outcome.fault = self.fault;
        for (number, came) in (0..).zip(self.came) {
            let (due, sent) = (self.running.due(number), self.running.sent(number));
            outcome.late.saturating_record(sent.saturating_sub(due));
            if came > 0 {
                outcome.latency.saturating_record(came.saturating_sub(due));
                outcome.service.saturating_record(came.saturating_sub(sent));
            }
        }
    }

    fn check(&mut self, frame: &[u8], at: Nanos) -> Result<(), String> {
        let Some(reply) = Reply::parse(frame) else {
            return Err(format!("not a DHCP reply: {frame:02x?}"));
        };
        // Anything else is an answer to a load before this one.
        let Some(number) = self.running.number(reply.xid) else { return Ok(()) };
        let (Some(request), Some(came)) =
            (self.running.request(number), self.came.get_mut(number as usize))
        else {
            return Ok(());
        };
        let right = (request.expected(), request.machine.mac, request.machine.address);
        if (reply.kind, reply.mac, reply.address) != right {
            return Err(format!("{reply:?} instead of {right:?}"));
        }
        if std::mem::replace(came, at) != 0 {
            return Err(format!("a second answer: {reply:?}"));
        }
        self.answered += 1;
        if self.answered.is_multiple_of(SAMPLE) && !sums_are_right(frame) {
            return Err(format!("wrong checksum: {frame:02x?}"));
        }
        Ok(())
    }
}
