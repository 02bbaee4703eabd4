//! Addresses that the segment is asked about ahead of need, so that the machines of a rack that is
//! switched on need not wait for it one by one.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::probes::PATIENCE;
use crate::time::BootTime;

/// How many there are: twice as many as a thousand new machines a second need while an address is
/// checked.
const COUNT: usize = 512;
/// How long it counts that nobody answered. Who takes an address later speaks by ARP sooner or
/// later, which is heard here.
const GOOD_FOR: Duration = Duration::from_secs(600);
/// How long an address that was checked ahead is asked about once more before it is offered, for
/// hosts that took it and have said nothing. They answer within a millisecond.
const SECOND_LOOK: Duration = Duration::from_millis(3);

/// The checks.
#[derive(Debug, Default)]
pub struct Ahead {
    checks: HashMap<Ipv4Addr, Check>,
    /// With fewer it is time for more.
    enough: usize,
}

#[derive(Clone, Copy, Debug)]
struct Check {
    asked_at: BootTime,
    /// Nobody has used the address since.
    is_silent: bool,
}

impl Ahead {
    /// Whether some part has been taken since they were last filled up: there must be enough left
    /// while the new ones are checked.
    pub fn is_low(&self) -> bool {
        self.checks.len() < self.enough
    }

    /// Fills up with the first `unused` addresses; returned are those to ask about now.
    pub fn fill(&mut self, now: BootTime, unused: impl Iterator<Item = Ipv4Addr>) -> Vec<Ipv4Addr> {
        let old = std::mem::take(&mut self.checks);
        let mut to_ask = Vec::new();
        for address in unused.take(COUNT) {
            let good = old.get(&address).copied().filter(|check| check.is_good(now));
            let check = good.unwrap_or_else(|| {
                to_ask.push(address);
                Check { asked_at: now, is_silent: true }
            });
            self.checks.insert(address, check);
        }
        self.enough = self.checks.len() - self.checks.len() / 8;
        to_ask
    }

    /// Takes an address out that is to be offered, and is asked about once more: until when to wait
    /// for an answer.
    pub fn take(&mut self, now: BootTime, address: Ipv4Addr) -> BootTime {
        match self.checks.remove(&address) {
            Some(check) if check.is_silent && check.is_good(now) => {
                (check.asked_at + PATIENCE).max(now + SECOND_LOOK)
            }
            _ => now + PATIENCE,
        }
    }

    /// Notes that somebody uses an address.
    pub fn heard(&mut self, address: Ipv4Addr) {
        if let Some(check) = self.checks.get_mut(&address) {
            check.is_silent = false;
        }
    }
}

impl Check {
    fn is_good(&self, now: BootTime) -> bool {
        now < self.asked_at + GOOD_FOR
    }
}
