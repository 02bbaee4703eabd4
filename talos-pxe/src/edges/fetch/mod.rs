//! Fetches Talos's files over HTTP: each is resumed where it stopped, checked, and moved to its
//! place when all are there.

mod client;
mod download;
mod part;
mod progress;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;

use self::client::{Client, Trouble, patiently};
use self::part::Part;
use self::progress::Progress;
use crate::decisions::boot::talos::VERSION_FILE;
use crate::decisions::fetch::{
    Algorithm, BaseUrl, Folder, Item, Plan, Schematic, Sum, Version, find,
};

/// The largest list of checksums that is read, in bytes; a release's has about 20 KB.
const MAX_LIST: u64 = 1 << 20;

/// How much trouble is borne.
#[derive(Clone, Debug)]
pub struct Patience {
    /// How long a server may be silent.
    pub stall: Duration,
    /// How long to wait before each further attempt. Progress begins the list anew.
    pub pauses: Vec<Duration>,
}

impl Patience {
    /// A few attempts, with growing pauses between them.
    pub fn new(stall: Duration) -> Self {
        Self { stall, pauses: [1, 2, 4, 8].map(Duration::from_secs).to_vec() }
    }
}

/// A file that is in its place now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Its folder below the root.
    pub folder: Folder,
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub length: u64,
    /// Its SHA-256.
    pub sha256: Sum,
    /// The list of checksums that it agrees with; `None` when none is published.
    pub verified: Option<Algorithm>,
    /// Whether it was there before.
    pub already_there: bool,
}

/// A published list of checksums.
struct List {
    algorithm: Algorithm,
    url: String,
    text: String,
}

/// Fetches files into the folders of a root.
pub struct Fetcher {
    root: PathBuf,
    client: Client,
    patience: Patience,
    progress: Progress,
}

impl Fetcher {
    /// For the folders below `root`, which are made when they are missing.
    pub fn new(root: &Path, patience: Patience) -> Self {
        let client = Client::new(patience.stall);
        Self { root: root.to_owned(), client, patience, progress: Progress::new() }
    }

    /// Gives an Image Factory a customization and returns its identifier.
    ///
    /// # Errors
    /// When the factory cannot be reached or refuses the customization.
    pub fn schematic(&self, factory: &BaseUrl, customization: &str) -> anyhow::Result<Schematic> {
        #[derive(Deserialize)]
        struct Answer {
            id: String,
        }
        let url = factory.join("schematics");
        let answer = self.patiently(&url, || self.client.post(&url, customization))?;
        let id = serde_json::from_str::<Answer>(&answer).ok().and_then(|a| a.id.parse().ok());
        id.with_context(|| {
            format!("{url} answered without a schematic's identifier: is it an Image Factory?")
        })
    }

    /// Fetches the files of the plan, and puts them in their places once all are there.
    ///
    /// What was fetched before a failure is kept, hidden, for the next attempt; only what is known
    /// to be wrong is deleted.
    ///
    /// # Errors
    /// One line that names the file, the cause and the next step.
    pub fn fetch(&self, plan: &Plan) -> anyhow::Result<Vec<Fetched>> {
        for folder in [Folder::Assets, Folder::Firmware] {
            if plan.items.iter().any(|item| item.folder == folder) {
                let path = self.folder(folder);
                fs::create_dir_all(&path)
                    .with_context(|| format!("cannot make folder {}", path.display()))?;
            }
        }
        let list = self.list(plan)?;
        let obtained = plan
            .items
            .iter()
            .map(|item| self.obtain(item, list.as_ref()))
            .collect::<anyhow::Result<Vec<_>>>()?;
        obtained.into_iter().map(|(fetched, part)| self.install(fetched, part)).collect()
    }

