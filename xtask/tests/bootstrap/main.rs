//! Bootstrapping against machines that speak Talos's API: whatever happens, one of them accepts
//! to begin etcd, once.

mod daemon;
#[path = "../support/talos.rs"]
mod talos;

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use talos::{Answer, Cluster, Talos};
use talos_pxe::decisions::bootstrap::{Candidate, Choice};
use talos_pxe::edges::bootstrap::{self, Settings};
use talos_pxe::state::store::{BootId, Store};
use talos_pxe::time::BootTime;
use talos_pxe::wire::{MacAddr, Role};
use tempfile::TempDir;
use xtask::lab::process::Process;

/// How long a step may take on a busy computer.
const SOON: Duration = Duration::from_secs(60);
/// Set for the process that [`bootstrap_in_a_process_of_its_own`] is: its [`Daemon`].
const DAEMON: &str = "XTASK_BOOTSTRAP_DAEMON";

/// A daemon that only bootstraps.
#[derive(Serialize, Deserialize)]
struct Daemon {
    /// With `assets` and `state`.
    root: PathBuf,
    port: u16,
    /// Addresses and roles of the machines, in the order in which they were first seen.
    machines: Vec<(Ipv4Addr, Role)>,
}

impl Daemon {
    fn candidates(&self) -> Vec<Candidate> {
        let machines = self.machines.iter().zip(1_u8..);
        let candidate = |((address, role), n): (&(Ipv4Addr, Role), u8)| Candidate {
            mac: MacAddr([2, 0, 0, 0, 0, n]),
            address: *address,
            role: role.clone(),
            first_seen: n.into(),
        };
        machines.map(candidate).collect()
    }
}

/// Not a test of its own: the daemon that the tests start, and kill.
#[test]
#[ignore = "started by the other tests"]
fn bootstrap_in_a_process_of_its_own() -> Result<()> {
    let Ok(daemon) = std::env::var(DAEMON) else { return Ok(()) };
    let daemon: Daemon = serde_json::from_str(&daemon)?;
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let (store, _) = Store::open(&daemon.root.join("state"), BootId::current()?, BootTime::now())?;
    let settings = Settings {
        choice: Choice::Auto,
        assets: daemon.root.join("assets"),
        port: daemon.port,
        patience: Duration::ZERO,
    };
    let runtime = tokio::runtime::Runtime::new()?;
    // On any thread, as the appliance does.
    let bootstrap = bootstrap::run(settings, Arc::new(store), move || daemon.candidates());
    runtime.block_on(runtime.spawn(bootstrap))?
}

/// A cluster of two machines that are to be, and a folder for the daemon.
struct Site {
    cluster: Cluster,
    root: TempDir,
    port: u16,
}

const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

impl Site {
    /// The listeners are for the two machines.
    fn new() -> Result<(Site, TcpListener, TcpListener)> {
        let root = tempfile::tempdir()?;
        fs::create_dir(root.path().join("assets"))?;
        // A port that is free at one address may be in use at the other.
        let bind = || {
            let first = TcpListener::bind((FIRST, 0)).ok()?;
            let port = first.local_addr().ok()?.port();
            Some((port, first, TcpListener::bind((SECOND, port)).ok()?))
        };
        let (port, first, second) = (0..20).find_map(|_| bind()).context("no free port")?;
        let site = Site { cluster: Cluster::new()?, root, port };
        site.write_talosconfig(&site.cluster.talosconfig()?)?;
        Ok((site, first, second))
    }

    fn talosconfig(&self) -> PathBuf {
        self.root.path().join("assets/talosconfig")
    }

    fn write_talosconfig(&self, text: &str) -> Result<()> {
        // Never half written.
        let new = self.root.path().join("talosconfig");
        fs::write(&new, text)?;
        fs::set_permissions(&new, Permissions::from_mode(0o600))?;
        Ok(fs::rename(new, self.talosconfig())?)
    }

