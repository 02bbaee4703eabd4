//! The subcommands that talk to a running talos-pxe.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::wire::{MacAddr, Role};

/// Where the admin API is, unless told otherwise.
pub const DEFAULT_ADMIN: &str = "127.0.0.1:9090";

/// A running talos-pxe, and how to show what it says.
#[derive(Clone, Copy, Debug, Args)]
pub struct Target {
    /// The running talos-pxe's admin API, as its own --admin names it.
    #[arg(long, value_name = "ADDR:PORT", default_value = DEFAULT_ADMIN,
          env = "TALOS_PXE_ADMIN", global = true)]
    pub admin: SocketAddr,

    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// `talos-pxe status`.
#[derive(Clone, Copy, Debug, Args)]
#[command(after_help = STATUS_EXAMPLES)]
pub struct Status {
    /// The talos-pxe that is asked.
    #[command(flatten)]
    pub target: Target,
}

const STATUS_EXAMPLES: &str = "\
Examples:
  talos-pxe status
  talos-pxe status --json | jq .leases";

/// `talos-pxe machines`.
#[derive(Clone, Debug, Args)]
#[command(after_help = MACHINES_EXAMPLES)]
pub struct Machines {
    /// What to do; `list` when left out.
    #[command(subcommand)]
    pub action: Option<Action>,

    /// The talos-pxe that is asked.
    #[command(flatten)]
    pub target: Target,
}

const MACHINES_EXAMPLES: &str = "\
Examples:
  talos-pxe machines
  talos-pxe machines assign 52:54:00:12:34:56 controlplane
      The machine boots with this role from now on, without the menu.
  talos-pxe machines forget 52:54:00:12:34:56
  talos-pxe machines export backup.json";

/// What to do with machines.
#[derive(Clone, Debug, Subcommand)]
pub enum Action {
    /// List the machines that are known (the default).
    List,
    /// Give a machine a role, before it first boots or later.
    Assign {
        /// The machine's MAC address.
        mac: MacAddr,
        /// `init`, `controlplane`, `worker`, or another that a group selects by its type.
        role: Role,
    },
    /// Forget a machine and its role.
    Forget {
        /// The machine's MAC address.
        mac: MacAddr,
    },
    /// Write machines, roles and leases into a file.
    Export {
        /// The file, which is replaced; `-` for standard output.
        file: PathBuf,
    },
    /// Take in machines, roles and leases from a file that `export` wrote.
    Import {
        /// The file; `-` for standard input.
        file: PathBuf,
    },
}
