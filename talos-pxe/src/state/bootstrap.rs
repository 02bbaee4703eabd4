//! The bootstrap mark: what is remembered of bootstrapping the cluster, which must happen once.

use std::net::Ipv4Addr;

use redb::{Database, ReadableDatabase, TableDefinition, TableError};
use serde::{Deserialize, Serialize};

use crate::wire::MacAddr;

/// One row at most, for the one cluster: whether it is done; the machine's MAC and address; the
/// wall-clock time in seconds since 1970.
const BOOTSTRAP: TableDefinition<(), (bool, [u8; 6], u32, u64)> = TableDefinition::new("bootstrap");

/// What is known of the one call that bootstraps the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Whether the cluster is bootstrapped. If not, the machine is about to be asked, or was, and
    /// may have done it.
    pub done: bool,
    /// The machine.
    pub mac: MacAddr,
    /// Where it was asked.
    pub address: Ipv4Addr,
    /// When that was stored, in seconds since 1970: for people, not for decisions.
    pub at: u64,
}

/// Reads the mark; there is none as long as no machine may have been asked.
///
/// # Errors
/// When the disk fails or the database is damaged.
pub fn load(database: &Database) -> Result<Option<Mark>, redb::Error> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(BOOTSTRAP) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(table.get(())?.map(|row| {
        let (done, mac, address, at) = row.value();
        Mark { done, mac: MacAddr(mac), address: address.into(), at }
    }))
}

/// Replaces the mark, or removes it; the change survives a power cut once this returns.
///
/// # Errors
/// When the disk is full or fails.
pub fn store(database: &Database, mark: Option<Mark>) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(BOOTSTRAP)?;
        match mark {
            Some(mark) => {
                let row = (mark.done, mark.mac.0, mark.address.into(), mark.at);
                table.insert((), row)?
            }
            None => table.remove(())?,
        };
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let asked = Mark {
            done: false,
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            address: Ipv4Addr::new(10, 0, 0, 1),
            at: 1_800_000_000,
        };
        for mark in [None, Some(asked), Some(Mark { done: true, ..asked }), None] {
            store(&Database::create(&path).unwrap(), mark).unwrap();
            assert_eq!(load(&Database::create(&path).unwrap()).unwrap(), mark);
        }
    }

    #[test]
    fn a_new_database_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::create(folder.path().join("state")).unwrap();
        assert_eq!(load(&database).unwrap(), None);
    }
}
