//! The durable state: an embedded database in one file.
//!
//! Times are kept on the boot-time clock, together with the boot they belong to. After a reboot
//! that clock has begun anew, and how long the machine was off is not known (appliances often
//! have no clock). Each lease is then held for all the time that it had left when it was stored:
//! longer than was promised, never shorter.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use redb::backends::FileBackend;
use redb::{
    Database, DatabaseError, ReadableTable, StorageError, TableDefinition, WriteTransaction,
};

use crate::time::BootTime;
use crate::wire::MacAddr;

/// The version of the tables below.
const VERSION: u128 = 1;

/// `version` and `boot`.
const META: TableDefinition<&str, u128> = TableDefinition::new("meta");
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

/// Which boot of the kernel a moment on the boot-time clock belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootId(u128);

impl BootId {
    /// The identifier of this boot.
    ///
    /// # Errors
    /// When `/proc` is not there.
    pub fn current() -> io::Result<Self> {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
        u128::from_str_radix(&digits, 16).map(Self).map_err(io::Error::other)
    }
}

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder or file cannot be made or opened.
    #[error("cannot use {path}: {error}; name a folder that can be written to with --state")]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// Another process has it open.
    #[error("{0} is in use: another talos-pxe runs with this --state; stop that, or name another")]
    InUse(PathBuf),
    /// It is no state of ours, or was damaged.
    #[error(
        "{path} is damaged ({cause}): restore it from a backup, or move it away; then leases \
         begin anew, and addresses in use are found by ARP only"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// A later talos-pxe has written it.
    #[error(
        "{path} has version {version}, written by a later talos-pxe than this one, which knows \
         version {VERSION}: use that talos-pxe, or name another folder with --state"
    )]
    FutureVersion {
        /// The file.
        path: PathBuf,
        /// The version found.
        version: u128,
    },
}

/// The open database.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    database: Database,
}

impl Store {
    /// Opens the database in `folder`, which is made if it is missing, and reads what it holds,
    /// with times on the clock of this boot.
    ///
    /// # Errors
    /// See [`StoreError`]. Nothing is ever discarded.
    pub fn open(
        folder: &Path,
        boot: BootId,
        now: BootTime,
    ) -> Result<(Self, Vec<Held>), StoreError> {
        let path = folder.join("talos-pxe.redb");
        let file = open_file(folder, &path).map_err(|error| io_error(&path, error))?;
        let database = FileBackend::new(file)
            .and_then(|backend| Database::builder().create_with_backend(backend))
            .map_err(|error| open_error(&path, error))?;
        let store = Self { path, database };
        let held = store.read(boot, now)?;
        Ok((store, held))
    }

    /// Stores all changes, in order, or none; they survive a power cut once this returns.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub fn write(
        &self,
        now: BootTime,
        changes: impl IntoIterator<Item = Change>,
    ) -> Result<(), StoreError> {
        self.tables(|leases, _| {
            for change in changes {
                match change {
                    Change::Hold(held) => leases.insert(held.mac.0, row(&held, now))?,
                    Change::Forget(mac) => leases.remove(mac.0)?,
                };
            }
            Ok(())
        })
    }

    /// Reads the leases, after moving them to the clock of this boot when they are of another.
    fn read(&self, boot: BootId, now: BootTime) -> Result<Vec<Held>, StoreError> {
        let mut version = VERSION;
        let mut all = Vec::new();
        self.tables(|leases, meta| {
            version = meta.get("version")?.map_or(VERSION, |found| found.value());
            if version != VERSION {
                return Ok(());
            }
            let same_boot = meta.get("boot")?.is_some_and(|found| found.value() == boot.0);
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
            meta.insert("version", VERSION)?;
            meta.insert("boot", boot.0)?;
            Ok(())
        })?;
        match version {
            VERSION => Ok(one_machine_an_address(all)),
            version => Err(StoreError::FutureVersion { path: self.path.clone(), version }),
        }
    }

    fn tables(
        &self,
        work: impl FnOnce(&mut Leases<'_>, &mut Meta<'_>) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        self.transact(|transaction| {
            work(&mut transaction.open_table(LEASES)?, &mut transaction.open_table(META)?)
        })
    }

    /// Does all of `work` or nothing; it survives a power cut once this returns. Blocks for the
    /// disk, and while another transaction is under way.
    ///
    /// # Errors
    /// When the disk is full or fails, and those of `work`.
    pub fn transact<T>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let run = || {
            let transaction = self.database.begin_write()?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        };
        run().map_err(|error| self.failure(error))
    }

    fn failure(&self, error: redb::Error) -> StoreError {
        match error {
            redb::Error::Io(error) => io_error(&self.path, error),
            other => damaged(&self.path, other),
        }
    }
}

