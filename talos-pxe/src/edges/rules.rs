//! The rules by which machines boot, and their changes while we run.
//!
//! Nothing tells of a change on a FAT stick or a network mount, so names, times and sizes of the
//! files are looked at once a second. What has changed is read once nothing changes any more, all
//! or nothing: as long as a file is broken, the rules of before stay in force.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use ipnet::Ipv4Net;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::folder;
use crate::decisions::boot::catalog::Catalog;
use crate::decisions::boot::origin::Origin;
use crate::decisions::inventory::Inventory;
use crate::wire::AssetPath;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What the operator decided.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Groups and profiles.
    pub catalog: Catalog,
    /// The machines that were named in advance.
    pub inventory: Inventory,
    /// The assets that profiles name as machine configs, or did since we run: nobody's but a token
    /// holder's.
    pub configs: BTreeSet<AssetPath>,
}

/// The rules in force: whoever holds this sees each change.
pub type InForce = watch::Receiver<Arc<Rules>>;

/// Reads the rules below `root`, to find what is wrong with them before anything is changed.
///
/// # Errors
/// Names the file, the place and the cause.
pub fn read(root: &Path) -> anyhow::Result<(Catalog, Inventory)> {
    let catalog = folder::load_catalog(root)?;
    // An unplugged stick is not one without rules: there is nothing to boot from it, either.
    folder::check_kernels(root, &catalog)?;
    Ok((catalog, folder::load_inventory(root)?))
}

/// Where rules come from.
#[derive(Debug)]
pub struct Source {
    /// The folder that they are in.
    pub root: PathBuf,
    /// How machines reach us.
    pub origin: Origin,
    /// Our own address in its subnet and the router's, where we give out addresses.
    pub served: Option<(Ipv4Net, Ipv4Addr)>,
}

impl Source {
    fn load(&self, former_configs: &BTreeSet<AssetPath>) -> anyhow::Result<Rules> {
        let (catalog, inventory) = read(&self.root)?;
        if let Some((own, router)) = self.served {
            inventory.check_addresses(own, router)?;
        }
        let mut configs = former_configs.clone();
        configs.extend(catalog.configs(&self.origin));
        Ok(Rules { catalog, inventory, configs })
    }
}

/// Looks after the rules.
#[derive(Debug)]
pub struct Watch {
    source: Source,
    in_force: watch::Sender<Arc<Rules>>,
    /// The files as they were last read, with or without success.
    read: Snapshot,
    /// The files as they were last seen.
    seen: Snapshot,
}

impl Watch {
    /// Reads the rules.
    ///
    /// # Errors
    /// As [`read`], and when an address of the inventory is not one of the subnet's.
    pub fn start(source: Source) -> anyhow::Result<Self> {
        let read = Snapshot::of(&source.root);
        let rules = source.load(&BTreeSet::new())?;
        let in_force = watch::Sender::new(Arc::new(rules));
        Ok(Self { source, in_force, seen: read.clone(), read })
    }

    /// The rules in force, now and later.
    pub fn in_force(&self) -> InForce {
        self.in_force.subscribe()
    }

    /// Puts changed rules in force until `shutdown`.
    ///
    /// # Errors
    /// Never for broken rules; when the process cannot go on.
    pub async fn serve(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = look.tick() => {}
                () = shutdown.cancelled() => return Ok(()),
            }
            // A network mount may keep us waiting.
            let looking = tokio::task::spawn_blocking(move || {
                let changed = self.look();
                (self, changed)
            });
            let (watch, changed) = tokio::select! {
                looked = looking => looked.context("cannot look at the rules")?,
                () = shutdown.cancelled() => return Ok(()),
            };
            self = watch;
            match changed {
                Some(Ok(())) => {
                    let rules = self.in_force.borrow();
                    info!(machines = rules.inventory.len(), "new rules are in force");
                }
                Some(Err(error)) => error!("{error:#}; the rules of before stay in force"),
                None => {}
            }
        }
    }

    /// Looks at the files. If they have changed since they were last read, and not since they were
    /// last seen, they are read, and put in force if nothing is wrong with them.
    fn look(&mut self) -> Option<anyhow::Result<()>> {
        let now = Snapshot::of(&self.source.root);
        let before = std::mem::replace(&mut self.seen, now);
        let settled = self.seen == before;
        if !settled || self.seen == self.read {
            return None;
        }
        let former_configs = self.in_force.borrow().configs.clone();
        let loaded = self.source.load(&former_configs);
        // What changes while it is read may be half the old and half the new.
        if Snapshot::of(&self.source.root) != self.seen {
            return None;
        }
        self.read = self.seen.clone();
        Some(loaded.map(|rules| drop(self.in_force.send_replace(Arc::new(rules)))))
    }
}

/// By what changed files are known.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Snapshot {
    /// Length in bytes and time of the last change, by path.
    Files(BTreeMap<PathBuf, (u64, SystemTime)>),
    /// They cannot be looked at, and why.
    Unreadable(String),
}

impl Snapshot {
    fn of(root: &Path) -> Self {
        Self::files(root).map_or_else(|error| Self::Unreadable(format!("{error:#}")), Self::Files)
    }

