//! `talos-pxe console`: chooses an interface, runs the daemon on it, and shows what becomes of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::cli::console as cli;
use crate::decisions::console::{Console, Doing, Ending, Step};
use crate::decisions::interface::{Interface, Link, choose};
use crate::edges::admin::client::Overview;
use crate::edges::console::daemon::{Daemon, Log, News};
use crate::edges::console::screen::Screen;
use crate::edges::console::view::Scene;
use crate::edges::ethtool;
use crate::edges::netlink::Netlink;
use crate::time::{BootTime, WallTime};

/// How often the interfaces and the daemon are asked.
const BEAT: Duration = Duration::from_secs(1);
/// More machines than a screen shows.
const MOST_MACHINES: usize = 200;
/// How long a terminal may take to show the last scene.
const LAST_SCENE: Duration = Duration::from_secs(1);

/// Runs the console until somebody or a signal ends it; says how it ended.
///
/// # Errors
/// When the kernel refuses what all of it needs.
pub async fn run(flags: &cli::Console) -> anyhow::Result<Ending> {
    let log = flags.log.as_deref().map_or_else(Log::default, open_log);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let patience = Duration::from_secs(flags.wait.into());
    let named = flags.serve.interface.clone();
    let (console, first) = Console::start(named, flags.power, patience, BootTime::now());
    let admin = flags.serve.admin;
    let mut scene = Scene {
        console,
        hardware: Vec::new(),
        overview: None,
        admin,
        log: String::new(),
        now: BootTime::now(),
        wall: WallTime::now(),
    };
    let (show, scenes) = watch::channel(scene.clone());
    let (press, mut keys) = mpsc::channel(16);
    let mut screens = open_screens(&flags.tty, &scenes, &press, &log);
    drop(scenes);
    let (tell, overview) = watch::channel(None);
    tokio::spawn(follow(admin, tell));
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut cards = Cards { netlink: Netlink::connect()?, raised: Vec::new() };
    let mut running = Running { flags, log, daemon: None };

    let mut step = first;
    loop {
        match step {
            Step::Stay => {}
            Step::Serve(interface) => {
                cards.lower(Some(&interface)).await;
                if let Err(error) = running.start(&interface) {
                    scene.console.ended(format!("{error:#}"), BootTime::now());
                }
            }
            Step::Stop => running.stop().await,
            Step::End(ending) => {
                show.send_replace(scene);
                running.stop().await;
                cards.lower(None).await;
                drop(show);
                let all = async { while screens.join_next().await.is_some() {} };
                let _ = tokio::time::timeout(LAST_SCENE, all).await;
                return Ok(ending);
            }
        }
        scene.overview = match scene.console.doing() {
            Doing::Serving { .. } => overview.borrow().clone(),
            _ => None,
        };
        (scene.now, scene.wall) = (BootTime::now(), WallTime::now());
        show.send_replace(scene.clone());
        step = loop {
            break tokio::select! {
                Some(key) = keys.recv() => scene.console.key(key, BootTime::now()),
                news = running.next() => match news {
                    News::Line(line) => {
                        // The next beat shows it: a log may be faster than any screen.
                        scene.log = line;
                        continue;
                    }
                    News::Ended(cause) => {
                        running.daemon = None;
                        scene.console.ended(cause, BootTime::now());
                        Step::Stay
                    }
                },
                _ = beat.tick() => cards.look(&mut scene).await?,
                _ = interrupt.recv() => scene.console.end(Ending::Stopped),
                _ = terminate.recv() => scene.console.end(Ending::Stopped),
            };
        };
    }
}

fn open_log(path: &Path) -> Log {
    Log::open(path).unwrap_or_else(|error| {
        eprintln!("talos-pxe: no log in {}: {error}", path.display());
        Log::default()
    })
}

/// Shows the scenes on each terminal that is there.
fn open_screens(
    paths: &[PathBuf],
    scenes: &watch::Receiver<Scene>,
    press: &mpsc::Sender<char>,
    log: &Log,
) -> JoinSet<()> {
    let mut screens = JoinSet::new();
    for path in paths {
        match Screen::open(path) {
            Ok(screen) => drop(screens.spawn(screen.serve(scenes.clone(), press.clone()))),
            Err(error) => {
                log.line(&format!("talos-pxe console: not on {}: {error}", path.display()));
            }
        }
    }
    screens
}

/// The daemon, while it runs.
struct Running<'a> {
    flags: &'a cli::Console,
    log: Log,
    daemon: Option<Daemon>,
}

impl Running<'_> {
    fn start(&mut self, interface: &str) -> anyhow::Result<()> {
        self.daemon = Some(Daemon::start(&self.flags.given, interface, self.log.clone())?);
        Ok(())
    }

    async fn stop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.stop().await;
        }
    }

    async fn next(&mut self) -> News {
        match &mut self.daemon {
            Some(daemon) => daemon.next().await,
            None => std::future::pending().await,
        }
    }
}

/// The network cards that were set up only to see whether they have a link.
struct Cards {
    netlink: Netlink,
    raised: Vec<Interface>,
}

impl Cards {
    /// Shows the console the interfaces as they are now.
    async fn look(&mut self, scene: &mut Scene) -> anyhow::Result<Step> {
        let links = self.netlink.links().await?;
        let step = scene.console.tick(&links, BootTime::now());
        scene.hardware = scene.console.candidates().iter().map(hardware).collect();
        if matches!(scene.console.doing(), Doing::Choosing(_)) {
            self.raise(scene.console.candidates(), &links).await;
        }
        Ok(step)
    }

    /// Sets up those that are down: else nobody could tell whether they have a link.
    async fn raise(&mut self, candidates: &[Link], links: &[Link]) {
        for link in candidates.iter().filter(|link| !link.up) {
            let Ok(interface) = choose(Some(&link.name), links) else { continue };
            // Without rights the daemon says what is missing.
            if self.netlink.set_up(&interface, true).await.is_ok() {
                self.raised.push(interface);
            }
        }
    }

    /// Sets down those that were set up, but for one that is served from now on.
    async fn lower(&mut self, served: Option<&str>) {
        let all = std::mem::take(&mut self.raised);
        for interface in all {
            if Some(interface.name.as_str()) == served {
                self.raised.push(interface);
            } else {
                // It may have been pulled out.
                let _ = self.netlink.set_up(&interface, false).await;
            }
        }
    }
}

fn hardware(link: &Link) -> String {
    let driver = ethtool::driver(&link.name);
    let speed = ethtool::speed(&link.name).map(|speed| format!("{speed} Mb/s"));
    [driver, speed].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Asks the daemon how it fares, again and again.
async fn follow(admin: SocketAddr, tell: watch::Sender<Option<Overview>>) {
    let mut asked = admin;
    if asked.ip().is_unspecified() {
        asked.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    loop {
        let asking = tokio::task::spawn_blocking(move || Overview::ask(asked, MOST_MACHINES));
        tell.send_replace(asking.await.ok().and_then(Result::ok));
        tokio::time::sleep(BEAT).await;
    }
}