type Leases<'a> = redb::Table<'a, [u8; 6], (u32, u64, u64)>;
type Meta<'a> = redb::Table<'a, &'static str, u128>;

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

/// Opens or makes the file, readable by nobody else; a new one's name survives a power cut.
fn open_file(folder: &Path, path: &Path) -> io::Result<File> {
    if !folder.is_dir() {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    }
    let mut options = OpenOptions::new();
    let file =
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    File::open(folder)?.sync_all()?;
    Ok(file)
}

fn open_error(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.to_owned()),
        DatabaseError::Storage(StorageError::Io(error))
            if error.kind() != io::ErrorKind::InvalidData
                && error.kind() != io::ErrorKind::UnexpectedEof =>
        {
            io_error(path, error)
        }
        other => damaged(path, other),
    }
}

fn io_error(path: &Path, error: io::Error) -> StoreError {
    StoreError::Io { path: path.to_owned(), error }
}

fn damaged(path: &Path, cause: impl ToString) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), cause: cause.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: BootId = BootId(1);

    fn at(seconds: u64) -> BootTime {
        BootTime::BOOT + Duration::from_secs(seconds)
    }

    fn held(n: u8, until: u64) -> Held {
        let address = Ipv4Addr::new(10, 0, 0, n);
        Held { mac: MacAddr([2, 0, 0, 0, 0, n]), address, until: at(until) }
    }

    fn open(folder: &Path, boot: BootId, now: u64) -> (Store, Vec<Held>) {
        let (store, mut all) = Store::open(folder, boot, at(now)).unwrap();
        all.sort_by_key(|held| held.mac);
        (store, all)
    }

    #[test]
    fn what_was_stored_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let (store, empty) = open(&state, BOOT, 0);
        assert_eq!(empty, []);
        let changes = [
            Change::Hold(held(1, 300)),
            Change::Hold(held(2, 300)),
            Change::Forget(held(1, 0).mac),
            Change::Hold(held(2, 900)),
        ];
        store.write(at(10), changes).unwrap();
        assert!(matches!(Store::open(&state, BOOT, at(20)), Err(StoreError::InUse(_))));
        drop(store);
        assert_eq!(open(&state, BOOT, 20).1, [held(2, 900)]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&state), mode(&state.join("talos-pxe.redb"))), (0o700, 0o600));
    }

    #[test]
    fn another_boot_holds_each_lease_for_all_that_it_had_left() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = open(folder.path(), BOOT, 0);
        store.write(at(1000), [Change::Hold(held(1, 1300))]).unwrap();
        drop(store);
        // And again: the time that passed in a boot of its own does not count twice.
        for (boot, now) in [(2, 5), (2, 100), (3, 7)] {
            let (_, all) = open(folder.path(), BootId(boot), now);
            assert_eq!(all, [held(1, if boot == 2 { 305 } else { 307 })], "boot {boot} at {now}");
        }
    }

    #[test]
    fn a_damaged_or_future_file_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("talos-pxe.redb");
        let (store, _) = open(folder.path(), BOOT, 0);
        store.write(at(0), [Change::Hold(held(1, 300))]).unwrap();
        let transaction = store.database.begin_write().unwrap();
        transaction.open_table(META).unwrap().insert("version", VERSION + 1).unwrap();
        transaction.commit().unwrap();
        drop(store);
        let future = Store::open(folder.path(), BOOT, at(0));
        assert!(matches!(future, Err(StoreError::FutureVersion { version: 2, .. })));

        let good = fs::read(&path).unwrap();
        for (name, bytes) in [
            ("text", b"this is no database, whatever its name says".repeat(200)),
            ("cut", good[..good.len() / 3].to_vec()),
            ("zeros", vec![0; good.len()]),
        ] {
            fs::write(&path, &bytes).unwrap();
            let opened = Store::open(folder.path(), BOOT, at(0));
            assert!(matches!(opened, Err(StoreError::Damaged { .. })), "{name}: {opened:?}");
            assert_eq!(fs::read(&path).unwrap(), bytes, "{name}");
        }
    }
}
