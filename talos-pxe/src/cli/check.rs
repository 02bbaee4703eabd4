//! The flags of `talos-pxe check`.

use clap::Args;

use super::Serve;

/// The flags of `talos-pxe check`: those of `serve`, to check that it could serve with them.
#[derive(Clone, Debug, Args)]
pub struct Check {
    /// What would be served.
    #[command(flatten)]
    pub serve: Serve,

    /// Print JSON.
    #[arg(long, env = "TALOS_PXE_JSON")]
    pub json: bool,

    /// Ask the network for a DHCP server, which sends a DISCOVER. Otherwise nothing is sent.
    #[arg(long, env = "TALOS_PXE_PROBE")]
    pub probe: bool,
}