    /// Notes which Talos the assets are. Returns the version noted before, if it is another.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn note_version(&self, version: &Version) -> anyhow::Result<Option<String>> {
        let folder = self.folder(Folder::Assets);
        let path = folder.join(VERSION_FILE);
        let before = fs::read_to_string(&path).ok().map(|text| text.trim().to_owned());
        let write = || -> io::Result<()> {
            let new = folder.join(format!(".{VERSION_FILE}.new"));
            let mut file = File::create(&new)?;
            writeln!(file, "{version}")?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&folder)?.sync_all()
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(before.filter(|before| *before != version.to_string()))
    }

    fn folder(&self, folder: Folder) -> PathBuf {
        self.root.join(folder.name())
    }

    /// The first list of checksums that is published.
    fn list(&self, plan: &Plan) -> anyhow::Result<Option<List>> {
        for (algorithm, url) in &plan.sums {
            if let Some(text) = self.patiently(url, || self.client.text(url, MAX_LIST))? {
                return Ok(Some(List { algorithm: *algorithm, url: url.clone(), text }));
            }
        }
        Ok(None)
    }

    /// Makes sure that the file is there: in its place, or as a part that is whole and right.
    fn obtain(&self, item: &Item, list: Option<&List>) -> anyhow::Result<(Fetched, Option<Part>)> {
        let list = list.filter(|_| item.folder == Folder::Assets);
        let wanted = list.map(|list| {
            find(&list.text, list.algorithm, &item.name)
                .with_context(|| format!("{} is of no use: check the mirror", list.url))
        });
        let wanted = wanted.transpose()?;
        if let Some(there) = self.already_there(item, wanted.as_ref())? {
            return Ok((there, None));
        }
        let folder = self.folder(item.folder);
        let mut part = Part::open(&folder, &item.name)?;
        self.download(&mut part, &folder, item)?;

        let sha256 = part.sum(Algorithm::Sha256)?;
        if let Some(wanted) = &wanted {
            let found = match wanted.algorithm {
                Algorithm::Sha256 => sha256.clone(),
                Algorithm::Sha512 => part.sum(Algorithm::Sha512)?,
            };
            if found != *wanted {
                part.delete()?;
                bail!(
                    "{} is damaged: it has {found}, and {} says {}. It was deleted; fetch it \
                     again, or from another source",
                    item.url,
                    wanted.algorithm.file_name(),
                    wanted.hex
                );
            }
        }
        part.finish(&sha256)?;
        let fetched = Fetched {
            folder: item.folder,
            name: item.name.clone(),
            length: part.have(),
            sha256,
            verified: wanted.map(|wanted| wanted.algorithm),
            already_there: false,
        };
        Ok((fetched, Some(part)))
    }

    /// The file in its place, when that is what is to be fetched.
    fn already_there(&self, item: &Item, wanted: Option<&Sum>) -> anyhow::Result<Option<Fetched>> {
        let folder = self.folder(item.folder);
        let path = folder.join(&item.name);
        let Ok(length) = fs::metadata(&path).map(|metadata| metadata.len()) else {
            return Ok(None);
        };
        let sum = |algorithm| {
            let file = File::open(&path).and_then(|mut file| part::sum_of(&mut file, algorithm));
            file.with_context(|| format!("cannot read {}", path.display()))
        };
        let sha256 = sum(Algorithm::Sha256)?;
        let same = match wanted {
            Some(wanted) if wanted.algorithm == Algorithm::Sha256 => sha256 == *wanted,
            Some(wanted) => sum(wanted.algorithm)? == *wanted,
            None => self.is_current(&folder, item, length, &sha256)?,
        };
        Ok(same.then(|| Fetched {
            folder: item.folder,
            name: item.name.clone(),
            length,
            sha256,
            verified: wanted.map(|wanted| wanted.algorithm),
            already_there: true,
        }))
    }

    fn install(&self, fetched: Fetched, part: Option<Part>) -> anyhow::Result<Fetched> {
        if let Some(part) = part {
            part.install(&self.folder(fetched.folder), &fetched.name)?;
        }
        Ok(fetched)
    }

    /// Tries until it goes well, or there is no use in trying.
    fn patiently<T>(
        &self,
        url: &str,
        attempt: impl FnMut() -> Result<T, Trouble>,
    ) -> anyhow::Result<T> {
        patiently(&self.patience.pauses, attempt, |why, pause| {
            self.progress.say(&format!("{url}: {why}; trying again in {} s", pause.as_secs_f32()));
        })
        .with_context(|| format!("cannot fetch {url}"))
    }
}
