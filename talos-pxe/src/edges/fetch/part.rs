//! A file on its way: its part and the note on it, hidden beside its place.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sha2::{Digest, Sha256, Sha512};

use crate::decisions::fetch::{Algorithm, Note, Sum};

/// The longest note that is read, in bytes.
const MAX_NOTE: u64 = 16 << 10;

/// What there is of a file. It is this process's as long as it is open.
#[derive(Debug)]
pub(super) struct Part {
    path: PathBuf,
    note_path: PathBuf,
    file: File,
    note: Option<Note>,
    have: u64,
}

impl Part {
    /// Opens what an earlier attempt left of the file `name`, or an empty part.
    ///
    /// # Errors
    /// When another process is fetching the same file, or the folder cannot be written to.
    pub(super) fn open(folder: &Path, name: &str) -> anyhow::Result<Self> {
        let path = folder.join(format!(".{name}.part"));
        let note_path = folder.join(format!(".{name}.part.note"));
        let cannot = || format!("cannot write {}", path.display());
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).open(&path);
        let file = file.with_context(cannot)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another process is fetching {name} into {}: let it end", folder.display())
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
        }
        let have = file.metadata().with_context(cannot)?.len();
        Ok(Self { note: read_note(&note_path), path, note_path, file, have })
    }

    /// How many bytes there are.
    pub(super) fn have(&self) -> u64 {
        self.have
    }

    /// What they are of.
    pub(super) fn note(&self) -> Option<&Note> {
        self.note.as_ref()
    }

    /// Whether nothing is missing of the file at `url`.
    pub(super) fn is_whole(&self, url: &str) -> bool {
        let of_url = self.note.as_ref().filter(|note| note.url == url);
        of_url.is_some_and(|note| note.length == Some(self.have))
    }

    /// Empties the part, for the file that `note` tells of.
    pub(super) fn begin(&mut self, note: Note) -> io::Result<()> {
        // In this order: at no moment does a note stand beside another file's bytes.
        self.clear()?;
        write_note(&self.note_path, &note)?;
        self.note = Some(note);
        Ok(())
    }

    /// Throws away what there is.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.have = 0;
        self.note = None;
        Ok(())
    }

    /// Adds bytes at the end.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.have += bytes.len() as u64;
        Ok(())
    }

    /// Learns how long the file is, if the server did not say so before.
    pub(super) fn is_complete(&mut self) -> io::Result<()> {
        let have = self.have;
        self.change_note(|note| note.length = Some(have))
    }

    /// The checksum of what there is.
    pub(super) fn sum(&mut self, algorithm: Algorithm) -> anyhow::Result<Sum> {
        let summed = self.file.rewind().and_then(|()| sum_of(&mut self.file, algorithm));
        summed.with_context(|| format!("cannot read {}", self.path.display()))
    }

    /// Makes the whole and right file survive a power cut.
    pub(super) fn finish(&mut self, sha256: &Sum) -> anyhow::Result<()> {
        let finished = self
            .change_note(|note| note.sha256 = Some(sha256.hex.clone()))
            .and_then(|()| self.file.sync_all());
        finished.with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn change_note(&mut self, change: impl FnOnce(&mut Note)) -> io::Result<()> {
        match &mut self.note {
            Some(note) => {
                change(note);
                write_note(&self.note_path, note)
            }
            None => Ok(()),
        }
    }

    /// Removes it from the disk.
    pub(super) fn delete(&self) -> anyhow::Result<()> {
        for path in [&self.note_path, &self.path] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot delete {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Moves the file to its place.
    pub(super) fn install(self, folder: &Path, name: &str) -> anyhow::Result<()> {
        let install = || {
            fs::rename(&self.path, folder.join(name))?;
            fs::rename(&self.note_path, kept_note(folder, name))?;
            File::open(folder)?.sync_all()
        };
        install().with_context(|| format!("cannot put {name} into {}", folder.display()))
    }
}

/// The note on the file `name` in its place.
pub(super) fn note_on(folder: &Path, name: &str) -> Option<Note> {
    read_note(&kept_note(folder, name))
}

fn kept_note(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!(".{name}.note"))
}

/// A note that cannot be read or makes no sense is none: the file is fetched anew.
fn read_note(path: &Path) -> Option<Note> {
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_NOTE).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn write_note(path: &Path, note: &Note) -> io::Result<()> {
    fs::write(path, serde_json::to_vec(note)?)
}

/// The checksum of the rest of an open file.
pub(super) fn sum_of(file: &mut File, algorithm: Algorithm) -> io::Result<Sum> {
    fn digest<D: Digest>(file: &mut File) -> io::Result<Vec<u8>> {
        let (mut digest, mut buffer) = (D::new(), vec![0; 1 << 16]);
        loop {
            let length = file.read(&mut buffer)?;
            if length == 0 {
                return Ok(digest.finalize().to_vec());
            }
            digest.update(buffer.get(..length).unwrap_or_default());
        }
    }
    let octets = match algorithm {
        Algorithm::Sha256 => digest::<Sha256>(file)?,
        Algorithm::Sha512 => digest::<Sha512>(file)?,
    };
    Ok(Sum::new(algorithm, &octets))
}
