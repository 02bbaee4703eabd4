//! The bootstrap mark: what is remembered of bootstrapping the cluster, which must happen once.

use std::net::Ipv4Addr;

use redb::{ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use super::store::{Store, StoreError};
use crate::wire::MacAddr;

/// One row at most, for the one cluster: whether it is done; the machine's MAC and address; the
/// wall-clock time in seconds since 1970.
const BOOTSTRAP: TableDefinition<(), (bool, [u8; 6], u32, u64)> = TableDefinition::new("bootstrap");

/// What is known of the one order that bootstraps the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Whether the cluster is bootstrapped. If not, the machine is about to be told, or was, and
    /// may have begun.
    pub done: bool,
    /// The machine.
    pub mac: MacAddr,
    /// The address that it had.
    pub address: Ipv4Addr,
    /// When that was stored, in seconds since 1970: for people, not for decisions.
    pub at: u64,
}

/// Reads the mark; there is none as long as no machine may have been told.
///
/// # Errors
/// When the disk fails or the database is damaged.
pub fn load(store: &Store) -> Result<Option<Mark>, StoreError> {
    store.transact(|transaction| {
        let table = transaction.open_table(BOOTSTRAP)?;
        Ok(table.get(())?.map(|row| {
            let (done, mac, address, at) = row.value();
            Mark { done, mac: MacAddr(mac), address: address.into(), at }
        }))
    })
}

/// Replaces the mark, or removes it; the change survives a power cut once this returns.
///
/// # Errors
/// When the disk is full or fails.
pub fn replace(store: &Store, mark: Option<Mark>) -> Result<(), StoreError> {
    store.transact(|transaction| {
        let mut table = transaction.open_table(BOOTSTRAP)?;
        match mark {
            Some(Mark { done, mac, address, at }) => {
                table.insert((), (done, mac.0, address.into(), at))?
            }
            None => table.remove(())?,
        };
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::super::store::BootId;
    use super::*;
    use crate::time::BootTime;

    #[test]
    fn the_mark_stays() {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let boot = BootId::current().unwrap();
            Store::open(folder.path(), boot, BootTime::BOOT).unwrap().0
        };
        assert_eq!(load(&open()).unwrap(), None);
        let told = Mark {
            done: false,
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            address: Ipv4Addr::new(10, 0, 0, 1),
            at: 1_800_000_000,
        };
        for mark in [None, Some(told), Some(Mark { done: true, ..told }), None] {
            replace(&open(), mark).unwrap();
            assert_eq!(load(&open()).unwrap(), mark);
        }
    }
}
