//! `cargo xtask torture`: long runs of faults, each of which has to end well.

mod daemon;
mod frames;
mod kill;
mod ledger;
mod newcomers;
mod roles;

use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use fastrand::Rng;

pub use kill::{Report, kill};

use crate::lab::server::Server;
use crate::load::packets::Packets;
use crate::load::reply::Reply;
use daemon::Daemon;

/// Tortures talos-pxe. Needs root.
#[derive(Debug, Args)]
pub struct Torture {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Kill(Kill),
    Frames(Frames),
}

/// Kills the daemon (SIGKILL) while machines lease, renew and release addresses, and restarts it.
///
/// Fails when an address is promised to two machines at a time, or a promise is forgotten.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask torture kill                 100 times: some minutes.
  cargo xtask torture kill --rounds 10     What the tests do.
  cargo xtask torture kill --seed 7        The same choices as in an earlier run.
  cargo xtask torture kill --new-clients 2000 --rounds 200
                                           While machines come that were never seen.")]
pub struct Kill {
    /// How often.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub rounds: u32,

    /// How the daemon attaches its XDP program: a value of its flag --xdp.
    #[arg(long, value_name = "MODE", default_value = "auto")]
    pub xdp: String,

    /// Instead of machines that come again: so many new ones a second, some of which choose a role.
    #[arg(long, value_name = "N")]
    pub new_clients: Option<u32>,

    /// What all random choices come from; a failure names it.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// Damages real requests and gives them to the XDP program, in the kernel but without a network.
///
/// Fails when the program answers one as the daemon would not, touches one that it passes on, or
/// fails itself. The tests do the same with 100,000 frames.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask torture frames                      Ten million frames: some minutes.
  cargo xtask torture frames --rounds 100000      As many as the tests.")]
pub struct Frames {
    /// How many frames.
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    pub rounds: u64,

    /// What all damage comes from; a failure names it.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// Does it.
///
/// # Errors
/// When the daemon does not bear it.
pub fn main(torture: &Torture) -> Result<()> {
    match &torture.what {
        What::Kill(options) => {
            println!("{}", kill(options)?);
            Ok(())
        }
        What::Frames(options) => frames::frames(options),
    }
}

/// Starts the daemon and waits until it serves. The moments in which it opens its state are worth a
/// kill of their own, sometimes.
fn interrupted_start(daemon: &Daemon, random: &mut Rng, report: &mut Report) -> Result<Server> {
    let mut server = daemon.launch()?;
    if random.u8(..4) == 0 {
        thread::sleep(Duration::from_millis(random.u64(..150)));
        drop(server);
        report.kills += 1;
        server = daemon.launch()?;
    }
    server.wait_until_ready()?;
    Ok(server)
}

/// The next reply that came, if there is one.
fn next_reply(packets: &mut Packets) -> Result<Option<Reply>> {
    match packets.receive(Reply::parse) {
        None => Ok(None),
        Some(None) => bail!("the daemon sent something that is no DHCP reply"),
        Some(reply) => Ok(reply),
    }
}
