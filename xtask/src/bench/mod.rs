//! `cargo xtask bench`: how fast talos-pxe is, beside other servers.

mod checker;
mod dhcp;
mod exchanges;
mod generator;
mod http;
mod image_servers;
mod image_turns;
mod images;
mod rack;
mod ratios;
mod report;
mod search;
mod servers;
mod spread;
mod stick;
mod testrun;
mod tftp;
mod tftp_servers;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Measures talos-pxe beside other servers, on private networks. Needs root.
#[derive(Debug, Args)]
pub struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Dhcp(Dhcp),
    Http(Http),
    Stick(Stick),
    Rack(rack::Rack),
    Tftp(Tftp),
}

/// DHCP: the time of an answer, replies and new clients a second without loss, and latency, also
/// while files are sent.
///
/// Thousands of machines at one end of a cable ask a server at the other end: talos-pxe with its
/// XDP program and without, Kea, and dnsmasq. Every reply is checked. Figures are worth something
/// only when nothing else runs on the machine: the table says the load average.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask bench dhcp --quick              Some three minutes.
  cargo xtask bench dhcp --json dhcp.json     All of it, and the figures in a file.
  cargo xtask bench dhcp --only kea           One server.")]
struct Dhcp {
    /// Only what tells most, and shorter.
    #[arg(long)]
    quick: bool,

    /// Write all figures to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Only this server.
    #[arg(long, value_enum)]
    only: Option<servers::Kind>,

    /// How many machines ask; dnsmasq, which is slow with many, gets at most 500.
    #[arg(long, value_name = "N", default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(64..=60_000))]
    machines: u32,
}

/// HTTP: an image to 1, 64 and 1,000 clients; throughput, CPU time and memory, beside nginx.
///
/// Both servers send the same file over a cable of their own, in turn.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask bench http --quick              Half a minute.
  cargo xtask bench http --json http.json     All of it, and the figures in a file.
  cargo xtask bench http --turns              What --max-transfers does, too.
  cargo xtask bench http --program ./talos-pxe-before")]
struct Http {
    /// Fewer and shorter rounds.
    #[arg(long)]
    quick: bool,

    /// Write all figures to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Measure when 64 and 200 clients that ask at once have the image, by --max-transfers.
    #[arg(long)]
    turns: bool,

    /// How many clients download at the same time; may be given several times.
    #[arg(long = "clients", value_name = "N", default_values_t = [1, 64, 1000],
          value_parser = clap::value_parser!(u16).range(1..=8000))]
    clients: Vec<u16>,

    /// Measure another build of talos-pxe too; may be given several times.
    #[arg(long = "program", value_name = "PATH")]
    programs: Vec<PathBuf>,
}

/// TFTP: a boot file to 1, 50 and 500 clients, window 1, 4 and 16, with and without loss, beside
/// tftpd-hpa, dnsmasq and atftpd.
///
/// All servers send the same file over a cable of their own, in turn; every octet is checked. A
/// server that knows of no windows is left out where one is asked for; talos-pxe grants up to 8. A
/// single client has a CPU to itself, as on a real network.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask bench tftp --quick              Some minutes.
  cargo xtask bench tftp --json tftp.json     All of it, and the figures in a file.
  cargo xtask bench tftp --program ./talos-pxe-before")]
struct Tftp {
    /// Fewer rounds; smaller files to many; loss only to 50 clients.
    #[arg(long)]
    quick: bool,

    /// Write all figures to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// How many clients ask at the same time; may be given several times.
    #[arg(long = "clients", value_name = "N", default_values_t = [1, 50, 500],
          value_parser = clap::value_parser!(u16).range(1..=5000))]
    clients: Vec<u16>,

    /// Measure another build of talos-pxe too.
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
}

/// The stick: the size of its image with 100 MB of assets, the time that making it takes, and the
/// time from power-on until it answers a DISCOVER.
///
/// The machine is virtual, and emulated where KVM does not work: real ones are faster, but for
/// their firmware.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask bench stick --quick             By BIOS only.
  cargo xtask bench stick --json stick.json   By BIOS and UEFI, and the figures in a file.")]
struct Stick {
    /// Boot by BIOS only.
    #[arg(long)]
    quick: bool,

    /// Write all figures to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Does it.
///
/// # Errors
/// When a server does not start or answers wrongly.
pub fn main(bench: &Bench) -> Result<()> {
    match &bench.what {
        What::Dhcp(dhcp) => dhcp::main(dhcp),
        What::Http(http) => images::main(http),
        What::Stick(stick) => stick::main(stick),
        What::Rack(rack) => rack::main(rack),
        What::Tftp(tftp) => tftp::main(tftp),
    }
}
