//! Bootstraps the cluster over Talos's API, exactly once: carries out what
//! [`decisions::bootstrap`](crate::decisions::bootstrap) decides.

pub mod api;
mod client;
mod news;

use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use futures_util::future::join_all;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::client::Machine;
use self::news::News;
use super::folder::OpenFile;
use crate::decisions::bootstrap::{Action, Bootstrap, Candidate, Choice, Etcd, Event, Outcome};
use crate::state::bootstrap::{self as marks, Mark};
use crate::state::store::Store;
use crate::time::BootTime;
use crate::wire::talosconfig::{Identity, MAX_LENGTH};
use crate::wire::{AssetPath, MacAddr};

/// The port of Talos's secure API.
pub const PORT: u16 = 50000;
/// How long a machine that may have accepted has to say that it still waits before it is told
/// again: enough for etcd's start once it has accepted.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The name of the file in the assets folder.
const TALOSCONFIG: &str = "talosconfig";

/// What the operator has chosen, and where things are.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which machine may be told.
    pub choice: Choice,
    /// The folder of the talosconfig, which may appear later.
    pub assets: PathBuf,
    /// [`PORT`], but for tests.
    pub port: u16,
    /// [`PATIENCE`], but for tests.
    pub patience: Duration,
}

impl Settings {
    /// The settings for `--bootstrap` and `--root`.
    pub fn new(choice: Choice, root: &Path) -> Self {
        Self { choice, assets: root.join("assets"), port: PORT, patience: PATIENCE }
    }
}

/// As [`run`], but until `shutdown`, also when there is nothing left to do.
///
/// # Errors
/// As [`run`].
pub async fn serve(
    settings: Settings,
    store: Arc<Store>,
    candidates: impl Fn() -> Vec<Candidate>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    if settings.choice == Choice::Off {
        shutdown.cancelled().await;
        return Ok(());
    }
    tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        ended = run(settings, store, candidates) => ended?,
    }
    shutdown.cancelled().await;
    Ok(())
}

/// Runs until the cluster is bootstrapped. `candidates` returns the machines that are known, each
/// once, with their present addresses; it is called every few seconds.
///
/// # Errors
/// When the bootstrap mark cannot be read or stored. Whatever the talosconfig and the machines
/// say is logged, and tried again.
pub async fn run(
    settings: Settings,
    store: Arc<Store>,
    candidates: impl Fn() -> Vec<Candidate>,
) -> anyhow::Result<()> {
    let mark = load(&store).await?;
    if let Some(mark) = mark.filter(|mark| !mark.done) {
        let Mark { mac, address, at, .. } = mark;
        info!(%mac, %address, at, "bootstrap: a machine was told, but not known to have accepted");
    }
    let mut bootstrap = Bootstrap::new(settings.choice, settings.patience, mark);
    let mut operator = Operator { settings, news: News::default() };
    let mut action = Action::Wait(BootTime::now());
    loop {
        let event = match action {
            Action::Wait(until) => {
                sleep(until.since(BootTime::now())).await;
                Event::Due(candidates())
            }
            Action::Ask(machines) => Event::Asked(operator.ask(&machines, bootstrap.mark()).await),
            Action::Store(mark) => {
                keep(&store, mark).await?;
                Event::Stored
            }
            Action::Tell(machine) => Event::Told(operator.tell(&machine).await),
            Action::End => {
                info!("bootstrap: the cluster is bootstrapped");
                return Ok(());
            }
        };
        action = bootstrap.handle(BootTime::now(), event);
    }
}

/// Asks and tells machines, as the talosconfig's identity.
struct Operator {
    settings: Settings,
    news: News,
}

impl Operator {
    /// What those that answer say of their etcd.
    async fn ask(&mut self, machines: &[Candidate], mark: Option<Mark>) -> Vec<(MacAddr, Etcd)> {
        let Some(identity) = self.identity().await else { return Vec::new() };
        let port = self.settings.port;
        let answers = join_all(machines.iter().map(async |machine| {
            Machine::connect(&identity, machine.address, port).await?.etcd().await
        }));
        let mut answered = Vec::new();
        for (machine, answer) in machines.iter().zip(answers.await) {
            let said = match &answer {
                Ok(Etcd::Member) => "has etcd",
                Ok(Etcd::Waits) => "waits for etcd",
                Ok(Etcd::Unclear) => "answers, but not what etcd it has",
                Err(error) => error,
            };
            if self.news.is_new(machine.mac, said) {
                info!(mac = %machine.mac, address = %machine.address, "bootstrap: {said}");
            }
            answered.extend(answer.ok().map(|etcd| (machine.mac, etcd)));
        }
        if let Some(mark) = mark
            && !answered.iter().any(|(mac, etcd)| *mac == mark.mac || *etcd == Etcd::Member)
        {
            self.report_silence(mark);
        }
        answered
    }

