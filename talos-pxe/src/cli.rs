//! The command line.

mod admin;
pub mod check;
pub mod config;
pub mod console;
pub mod fetch;
pub mod template;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::Ipv4Net;
use talos_pxe_ebpf::machines::Choice;
use talos_pxe_ebpf::maps::DEFAULT_CAPACITY;

pub use admin::{Action, DEFAULT_ADMIN, Machines, Status, Target};

use crate::decisions::bootstrap;
use crate::decisions::dhcp::pool::AddressRange;
use crate::decisions::dns;
use crate::decisions::interface::{ModeChoice, Settings};
use crate::decisions::transfers::Limit;
use crate::wire::{AssetPath, Hostname};

/// Boots every PXE-capable machine on the network into Talos Linux.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; `serve` when left out.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The flags of `serve`, accepted without naming it.
    #[command(flatten)]
    pub serve: Serve,
}

impl Cli {
    /// The command to run; `serve` when none is named.
    pub fn command(self) -> Command {
        self.command.unwrap_or(Command::Serve(self.serve))
    }

    /// The flags of `serve`, where the command has them.
    fn serving(&self) -> Option<&Serve> {
        match &self.command {
            None => Some(&self.serve),
            Some(Command::Serve(serve)) => Some(serve),
            Some(Command::Check(check)) => Some(&check.serve),
            Some(Command::Console(console)) => Some(&console.serve),
            Some(
                Command::Config(_) | Command::Assets(_) | Command::Status(_) | Command::Machines(_),
            ) => None,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  talos-pxe --root /srv/talos --if eth1
      Find out whether the network on eth1 has a DHCP server; if so, boot machines beside it,
      else be the DHCP server, with the address 192.168.123.1/24.
  talos-pxe --if eth1 --mode server --addr 10.0.0.1/24 --range 10.0.0.100-10.0.0.199
      Be the DHCP server of 10.0.0.0/24.
  talos-pxe machines assign 52:54:00:12:34:56 worker
      Tell the running talos-pxe what this machine is for.

Every flag also reads an environment variable: --lease-time reads TALOS_PXE_LEASE_TIME.";

/// A subcommand.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the network (the default).
    Serve(Serve),

    /// Say whether it could serve, without changing anything; exit code 1 if not.
    Check(check::Check),

    /// Serve with a screen for people: the interface to choose, what is served, and the machines.
    Console(console::Console),

    /// Print a config file with every setting and its meaning.
    Config(template::Config),

    /// Manage what machines boot.
    Assets(fetch::Assets),
    /// Show how a running talos-pxe fares.
    Status(Status),
    /// List the machines that a running talos-pxe knows, or change their roles.
    Machines(Machines),
}

/// The flags contradict each other or the network: the exit code is 2, as for a flag that does
/// not parse.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

impl UsageError {
    /// The error that says what is wrong with the flags.
    pub fn new(cause: impl std::fmt::Display) -> Self {
        Self(cause.to_string())
    }
}

/// Whether to advertise ourselves as an IPv6 router without a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RaChoice {
    /// On in server mode, off in proxy mode.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// How the XDP program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum XdpChoice {
    /// Native where the driver can, else generic, else none.
    Auto,
    /// In the driver, or fail.
    Native,
    /// In the kernel's network stack, or fail.
    Generic,
    /// Not at all.
    Off,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The flags of `talos-pxe serve`.
#[derive(Clone, Debug, Args)]
pub struct Serve {
    /// A file (TOML) that sets what no flag and no environment variable does: `lease-time = 300`.
    #[arg(long, value_name = "FILE", env = "TALOS_PXE_CONFIG")]
    pub config: Option<PathBuf>,

    /// Folder with `assets/`, and optionally `groups/` and `profiles/`.
    #[arg(long, value_name = "DIR", default_value = ".", env = "TALOS_PXE_ROOT")]
    pub root: PathBuf,

    /// Network interface to serve; the only candidate when left out.
    #[arg(long = "if", value_name = "NAME", env = "TALOS_PXE_IF")]
    pub interface: Option<String>,

    /// Our own address and subnet. Without a DHCP server on the network the default is
    /// 192.168.123.1/24; with one it overrides the address that it gave us.
    #[arg(long, value_name = "CIDR", env = "TALOS_PXE_ADDR")]
    pub addr: Option<Ipv4Net>,

    /// Router that clients are told of in server mode (default: ourselves).
    #[arg(long, value_name = "IP", env = "TALOS_PXE_GW")]
    pub gw: Option<Ipv4Addr>,

    /// DNS server to ask for names that are not ours (default: those of the lease); may be
    /// repeated. Clients are told of us.
    #[arg(long, value_name = "IP", env = "TALOS_PXE_DNS", value_delimiter = ',')]
    pub dns: Vec<Ipv4Addr>,

    /// DNS name of the control plane; its addresses are those of the control plane machines.
    #[arg(long, value_name = "NAME", default_value = "controlplane.talos.",
          env = "TALOS_PXE_CONTROLPLANE", value_parser = dns::parse_name)]
    pub controlplane: Hostname,

    /// Take the interface as it is: do not bring it up, do not ask for an address.
    #[arg(long, env = "TALOS_PXE_SKIP_IFUP")]
    pub skip_ifup: bool,

    /// DHCP mode.
    #[arg(long, value_enum, default_value = "auto", env = "TALOS_PXE_MODE")]
    pub mode: ModeChoice,

    /// First and last address to lease in server mode (default: the subnet above our own address).
    #[arg(long, value_name = "A-B", env = "TALOS_PXE_RANGE")]
    pub range: Option<AddressRange>,

