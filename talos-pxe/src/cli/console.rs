//! The flags of `talos-pxe console`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::Serve;

/// The flags of `talos-pxe console`: those of `serve`, which it starts, and where its screen is.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Console {
    /// What is served.
    #[command(flatten)]
    pub serve: Serve,

    /// A terminal to show it on and to take keys from; may be repeated. What is no terminal is
    /// left out.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/dev/tty",
        env = "TALOS_PXE_TTY",
        value_delimiter = ','
    )]
    pub tty: Vec<PathBuf>,

    /// A terminal or a file for the log (default: only its last error is shown).
    #[arg(long, value_name = "FILE", env = "TALOS_PXE_LOG")]
    pub log: Option<PathBuf>,

    /// How long it asks which interface to serve, when there are several, in seconds.
    #[arg(long, value_name = "SECS", default_value_t = 15, env = "TALOS_PXE_WAIT",
          value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub wait: u32,

    /// Offer to power off and to reboot: it then ends with exit code 10 or 11, and who started it
    /// does so.
    #[arg(long, env = "TALOS_PXE_POWER")]
    pub power: bool,

    /// The flags for the daemon, as they stood on the command line, without `--if`.
    #[arg(skip)]
    pub given: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  talos-pxe console --root /srv/talos --log talos-pxe.log
      Choose an interface, and see what becomes of the machines.
  talos-pxe console --config /boot/talos-pxe.toml --tty /dev/tty1 --tty /dev/ttyS0 --log /dev/tty2
      As the screen of a computer that does nothing else.";
