//! What was promised to whom, and until when: what a server must never contradict.
//!
//! Times are on the boot-time clock. A promise counts from when its REQUEST was sent, and an
//! answer from when it was read: the server decided in between, so whatever is called a fault
//! here is one.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

/// The number of a machine.
pub type Machine = usize;

/// Time since the kernel started.
pub fn now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
}

/// An address promised to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// The machine.
    pub machine: Machine,
    /// Its address.
    pub address: Ipv4Addr,
    /// When the promise ends.
    pub until: Duration,
}

/// A server that broke a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Someone else was given the address.
    #[error(
        "{address} was promised to machine {0} for {1:?} more, and is given to machine {by}",
        held.machine, held.until.saturating_sub(*at), address = held.address
    )]
    TwoMachines {
        /// The promise.
        held: Promise,
        /// The other machine.
        by: Machine,
        /// When.
        at: Duration,
    },
    /// The machine was given another address.
    #[error(
        "machine {0} was promised {1} for {2:?} more, and is given {address}",
        held.machine, held.address, held.until.saturating_sub(*at)
    )]
    OtherAddress {
        /// The promise.
        held: Promise,
        /// The other address.
        address: Ipv4Addr,
        /// When.
        at: Duration,
    },
    /// The machine was refused its address.
    #[error(
        "machine {0} was promised {1} for {2:?} more, and is refused it",
        held.machine, held.address, held.until.saturating_sub(*at)
    )]
    Refused {
        /// The promise.
        held: Promise,
        /// When.
        at: Duration,
    },
    /// The machine got no answer.
    #[error("machine {0} was promised {1}, and gets no answer about it", held.machine, held.address)]
    Silence {
        /// The promise.
        held: Promise,
    },
}

/// All promises.
#[derive(Debug, Default)]
pub struct Ledger {
    by_machine: HashMap<Machine, Promise>,
    by_address: HashMap<Ipv4Addr, Promise>,
    /// How many addresses went from one machine to another.
    pub handed_on: u64,
}

impl Ledger {
    /// What is promised to a machine.
    pub fn of(&self, machine: Machine, now: Duration) -> Option<Promise> {
        self.by_machine.get(&machine).copied().filter(|promise| promise.until > now)
    }

    /// Checks an address that a machine is offered, read at `now`.
    ///
    /// # Errors
    /// When it contradicts a promise.
    pub fn offer(&self, machine: Machine, address: Ipv4Addr, now: Duration) -> Result<(), Fault> {
        let holds = |promise: &&Promise| promise.until > now;
        if let Some(held) = self.by_address.get(&address).filter(holds)
            && held.machine != machine
        {
            return Err(Fault::TwoMachines { held: *held, by: machine, at: now });
        }
        if let Some(held) = self.by_machine.get(&machine).filter(holds)
            && held.address != address
        {
            return Err(Fault::OtherAddress { held: *held, address, at: now });
        }
        Ok(())
    }

    /// Notes a promise, read at `now`.
    ///
    /// # Errors
    /// When it contradicts an earlier one.
    pub fn promise(&mut self, promise: Promise, now: Duration) -> Result<(), Fault> {
        let Promise { machine, address, .. } = promise;
        self.offer(machine, address, now)?;
        let before = self.by_address.insert(address, promise);
        self.handed_on += u64::from(before.is_some_and(|before| before.machine != machine));
        self.by_machine.insert(machine, promise);
        Ok(())
    }

    /// Checks a refusal, read at `now`.
    ///
    /// # Errors
    /// When what is refused was promised.
    pub fn refusal(&self, machine: Machine, now: Duration) -> Result<(), Fault> {
        self.of(machine, now).map_or(Ok(()), |held| Err(Fault::Refused { held, at: now }))
    }

    /// Ends what was promised to a machine: it gives it back.
    pub fn release(&mut self, machine: Machine, now: Duration) {
        if let Some(promise) = self.by_machine.remove(&machine)
            && let Some(held) = self.by_address.get_mut(&promise.address)
            && held.machine == machine
        {
            held.until = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn promise(machine: Machine, address: Ipv4Addr, until: u64) -> Promise {
        Promise { machine, address, until: at(until) }
    }

    #[test]
    fn a_promise_binds_until_it_ends() {
        let mut ledger = Ledger::default();
        let held = promise(1, A, 30);
        assert_eq!(ledger.promise(held, at(0)), Ok(()));
        assert_eq!(
            ledger.promise(promise(2, A, 40), at(29)),
            Err(Fault::TwoMachines { held, by: 2, at: at(29) })
        );
        assert_eq!(
            ledger.offer(1, B, at(29)),
            Err(Fault::OtherAddress { held, address: B, at: at(29) })
        );
        assert_eq!(ledger.refusal(1, at(29)), Err(Fault::Refused { held, at: at(29) }));
        assert_eq!(ledger.refusal(1, at(30)), Ok(()));
        assert_eq!(ledger.promise(promise(2, A, 60), at(30)), Ok(()));
        assert_eq!(ledger.handed_on, 1);
    }

    #[test]
    fn what_is_given_back_binds_nobody() {
        let mut ledger = Ledger::default();
        ledger.promise(promise(1, A, 30), at(0)).unwrap();
        ledger.release(1, at(5));
        assert_eq!(ledger.offer(2, A, at(5)), Ok(()));
        assert_eq!(ledger.refusal(1, at(5)), Ok(()));
        // What it gave back long ago is not its own any more.
        ledger.promise(promise(2, A, 40), at(6)).unwrap();
        ledger.release(1, at(7));
        assert!(ledger.offer(1, A, at(7)).is_err());
    }
}