    /// Only people can know that a machine will never come back.
    fn report_silence(&mut self, mark: Mark) {
        let talosconfig = self.settings.assets.join(TALOSCONFIG);
        let text = format!(
            "bootstrap: {mac}, last at {address}, was told to begin etcd and does not answer; no \
             other machine is told, as there would be two clusters if it did begin. If it is gone \
             for good, erase its disk and run `talosctl --talosconfig {talosconfig} bootstrap \
             --endpoints IP --nodes IP` with the address of another control plane machine",
            mac = mark.mac,
            address = mark.address,
            talosconfig = talosconfig.display(),
        );
        if self.news.is_new("silence", &text) {
            error!("{text}");
        }
    }

    /// Tells one machine to begin etcd.
    async fn tell(&mut self, machine: &Candidate) -> Outcome {
        // What does not get as far as a connection has certainly told nobody.
        let Some(identity) = self.identity().await else { return Outcome::Refused };
        let connected = Machine::connect(&identity, machine.address, self.settings.port).await;
        let (outcome, words) = match connected {
            Ok(mut connection) => connection.bootstrap().await,
            Err(error) => (Outcome::Refused, error),
        };
        if self.news.is_new("told", &format!("{} {words}", machine.mac)) {
            let (mac, address) = (machine.mac, machine.address);
            info!(%mac, %address, ?outcome, "bootstrap: told the machine to begin etcd: {words}");
        }
        outcome
    }

    /// The identity of the talosconfig, if there is one and it can be used.
    async fn identity(&mut self) -> Option<Identity> {
        let path = self.settings.assets.join(TALOSCONFIG);
        let assets = self.settings.assets.clone();
        let found = match spawn_blocking(move || read(&assets)).await {
            Ok(found) => found,
            Err(panicked) => Err(panicked.into()),
        };
        let path = path.display();
        let (identity, trouble) = match found {
            Ok(Some(File { identity, open_to_others: false })) => (Some(identity), None),
            Ok(Some(File { identity, open_to_others: true })) => {
                let trouble = format!("{path} can be read by others; run `chmod 600` on it");
                (Some(identity), Some(trouble))
            }
            Ok(None) => {
                (None, Some(format!("the cluster cannot be bootstrapped: there is no {path}")))
            }
            Err(error) => (None, Some(format!("cannot use {path}: {error:#}"))),
        };
        let trouble = trouble.unwrap_or_default();
        if self.news.is_new(TALOSCONFIG, &trouble) && !trouble.is_empty() {
            warn!("bootstrap: {trouble}");
        }
        identity
    }
}

/// A talosconfig.
struct File {
    identity: Identity,
    /// Others than its owner can read it.
    open_to_others: bool,
}

/// Reads the talosconfig, if there is one.
fn read(assets: &Path) -> anyhow::Result<Option<File>> {
    let name = AssetPath::from_plain(TALOSCONFIG).context("its name is odd")?;
    let open = match OpenFile::linked(assets, &name) {
        Ok(open) => open,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut text = String::new();
    let limit = u64::try_from(MAX_LENGTH).unwrap_or(u64::MAX).saturating_add(1);
    open.file.take(limit).read_to_string(&mut text)?;
    let identity = Identity::from_talosconfig(&text)?;
    Ok(Some(File { identity, open_to_others: open.metadata.permissions().mode() & 0o077 != 0 }))
}

async fn load(store: &Arc<Store>) -> anyhow::Result<Option<Mark>> {
    let store = Arc::clone(store);
    spawn_blocking(move || marks::load(&store))
        .await?
        .context("cannot read whether the cluster is bootstrapped")
}

async fn keep(store: &Arc<Store>, mark: Option<Mark>) -> anyhow::Result<()> {
    let store = Arc::clone(store);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let at = now.as_secs();
    let mark = mark.map(|mark| Mark { at, ..mark });
    spawn_blocking(move || marks::replace(&store, mark))
        .await?
        .context("cannot store whether the cluster is bootstrapped")
}
