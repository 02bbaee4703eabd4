//! Why the state cannot be used, and what to do.

use std::io;
use std::path::{Path, PathBuf};

use redb::{DatabaseError, StorageError};

use super::VERSION;

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
        "{path} is damaged ({cause}): restore it from a backup, or move it away; then leases and \
         roles begin anew, and addresses in use are found by ARP only"
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

impl StoreError {
    pub(super) fn io(path: &Path, error: io::Error) -> Self {
        Self::Io { path: path.to_owned(), error }
    }

    pub(super) fn damaged(path: &Path, cause: impl ToString) -> Self {
        Self::Damaged { path: path.to_owned(), cause: cause.to_string() }
    }

    /// What a failure to open the database at `path` means.
    pub(super) fn opening(path: &Path, error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen => Self::InUse(path.to_owned()),
            DatabaseError::Storage(StorageError::Io(error))
                if error.kind() != io::ErrorKind::InvalidData
                    && error.kind() != io::ErrorKind::UnexpectedEof =>
            {
                Self::io(path, error)
            }
            other => Self::damaged(path, other),
        }
    }
}
