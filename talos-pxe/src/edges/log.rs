//! The log, on stderr. Nobody waits until it is read: a serial console takes 80 lines a second, and
//! a rack that is switched on writes more.

use std::io::{self, BufWriter, IsTerminal, Stderr, Write};
use std::sync::{Arc, OnceLock};

use tracing::warn;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::cli::{LogFormat, Serve};

/// The most lines that wait to be written; more are lost, and counted.
const LINES: usize = 8192;

/// Starts to log as the flags say, until the returned guard is dropped. That writes what waits, if
/// stderr takes it within a second.
pub fn to_stderr(serve: &Serve) -> WorkerGuard {
    let default = match serve.verbose {
        0 => "info",
        1 => "info,talos_pxe=debug",
        _ => "info,talos_pxe=trace",
    };
    // The DNS libraries warn of each odd message; anybody on the network could fill the log.
    let default = format!("{default},hickory_proto=off,hickory_net=off,hickory_resolver=off");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let lost = Arc::default();
    let output = Output { stderr: BufWriter::new(io::stderr()), lost: Arc::clone(&lost), told: 0 };
    let builder = NonBlockingBuilder::default().buffered_lines_limit(LINES).thread_name("log");
    let (writer, guard) = builder.finish(output);
    let _ = lost.set(writer.error_counter());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    match serve.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    guard
}

/// Where lines go: many at a time.
struct Output {
    stderr: BufWriter<Stderr>,
    lost: Arc<OnceLock<ErrorCounter>>,
    told: usize,
}

impl Write for Output {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.stderr.write(lines)
    }

    /// Comes when nothing more waits, so that there is room for a word on what was lost.
    fn flush(&mut self) -> io::Result<()> {
        let lost = self.lost.get().map_or(0, ErrorCounter::dropped_lines);
        if lost > self.told {
            warn!(lines = lost - self.told, "the log lost lines: stderr is read too slowly");
            self.told = lost;
        }
        self.stderr.flush()
    }
}