    /// Lease time in seconds.
    #[arg(long, value_name = "SECS", default_value_t = 300, env = "TALOS_PXE_LEASE_TIME",
          value_parser = clap::value_parser!(u32).range(30..))]
    pub lease_time: u32,

    /// Folder for what must survive a restart, such as leases (default: `state` in the root).
    #[arg(long, value_name = "DIR", env = "TALOS_PXE_STATE")]
    pub state: Option<PathBuf>,

    /// Where the admin API, the metrics and the page for administrators are. Whoever can reach it
    /// can give roles.
    #[arg(long, value_name = "ADDR:PORT", default_value = DEFAULT_ADMIN, env = "TALOS_PXE_ADMIN")]
    pub admin: SocketAddr,

    /// IPv6 router advertisements without a prefix, which spare every iPXE boot 13 s of waiting.
    #[arg(long, value_enum, default_value = "auto", env = "TALOS_PXE_RA")]
    pub ra: RaChoice,

    /// How the XDP program is attached to the interface.
    #[arg(long, value_enum, default_value = "auto", env = "TALOS_PXE_XDP")]
    pub xdp: XdpChoice,

    /// The most machines that the XDP program can answer; the daemon answers all others. Each takes
    /// 64 octets.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_CAPACITY, env = "TALOS_PXE_XDP_MACHINES",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(Choice::MOST_BUCKETS)))]
    pub xdp_machines: u32,

    /// How many machines load an image at full speed at a time; the others wait in line, and get a
    /// little every two seconds. auto: as many as it takes to fill the link.
    #[arg(long, value_name = "N|auto|off", default_value_t = Limit::Auto,
          env = "TALOS_PXE_MAX_TRANSFERS")]
    pub max_transfers: Limit,

    /// Folder with iPXE's binaries (default: `firmware` in the root, or else /usr/lib/ipxe).
    #[arg(long, value_name = "DIR", env = "TALOS_PXE_FIRMWARE")]
    pub firmware: Option<PathBuf>,
    /// Which machine is told to bootstrap the cluster, once there is `assets/talosconfig`.
    #[arg(long, value_enum, default_value = "role", env = "TALOS_PXE_BOOTSTRAP")]
    pub bootstrap: bootstrap::Choice,

    /// The iPXE binary for UEFI machines, a file of the firmware folder.
    #[arg(long, value_name = "FILE", default_value = "snponly.efi", env = "TALOS_PXE_UEFI_FILE")]
    pub uefi_file: String,

    /// The iPXE binary for BIOS machines, a file of the firmware folder.
    #[arg(long, value_name = "FILE", default_value = "undionly.kpxe", env = "TALOS_PXE_BIOS_FILE")]
    pub bios_file: String,

    /// The iPXE binary for 64-bit ARM machines, a file of the firmware folder (default:
    /// `snponly-arm64.efi`, if there is one).
    #[arg(long, value_name = "FILE", env = "TALOS_PXE_ARM64_FILE")]
    pub arm64_file: Option<String>,

    /// A UKI of Talos, such as `metal-amd64-uki.efi`, a file of the assets folder: UEFI machines
    /// that boot by HTTP then start it instead of iPXE, without a menu and without a config.
    #[arg(long, value_name = "FILE", env = "TALOS_PXE_UEFI_HTTP_FILE")]
    pub uefi_http_file: Option<AssetPath>,

    /// Ports, for tests: real firmware expects the defaults.
    #[command(flatten)]
    pub ports: Ports,

    /// How log lines are written.
    #[arg(long, value_enum, default_value = "text", env = "TALOS_PXE_LOG_FORMAT")]
    pub log_format: LogFormat,

    /// Log more: -v for each decision, -vv for each frame. RUST_LOG overrides it.
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

impl From<&Serve> for Settings {
    fn from(flags: &Serve) -> Self {
        Self {
            interface: flags.interface.clone(),
            mode: flags.mode,
            address: flags.addr,
            skip_ifup: flags.skip_ifup,
        }
    }
}

/// The ports of each service.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Ports (for tests: firmware expects the defaults)")]
pub struct Ports {
    /// HTTP (TCP).
    #[arg(long, value_name = "PORT", default_value_t = 8080, env = "TALOS_PXE_HTTP_PORT")]
    pub http_port: u16,

    /// TFTP (UDP).
    #[arg(long, value_name = "PORT", default_value_t = 69, env = "TALOS_PXE_TFTP_PORT")]
    pub tftp_port: u16,

    /// DHCP server (UDP).
    #[arg(long, value_name = "PORT", default_value_t = 67, env = "TALOS_PXE_DHCP_PORT")]
    pub dhcp_port: u16,

    /// PXE boot server (UDP).
    #[arg(long, value_name = "PORT", default_value_t = 4011, env = "TALOS_PXE_PXE_PORT")]
    pub pxe_port: u16,

    /// DNS (UDP and TCP).
    #[arg(long, value_name = "PORT", default_value_t = 53, env = "TALOS_PXE_DNS_PORT")]
    pub dns_port: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_xdp_program_knows_at_least_one_machine_and_no_more_than_it_can() {
        let parse = |machines: &str| {
            let cli = Cli::try_parse_from(["talos-pxe", "--xdp-machines", machines]);
            cli.ok().map(|cli| cli.serve.xdp_machines)
        };
        assert_eq!(parse("1"), Some(1));
        assert_eq!(parse("4194304"), Some(4_194_304));
        for wrong in ["0", "4194305", "-1", "many"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