    /// Starts the daemon, with the first machine alone or with both.
    fn start(&self, machines: &[Ipv4Addr]) -> Result<Process> {
        let role: Role = "controlplane".parse()?;
        let daemon = Daemon {
            root: self.root.path().to_owned(),
            port: self.port,
            machines: machines.iter().map(|address| (*address, role.clone())).collect(),
        };
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["--exact", "bootstrap_in_a_process_of_its_own", "--ignored", "--nocapture"])
            .env(DAEMON, serde_json::to_string(&daemon)?)
            .env_remove("RUST_LOG");
        Process::start("the daemon", command, None)
    }

    /// Starts the daemon and waits until it says that the cluster is bootstrapped; returns its log.
    fn finish(&self, machines: &[Ipv4Addr]) -> Result<String> {
        done(self.start(machines)?)
    }
}

fn done(mut daemon: Process) -> Result<String> {
    let status = daemon.wait(SOON)?;
    ensure!(status.success(), "it failed:\n{}", daemon.text());
    Ok(daemon.text())
}

/// Kills it with `kill -9`.
fn kill(daemon: Process) {
    drop(daemon);
}

#[test]
fn a_machine_is_told_until_it_is_ready_and_never_again() -> Result<()> {
    let (site, first, second) = Site::new()?;
    let second = Talos::start(&site.cluster, second, &[])?;
    let first = Talos::start(&site.cluster, first, &[Answer::NotReady, Answer::NotReady])?;
    let log = site.finish(&[FIRST, SECOND])?;
    let seen = first.seen();
    assert_eq!((seen.told, seen.accepted, second.seen().told), (3, 1, 0), "{log}");
    assert!(log.contains("FailedPrecondition: time is not in sync yet"), "{log}");

    // Another daemon with the same state asks nobody.
    site.finish(&[FIRST, SECOND])?;
    assert_eq!(first.seen(), seen);
    Ok(())
}

#[test]
fn etcd_that_exists_already_is_the_end() -> Result<()> {
    let (site, first, _second) = Site::new()?;
    let first = Talos::start(&site.cluster, first, &[Answer::AlreadyExists])?;
    let log = site.finish(&[FIRST])?;
    let seen = first.seen();
    assert_eq!((seen.told, seen.accepted), (1, 0), "{log}");
    site.finish(&[FIRST])?;
    assert_eq!(first.seen(), seen);
    Ok(())
}

#[test]
fn a_cluster_that_exists_already_is_left_alone() -> Result<()> {
    let (site, first, second) = Site::new()?;
    let (first, second) =
        (Talos::start(&site.cluster, first, &[])?, Talos::start(&site.cluster, second, &[])?);
    second.begin_etcd();
    site.finish(&[FIRST, SECOND])?;
    assert_eq!((first.seen().told, second.seen().told), (0, 0));
    Ok(())
}

#[test]
fn killed_before_it_hears_that_it_was_accepted() -> Result<()> {
    let (site, first, second) = Site::new()?;
    let second = Talos::start(&site.cluster, second, &[])?;
    let answers = [Answer::NotReady, Answer::SilentlyAccepted];
    let first = Talos::start(&site.cluster, first, &answers)?;
    let daemon = site.start(&[FIRST, SECOND])?;
    first.wait_until(|seen| seen.accepted == 1)?;
    kill(daemon);
    let log = site.finish(&[FIRST, SECOND])?;
    let seen = first.seen();
    assert_eq!((seen.told, seen.accepted, second.seen().told), (2, 1, 0), "{log}");
    assert!(log.contains("not known to have accepted"), "{log}");
    Ok(())
}

