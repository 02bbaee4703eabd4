//! The table of leases.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use redb::{ReadableTable, TableDefinition, WriteTransaction};

use crate::time::BootTime;
use crate::wire::MacAddr;

/// By machine: its address, until when it is held, and when that was stored (nanoseconds on the
/// boot-time clock).
const LEASES: TableDefinition<[u8; 6], (u32, u64, u64)> = TableDefinition::new("leases");

/// One change to store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The address is held for the machine.
    Hold(Held),
    /// The machine has no address any more.
    Forget(MacAddr),
}

/// An address that is held for a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The machine.
    pub mac: MacAddr,
    /// Its address.
    pub address: Ipv4Addr,
    /// Until when the address may be promised to the machine.
    pub until: BootTime,
}

/// Writes changes, in order.
pub(super) fn write(
    transaction: &WriteTransaction,
    now: BootTime,
    changes: impl IntoIterator<Item = Change>,
) -> Result<(), redb::Error> {
    let mut leases = transaction.open_table(LEASES)?;
    for change in changes {
        match change {
            Change::Hold(held) => leases.insert(held.mac.0, row(&held, now))?,
            Change::Forget(mac) => leases.remove(mac.0)?,
        };
    }
    Ok(())
}

/// Reads all leases. Those of another boot are moved to the clock of this one.
pub(super) fn read(
    transaction: &WriteTransaction,
    now: BootTime,
    same_boot: bool,
) -> Result<Vec<Held>, redb::Error> {
    let mut leases = transaction.open_table(LEASES)?;
    let mut all = Vec::new();
    for entry in leases.iter()? {
        let (mac, row) = entry?;
        let (address, until, stored) = row.value();
        let until = if same_boot {
            BootTime::BOOT + Duration::from_nanos(until)
        } else {
            now + Duration::from_nanos(until.saturating_sub(stored))
        };
        all.push(Held { mac: MacAddr(mac.value()), address: address.into(), until });
    }
    if !same_boot {
        for held in &all {
            leases.insert(held.mac.0, row(held, now))?;
        }
    }
    Ok(one_machine_an_address(all))
}

fn row(held: &Held, now: BootTime) -> (u32, u64, u64) {
    (held.address.into(), nanos(held.until), nanos(now))
}

/// Nanoseconds since boot: enough for 584 years.
fn nanos(time: BootTime) -> u64 {
    u64::try_from(time.since(BootTime::BOOT).as_nanos()).unwrap_or(u64::MAX)
}

/// Should two machines ever stand with one address, the later holder is right.
fn one_machine_an_address(all: Vec<Held>) -> Vec<Held> {
    let mut by_address: HashMap<Ipv4Addr, Held> = HashMap::new();
    for held in all {
        let kept = by_address.entry(held.address).or_insert(held);
        if kept.until < held.until {
            *kept = held;
        }
    }
    by_address.into_values().collect()
}
