//! The durable state: an embedded database in one file.
//!
//! Times are kept on the boot-time clock, together with the boot they belong to. After a reboot
//! that clock has begun anew, and how long the machine was off is not known (appliances often
//! have no clock). Each lease is then held for all the time that it had left when it was stored:
//! longer than was promised, never shorter.
//!
//! Each part of the state keeps tables of its own, by [`Store::transact`]; a new table needs no
//! new version.

mod error;
mod leases;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Database, Durability, ReadableTable, TableDefinition, WriteTransaction};

pub use error::StoreError;
pub use leases::{Change, Held};

use crate::time::BootTime;

/// The version of the file. Version 1 had leases only; an older talos-pxe must not open a file
/// with roles, which it would let grow stale.
const VERSION: u128 = 2;

/// `version` and `boot`.
const META: TableDefinition<&str, u128> = TableDefinition::new("meta");

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

/// The open database.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    database: Database,
}

impl Store {
    /// Opens the database in `folder`, which is made if it is missing, and reads the leases, with
    /// times on the clock of this boot. A file of an older version becomes one of this version.
    ///
    /// # Errors
    /// See [`StoreError`]. Nothing is ever discarded.
    pub fn open(
        folder: &Path,
        boot: BootId,
        now: BootTime,
    ) -> Result<(Self, Vec<Held>), StoreError> {
        let path = folder.join("talos-pxe.redb");
        let file = open_file(folder, &path).map_err(|error| StoreError::io(&path, error))?;
        let database = FileBackend::new(file)
            .and_then(|backend| Database::builder().create_with_backend(backend))
            .map_err(|error| StoreError::opening(&path, error))?;
        let store = Self { path, database };
        let held = store.leases(boot, now)?;
        Ok((store, held))
    }

    /// Stores all changes of leases, in order, or none; they survive a power cut once this
    /// returns.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub fn write(
        &self,
        now: BootTime,
        changes: impl IntoIterator<Item = Change>,
    ) -> Result<(), StoreError> {
        self.transact(|transaction| leases::write(transaction, now, changes))
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
        self.transact_as(Durability::Immediate, work)
    }

    /// As [`Store::transact`], but it survives a crash only with the next one that does, and so
    /// does not wait for the disk.
    ///
    /// # Errors
    /// As [`Store::transact`].
    pub fn transact_soon<T>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        self.transact_as(Durability::None, work)
    }

    fn transact_as<T>(
        &self,
        durability: Durability,
        work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let run = || {
            let mut transaction = self.database.begin_write()?;
            transaction.set_durability(durability)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        };
        run().map_err(|error| self.failure(error))
    }

    /// The error for a table whose rows make no sense.
    pub fn damaged(&self, cause: impl ToString) -> StoreError {
        StoreError::damaged(&self.path, cause)
    }

    /// Reads the leases, unless the file is of a future version.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn leases(&self, boot: BootId, now: BootTime) -> Result<Vec<Held>, StoreError> {
        let held = self.transact(|transaction| {
            let mut meta = transaction.open_table(META)?;
            let version = meta.get("version")?.map_or(VERSION, |found| found.value());
            if version > VERSION {
                return Ok(Err(version));
            }
            let same_boot = meta.get("boot")?.is_some_and(|found| found.value() == boot.0);
            let held = leases::read(transaction, now, same_boot)?;
            meta.insert("version", VERSION)?;
            meta.insert("boot", boot.0)?;
            Ok(Ok(held))
        })?;
        held.map_err(|version| StoreError::FutureVersion { path: self.path.clone(), version })
    }

    fn failure(&self, error: redb::Error) -> StoreError {
        match error {
            redb::Error::Io(error) => StoreError::io(&self.path, error),
            other => StoreError::damaged(&self.path, other),
        }
    }
}

#[cfg(test)]
impl Store {
    /// A store that is gone with its value.
    pub fn in_memory() -> Self {
        let backend = redb::backends::InMemoryBackend::new();
        let database = Database::builder().create_with_backend(backend).unwrap();
        Self { path: PathBuf::from("memory"), database }
    }
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

#[cfg(test)]
mod tests;
