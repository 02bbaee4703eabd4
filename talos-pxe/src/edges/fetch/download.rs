//! One file's download: what is there is kept, what is missing is asked for.

use std::io::{self, Read as _};
use std::path::Path;

use anyhow::{Context as _, Error, anyhow, ensure};
use indicatif::{HumanBytes, ProgressBar};
use ureq::Body as Stream;

use super::Fetcher;
use super::client::{Trouble, io_cause};
use super::part::{Part, note_on};
use crate::decisions::fetch::{Ask, Body, Head, Item, Refused, Sum, answered, ask, is_current};

/// No file of Talos comes near this, in bytes. It bounds what a server can fill the disk with.
const MAX_FILE: u64 = 4 << 30;
/// An attempt that brought this many bytes counts as progress. A server that sends a few at a
/// time must not keep us for ever.
const PROGRESS: u64 = 1 << 20;

impl Fetcher {
    /// Fetches what is missing of the file.
    pub(super) fn download(
        &self,
        part: &mut Part,
        folder: &Path,
        item: &Item,
    ) -> anyhow::Result<()> {
        let bar = self.progress.file(&item.name, &item.url, part.have());
        self.patiently(&item.url, || self.attempt(part, folder, item, &bar))?;
        bar.finish_and_clear();
        Ok(())
    }

    fn attempt(
        &self,
        part: &mut Part,
        folder: &Path,
        item: &Item,
        bar: &ProgressBar,
    ) -> Result<(), Trouble> {
        if part.is_whole(&item.url) {
            return Ok(());
        }
        let ask = ask(part.note(), part.have(), &item.url);
        let (head, stream) = self.client.get(&item.url, &ask.fields)?;
        let cannot_write = |error: io::Error| write_error(&error, folder);
        let body = self.body(&ask, part, &head, item)?;
        let all = match body {
            Body::Whole => head.length,
            Body::Rest { total } => Some(total),
        };
        if let Some(all) = all {
            ensure_room(folder, all, part.have())?;
            bar.set_length(all);
        }
        if body == Body::Whole {
            part.begin(head.note(&item.url)).map_err(cannot_write)?;
        }
        copy(stream, part, folder, all, bar)?;
        part.is_complete().map_err(cannot_write)?;
        Ok(())
    }

    /// What the answer is; a part that the server cannot go on with is thrown away.
    fn body(&self, ask: &Ask, part: &mut Part, head: &Head, item: &Item) -> Result<Body, Trouble> {
        answered(ask, part.note(), head).map_err(|refused| match refused {
            Refused::BadPart => match part.clear() {
                Ok(()) => Trouble::passing(refused),
                Err(error) => Error::new(error).into(),
            },
            Refused::Busy(_) => Trouble::passing(refused),
            Refused::NotFound(_) => anyhow!(
                "{refused}: check the version and the architecture of {}, and the schematic or \
                 the mirror",
                item.name
            )
            .into(),
            Refused::Page | Refused::Empty | Refused::Other(_) => {
                anyhow!("{refused}: check the URL").into()
            }
        })
    }

    /// Whether the file in its place, with this length and SHA-256, is what the server has.
    pub(super) fn is_current(
        &self,
        folder: &Path,
        item: &Item,
        length: u64,
        sha256: &Sum,
    ) -> anyhow::Result<bool> {
        let Some(note) = note_on(folder, &item.name) else { return Ok(false) };
        let (head, _) = self.patiently(&item.url, || self.client.get(&item.url, &[]))?;
        Ok(is_current(&note, length, &sha256.hex, &item.url, &head))
    }
}

/// Copies to the end, which is at `all` bytes where that is known.
fn copy(
    stream: Stream,
    part: &mut Part,
    folder: &Path,
    all: Option<u64>,
    bar: &ProgressBar,
) -> Result<(), Trouble> {
    let before = part.have();
    let limit = all.unwrap_or(MAX_FILE);
    let mut stream = stream.into_with_config().limit(u64::MAX).reader();
    let mut buffer = vec![0; 1 << 16];
    loop {
        bar.set_position(part.have());
        let length = match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) => return Err(interrupted(io_cause(&error), part, before)),
        };
        let bytes = buffer.get(..length).unwrap_or_default();
        if part.have() + length as u64 > limit {
            part.clear().map_err(Error::new)?;
            return Err(anyhow!("the server sends more than {limit} bytes: check the URL").into());
        }
        if let Err(error) = part.append(bytes) {
            let mut error_line = write_error(&error, folder);
            if is_full(&error) {
                // A full disk would keep a talos-pxe that runs from storing leases. A download
                // can be repeated.
                part.delete()?;
                error_line = error_line.context("what had come was deleted");
            }
            return Err(error_line.into());
        }
    }
    match all {
        Some(all) if part.have() < all => {
            Err(interrupted("the connection ended early".to_owned(), part, before))
        }
        _ if part.have() == 0 => Err(anyhow!("{}: check the URL", Refused::Empty).into()),
        _ => Ok(()),
    }
}

fn interrupted(why: String, part: &Part, before: u64) -> Trouble {
    let why = format!("{why} after {}", HumanBytes(part.have()));
    Trouble::Passing { why, progress: part.have() - before >= PROGRESS }
}

/// Makes sure, before anything is written, that the file has room beside or instead of the `have`
/// bytes of its part.
fn ensure_room(folder: &Path, all: u64, have: u64) -> anyhow::Result<()> {
    ensure!(all <= MAX_FILE, "the server offers {all} bytes: check the URL");
    let (needed, free) = (all - have.min(all), free_bytes(folder)?);
    ensure!(
        needed <= free,
        "the disk of {} is too full: {needed} more bytes are needed, {free} are free; make room, \
         or name another folder with --root",
        folder.display()
    );
    Ok(())
}

fn free_bytes(folder: &Path) -> anyhow::Result<u64> {
    let disk = rustix::fs::statvfs(folder)
        .with_context(|| format!("cannot tell the free room of {}", folder.display()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn write_error(error: &io::Error, folder: &Path) -> Error {
    if is_full(error) {
        return anyhow!(
            "the disk of {} is full: make room, or name another folder with --root",
            folder.display()
        );
    }
    anyhow!("cannot write to {}: {error}", folder.display())
}