#[test]
fn killed_again_and_again_before_it_was_accepted() -> Result<()> {
    let (site, first, second) = Site::new()?;
    let second = Talos::start(&site.cluster, second, &[])?;
    let first = Talos::start(&site.cluster, first, &[Answer::Silence; 3])?;
    for told in 1..=3 {
        let daemon = site.start(&[FIRST, SECOND])?;
        first.wait_until(|seen| seen.told == told)?;
        kill(daemon);
    }
    let log = site.finish(&[FIRST, SECOND])?;
    let seen = first.seen();
    assert_eq!((seen.told, seen.accepted, second.seen().told), (4, 1, 0), "{log}");
    Ok(())
}

#[test]
fn no_other_machine_is_told_when_the_first_falls_silent() -> Result<()> {
    let (site, first, second) = Site::new()?;
    let first = Talos::start(&site.cluster, first, &[Answer::Silence])?;
    let daemon = site.start(&[FIRST])?;
    first.wait_until(|seen| seen.told == 1)?;
    kill(daemon);
    drop(first);

    let mut daemon = site.start(&[])?;
    daemon.wait_for("If it is gone for good", SOON)?;
    kill(daemon);
    let second = Talos::start(&site.cluster, second, &[])?;
    let mut daemon = site.start(&[FIRST, SECOND])?;
    let line = daemon.wait_for("If it is gone for good", SOON)?.text;
    assert!(
        line.contains("bootstrap --endpoints IP") && line.contains("02:00:00:00:00:01"),
        "{line}"
    );
    second.wait_until(|seen| seen.asked >= 3)?;
    assert_eq!(second.seen().told, 0);
    // The operator decides.
    second.begin_etcd();
    done(daemon)?;
    assert_eq!(second.seen().told, 0);
    Ok(())
}

#[test]
fn strangers_are_neither_told_nor_obeyed() -> Result<()> {
    let (site, first, second) = Site::new()?;
    let stranger = Cluster::new()?;
    let first = Talos::start(&site.cluster, first, &[])?;
    let second = Talos::start(&stranger, second, &[])?;
    // A certificate of another cluster: the machine lets nobody in with it.
    site.write_talosconfig(&stranger.talosconfig_for(&site.cluster)?)?;
    let mut daemon = site.start(&[FIRST, SECOND])?;
    daemon.wait_for("invalid peer certificate", SOON)?;
    first.wait_until(|seen| seen.connections >= 2)?;
    let line = daemon.wait_for("address=127.0.0.2", SOON)?.text;
    assert!(line.contains("the talosconfig is not of its cluster"), "{line}");
    assert_eq!((first.seen().asked, first.seen().told), (0, 0));

    site.write_talosconfig(&site.cluster.talosconfig()?)?;
    done(daemon)?;
    assert_eq!((first.seen().accepted, second.seen().asked, second.seen().told), (1, 0, 0));
    Ok(())
}

#[test]
fn what_is_missing_may_come_later() -> Result<()> {
    let (site, first, _second) = Site::new()?;
    drop(first);
    let good = site.cluster.talosconfig()?;
    fs::remove_file(site.talosconfig())?;
    let mut daemon = site.start(&[FIRST])?;
    daemon.wait_for("assets/talosconfig", SOON)?;
    let (start, secret) = good.split_once("key: ").context("no key")?;
    site.write_talosconfig(&format!("{start}key: [{secret}]"))?;
    daemon.wait_for("not what `talosctl gen config` writes", SOON)?;
    site.write_talosconfig(&good)?;
    daemon.wait_for("refused", SOON)?;
    open_to_others(&site.talosconfig())?;
    daemon.wait_for("chmod 600", SOON)?;
    let first = Talos::start(&site.cluster, TcpListener::bind((FIRST, site.port))?, &[])?;
    let log = done(daemon)?;
    assert_eq!(first.seen().accepted, 1);
    assert!(!log.contains(secret.trim()) && !log.contains("PRIVATE KEY"), "{log}");
    Ok(())
}

fn open_to_others(path: &Path) -> Result<()> {
    Ok(fs::set_permissions(path, Permissions::from_mode(0o644))?)
}
