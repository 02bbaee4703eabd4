//! Looks at the durable state without making or changing anything.

use std::io;
use std::path::{Path, PathBuf};

use redb::{DatabaseError, ReadOnlyDatabase, StorageError};
use rustix::fs::Access;

use super::store::StoreError;

/// What [`Store`](super::store::Store) calls its file.
const FILE: &str = "talos-pxe.redb";

/// What there is of a durable state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inspected {
    /// Nothing yet; it can be made.
    New,
    /// One that can be used.
    There,
    /// One that was not closed, by a crash or a power cut. It is repaired when it is opened.
    Unclosed,
}

/// Says whether the state in `folder` can be used.
///
/// # Errors
/// As for [`Store::open`](super::store::Store::open); only that the state is of a later version
/// is not found out.
pub fn inspect(folder: &Path) -> Result<Inspected, StoreError> {
    let path = folder.join(FILE);
    let accessible = |path: &Path, access| {
        rustix::fs::access(path, access)
            .map_err(|error| StoreError::Io { path: path.to_owned(), error: error.into() })
    };
    if !path.exists() {
        let parent = existing(folder);
        if !parent.is_dir() {
            let error = io::Error::from(io::ErrorKind::NotADirectory);
            return Err(StoreError::Io { path: parent, error });
        }
        accessible(&parent, Access::WRITE_OK | Access::EXEC_OK)?;
        return Ok(Inspected::New);
    }
    accessible(&path, Access::READ_OK | Access::WRITE_OK)?;
    let damaged =
        |cause: DatabaseError| StoreError::Damaged { path: path.clone(), cause: cause.to_string() };
    match ReadOnlyDatabase::open(&path) {
        Ok(_) => Ok(Inspected::There),
        Err(DatabaseError::RepairAborted) => Ok(Inspected::Unclosed),
        Err(DatabaseError::DatabaseAlreadyOpen) => Err(StoreError::InUse(path)),
        Err(DatabaseError::Storage(StorageError::Io(error)))
            if error.kind() != io::ErrorKind::InvalidData
                && error.kind() != io::ErrorKind::UnexpectedEof =>
        {
            Err(StoreError::Io { path, error })
        }
        Err(cause) => Err(damaged(cause)),
    }
}

/// The folder itself, or the nearest one above it that exists.
fn existing(folder: &Path) -> PathBuf {
    let there = folder.ancestors().find(|path| path.exists());
    match there {
        Some(path) if path != Path::new("") => path.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::{BootId, Store};
    use super::*;
    use crate::time::BootTime;

    #[test]
    fn nothing_is_made_or_changed() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/state");
        assert_eq!(inspect(&folder).unwrap(), Inspected::New);
        assert!(!root.path().join("a").exists());

        let boot = BootId::current().unwrap();
        let (store, _) = Store::open(&folder, boot, BootTime::BOOT).unwrap();
        assert!(matches!(inspect(&folder), Err(StoreError::InUse(_))));
        drop(store);
        let bytes = std::fs::read(folder.join(FILE)).unwrap();
        assert_eq!(inspect(&folder).unwrap(), Inspected::There);
        assert_eq!(std::fs::read(folder.join(FILE)).unwrap(), bytes);

        std::fs::write(folder.join(FILE), "this is no database".repeat(500)).unwrap();
        assert!(matches!(inspect(&folder), Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("state"), "").unwrap();
        assert!(matches!(inspect(&root.path().join("state")), Err(StoreError::Io { .. })));
    }
}