    fn files(root: &Path) -> anyhow::Result<BTreeMap<PathBuf, (u64, SystemTime)>> {
        let mut files = BTreeMap::new();
        for path in folder::rule_files(root)? {
            match fs::metadata(&path) {
                Ok(metadata) => drop(files.insert(path, (metadata.len(), metadata.modified()?))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::MacAddr;

    struct Site {
        root: tempfile::TempDir,
        watch: Watch,
    }

    impl Site {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            for folder in ["assets", "groups", "profiles", "patches"] {
                fs::create_dir(root.path().join(folder)).unwrap();
            }
            fs::write(root.path().join("assets/vmlinuz-amd64"), "kernel").unwrap();
            let own: Ipv4Net = "10.0.0.1/24".parse().unwrap();
            let source = Source {
                root: root.path().to_owned(),
                origin: Origin { address: own.addr(), port: 8080 },
                served: Some((own, own.addr())),
            };
            Self { watch: Watch::start(source).unwrap(), root }
        }

        fn write(&self, path: &str, text: &str) {
            fs::write(self.root.path().join(path), text).unwrap();
        }

        /// Looks twice: a change has settled then. Returns what became of it, if there was one.
        fn settle(&mut self) -> Option<Result<(), String>> {
            assert!(self.watch.look().is_none());
            let changed = self.watch.look()?;
            assert!(self.watch.look().is_none(), "it is told once");
            Some(changed.map_err(|error| format!("{error:#}")))
        }

        fn machines(&self) -> Vec<MacAddr> {
            self.watch.in_force().borrow().inventory.iter().map(|(mac, _)| mac).collect()
        }
    }

    #[test]
    fn changes_take_effect_once_they_have_settled() {
        let mut site = Site::new();
        assert_eq!(site.settle(), None);
        site.write("machines.yaml", "machines:\n");
        assert!(site.watch.look().is_none());
        site.write("machines.yaml", "machines: [{mac: 52:54:00:00:00:01}]");
        assert!(site.watch.look().is_none(), "it is still being written");
        assert!(matches!(site.watch.look(), Some(Ok(()))));
        assert_eq!(site.machines(), [MacAddr([0x52, 0x54, 0, 0, 0, 1])]);
        fs::remove_file(site.root.path().join("machines.yaml")).unwrap();
        assert_eq!(site.settle(), Some(Ok(())));
        assert!(site.machines().is_empty());
    }

    #[test]
    fn a_broken_file_is_told_once_and_the_last_good_rules_stay() {
        let mut site = Site::new();
        site.write("machines.yaml", "machines: [{mac: 52:54:00:00:00:01}]");
        assert_eq!(site.settle(), Some(Ok(())));
        for (path, text, error) in [
            ("machines.yaml", "machines: [{}]", "machines.yaml: machines[0]: missing field `mac`"),
            ("machines.yaml", "machines: [{mac: '525400000001', address: 10.0.1.1}]", "subnet"),
            ("machines.yaml", "machines: [{mac: '525400000002', patch: p.yaml}]", "\"p.yaml\""),
            ("patches/p.yaml", "- 1", "p.yaml: not a strategic-merge patch"),
            ("groups/g.json", "{", "g.json: EOF while parsing an object at line 1 column 1"),
        ] {
            site.write(path, text);
            let told = site.settle().unwrap().unwrap_err();
            assert!(told.contains(error), "{told}");
            assert_eq!(site.machines(), [MacAddr([0x52, 0x54, 0, 0, 0, 1])]);
        }
        site.write("patches/p.yaml", "machine: {}");
        site.write("groups/g.json", r#"{"profile": "worker"}"#);
        assert_eq!(site.settle(), Some(Ok(())));
        assert_eq!(site.machines(), [MacAddr([0x52, 0x54, 0, 0, 0, 2])]);
    }

    #[test]
    fn an_unplugged_stick_changes_nothing() {
        let mut site = Site::new();
        site.write("machines.yaml", "machines: [{mac: 52:54:00:00:00:01}]");
        assert_eq!(site.settle(), Some(Ok(())));
        let away = site.root.path().with_extension("away");
        fs::rename(site.root.path(), &away).unwrap();
        let told = site.settle().unwrap().unwrap_err();
        assert!(told.starts_with("nothing to boot"), "{told}");
        // The mount point is an empty folder, which makes no difference.
        fs::create_dir(site.root.path()).unwrap();
        assert_eq!(site.settle(), None);
        assert_eq!(site.machines().len(), 1);
        fs::remove_dir(site.root.path()).unwrap();
        fs::rename(&away, site.root.path()).unwrap();
        assert_eq!(site.settle(), Some(Ok(())));
    }

    #[test]
    fn what_was_a_config_stays_secret() {
        let mut site = Site::new();
        let profile = |config: &str| {
            format!(
                r#"{{"boot": {{"kernel": "/assets/vmlinuz-amd64",
                    "args": ["talos.config=/assets/{config}"]}}}}"#
            )
        };
        for (name, text) in [("controlplane", "old"), ("worker", "w"), ("worker", "new")] {
            site.write(&format!("profiles/{name}.json"), &profile(text));
            if name == "worker" {
                assert_eq!(site.settle(), Some(Ok(())));
            }
        }
        let configs = site.watch.in_force().borrow().configs.clone();
        let names: Vec<&str> = configs.iter().map(AssetPath::as_str).collect();
        assert_eq!(names, ["controlplane.yaml", "new", "old", "w", "worker.yaml"]);
    }
}
