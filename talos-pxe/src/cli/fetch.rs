//! The flags of `talos-pxe assets fetch`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::decisions::fetch::{Arch, BaseUrl, Schematic, Version};

/// `talos-pxe assets`.
#[derive(Clone, Debug, Args)]
pub struct Assets {
    /// What to do with them.
    #[command(subcommand)]
    pub command: AssetsCommand,
}

/// A subcommand of `talos-pxe assets`.
#[derive(Clone, Debug, Subcommand)]
pub enum AssetsCommand {
    /// Download Talos's kernel and initramfs into the root's `assets/`.
    Fetch(Box<Fetch>),
}

const EXAMPLES: &str = "\
Examples:
  talos-pxe assets fetch --root /srv/talos --talos v1.13.9
      Kernel and initramfs for amd64, from the Image Factory.
  talos-pxe assets fetch --talos v1.13.9 --release --arch amd64 --arch arm64 --ipxe
      From the release's page, which publishes checksums; and iPXE's binaries.
  talos-pxe assets fetch --talos v1.13.9 --schematic-file extensions.yaml
      With the system extensions that the file names.

A download that was interrupted goes on where it stopped when the command is run again.";

/// The flags of `talos-pxe assets fetch`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Fetch {
    /// Version of Talos.
    #[arg(long, value_name = "VERSION", env = "TALOS_PXE_TALOS")]
    pub talos: Version,

    /// Architecture of the machines; may be repeated.
    #[arg(
        long,
        value_enum,
        value_name = "ARCH",
        default_value = "amd64",
        env = "TALOS_PXE_ARCH",
        value_delimiter = ','
    )]
    pub arch: Vec<Arch>,

    /// Folder in which `assets/` is filled.
    #[arg(long, value_name = "DIR", default_value = ".", env = "TALOS_PXE_ROOT")]
    pub root: PathBuf,

    /// Schematic of the Image Factory (default: Talos as it is released).
    #[arg(long, value_name = "ID", conflicts_with_all = ["release", "mirror"],
          env = "TALOS_PXE_SCHEMATIC")]
    pub schematic: Option<Schematic>,

    /// Customization (YAML) to give the Image Factory, which makes a schematic of it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["schematic", "release", "mirror"],
          env = "TALOS_PXE_SCHEMATIC_FILE")]
    pub schematic_file: Option<PathBuf>,

    /// Another Image Factory.
    #[arg(
        long,
        value_name = "URL",
        default_value = "https://factory.talos.dev",
        env = "TALOS_PXE_FACTORY"
    )]
    pub factory: BaseUrl,

    /// From the release's page on GitHub, which publishes checksums.
    #[arg(long, env = "TALOS_PXE_RELEASE")]
    pub release: bool,

    /// From a folder with a release's files, and `sha256sum.txt` or `sha512sum.txt` beside them.
    #[arg(long, value_name = "URL", conflicts_with = "release", env = "TALOS_PXE_MIRROR")]
    pub mirror: Option<BaseUrl>,

    /// Unified kernel images, too, which UEFI boots over HTTP without iPXE.
    #[arg(long, env = "TALOS_PXE_UKI")]
    pub uki: bool,

    /// iPXE's binaries, too, into the root's `firmware/`.
    #[arg(long, env = "TALOS_PXE_IPXE")]
    pub ipxe: bool,

    /// Where iPXE's binaries are published.
    #[arg(
        long,
        value_name = "URL",
        default_value = "https://boot.ipxe.org",
        env = "TALOS_PXE_IPXE_MIRROR"
    )]
    pub ipxe_mirror: BaseUrl,

    /// How long a server may be silent, in seconds. The Image Factory may take a while to make
    /// what nobody has asked it for before.
    #[arg(long, value_name = "SECS", default_value_t = 120, env = "TALOS_PXE_TIMEOUT",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
}
