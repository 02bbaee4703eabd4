//! `talos-pxe assets`: fetches Talos's files and says what became of each.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use indicatif::HumanBytes;

use crate::cli::fetch::Fetch;
use crate::decisions::fetch::{Arch, Folder, Plan, Schematic, Source, Wanted};
use crate::edges::fetch::{Fetched, Fetcher, Patience};

/// The largest customization, in bytes.
const MAX_CUSTOMIZATION: u64 = 1 << 20;

/// Fetches what the flags say and prints a line for each file.
///
/// # Errors
/// One line that names the file, the cause and the next step.
pub fn fetch(flags: &Fetch) -> anyhow::Result<()> {
    let patience = Patience::new(Duration::from_secs(flags.timeout));
    let fetcher = Fetcher::new(&flags.root, patience);
    let source = source(flags, &fetcher)?;
    let wanted = Wanted {
        version: flags.talos.clone(),
        archs: flags.arch.clone(),
        uki: flags.uki,
        ipxe: flags.ipxe.then(|| flags.ipxe_mirror.clone()),
    };
    let fetched = fetcher.fetch(&Plan::new(&source, &wanted))?;
    let mut out = io::stdout().lock();
    for file in &fetched {
        writeln!(out, "{}", line(file, flags))?;
    }
    if let Some(before) = fetcher.note_version(&flags.talos)? {
        warn_of_others(flags, &before);
    }
    Ok(())
}

fn source(flags: &Fetch, fetcher: &Fetcher) -> anyhow::Result<Source> {
    if flags.release {
        return Ok(Source::github(&flags.talos));
    }
    if let Some(mirror) = &flags.mirror {
        return Ok(Source::Release(mirror.clone()));
    }
    let base = flags.factory.clone();
    let schematic = match (&flags.schematic, &flags.schematic_file) {
        (Some(schematic), _) => schematic.clone(),
        (None, Some(file)) => {
            let schematic = fetcher.schematic(&base, &customization(file)?)?;
            writeln!(io::stdout(), "schematic {schematic}")?;
            schematic
        }
        (None, None) => Schematic::plain(),
    };
    Ok(Source::Factory { base, schematic })
}

fn customization(path: &Path) -> anyhow::Result<String> {
    let cannot = || format!("cannot read {} as text", path.display());
    let mut text = String::new();
    let file = File::open(path).with_context(cannot)?;
    file.take(MAX_CUSTOMIZATION + 1).read_to_string(&mut text).with_context(cannot)?;
    ensure!(
        text.len() as u64 <= MAX_CUSTOMIZATION,
        "{} is too long for a customization",
        path.display()
    );
    Ok(text)
}

fn line(file: &Fetched, flags: &Fetch) -> String {
    let path = flags.root.join(file.folder.name()).join(&file.name);
    let there = if file.already_there { ", already there" } else { "" };
    let verified = match file.verified {
        Some(algorithm) => format!("as {} says", algorithm.file_name()),
        None => "no checksum is published to compare with".to_owned(),
    };
    format!("{}: {}{there}, {} ({verified})", path.display(), HumanBytes(file.length), file.sha256)
}

/// One version is noted for all architectures, so they should all be of one.
fn warn_of_others(flags: &Fetch, before: &str) {
    let assets = flags.root.join(Folder::Assets.name());
    let others = Arch::ALL.iter().filter(|arch| !flags.arch.contains(arch));
    for other in others.filter(|other| assets.join(other.kernel()).exists()) {
        eprintln!(
            "talos-pxe: {} is of another Talos, {before:.64}: fetch --arch {other} as well",
            assets.join(other.kernel()).display()
        );
    }
}
