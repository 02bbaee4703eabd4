//! Ctrl-C and `kill`: a flag that every wait looks at, so that work ends by returning and each
//! guard on the way cleans up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// The error of work that ended because the user asked for it.
#[derive(Debug)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

static ASKED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Turns the first SIGINT, SIGTERM or SIGHUP into the flag; a second one exits on the spot.
///
/// # Errors
/// When the kernel refuses a handler.
pub fn catch() -> Result<()> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // The order matters: the shutdown looks at the flag before this signal sets it.
        flag::register_conditional_shutdown(signal, 130, Arc::clone(&ASKED))
            .and_then(|_| flag::register(signal, Arc::clone(&ASKED)))
            .context("cannot handle signals")?;
    }
    Ok(())
}

/// Whether to go on.
///
/// # Errors
/// [`Interrupted`] once a signal came.
pub fn check() -> Result<(), Interrupted> {
    if ASKED.load(Ordering::Relaxed) { Err(Interrupted) } else { Ok(()) }
}
