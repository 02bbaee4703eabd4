//! Checks every answer to a load.

use std::thread;
use std::time::Duration;

use anyhow::Result;

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
    /// Whether the request of each number has its answer.
    answered: Vec<bool>,
    outcome: Outcome,
}

impl<'a> Checker<'a> {
    /// Knows of no answer yet.
    ///
    /// # Errors
    /// Never: see [`Outcome::none`].
    pub fn new(running: &'a Running<'a>) -> Result<Checker<'a>> {
        let answered = vec![false; running.count() as usize];
        Ok(Checker { running, answered, outcome: Outcome::none()? })
    }

    /// Checks answers until there is one to each request, or none for a second after the last
    /// request.
    ///
    /// # Errors
    /// Never.
    pub fn check_all(mut self, incoming: &mut Incoming) -> Result<Outcome> {
        let pause = Duration::from_secs(1) * GATHER / self.running.rate().max(1);
        let pause = pause.clamp(Duration::from_micros(50), Duration::from_millis(5));
        let mut deadline = None;
        while self.outcome.answered < self.running.count() {
            let ended = self.running.ended();
            incoming.take_all(|frame, at| {
                if let Err(fault) = self.check(frame, at) {
                    self.outcome.wrong += 1;
                    self.outcome.fault.get_or_insert(fault);
                }
            });
            if ended && now() > *deadline.get_or_insert_with(|| now() + DRAIN) {
                break;
            }
            thread::sleep(pause);
        }
        Ok(self.outcome)
    }

    fn check(&mut self, frame: &[u8], at: Nanos) -> Result<(), String> {
        let Some(reply) = Reply::parse(frame) else {
            return Err(format!("not a DHCP reply: {frame:02x?}"));
        };
        // Anything else is an answer to a load before this one.
        let Some(number) = self.running.number(reply.xid) else { return Ok(()) };
        let (Some(request), Some(answered)) =
            (self.running.request(number), self.answered.get_mut(number as usize))
        else {
            return Ok(());
        };
        let right = (request.expected(), request.machine.mac, request.machine.address);
        if (reply.kind, reply.mac, reply.address) != right {
            return Err(format!("{reply:?} instead of {right:?}"));
        }
        if std::mem::replace(answered, true) {
            return Err(format!("a second answer: {reply:?}"));
        }
        let outcome = &mut self.outcome;
        outcome.answered += 1;
        outcome.latency.saturating_record(at.saturating_sub(self.running.due(number)));
        outcome.service.saturating_record(at.saturating_sub(self.running.sent(number)));
        if outcome.answered % SAMPLE == 0 && !sums_are_right(frame) {
            return Err(format!("wrong checksum: {frame:02x?}"));
        }
        Ok(())
    }
}
