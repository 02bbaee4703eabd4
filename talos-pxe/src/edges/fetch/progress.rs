//! What is seen of a download: a bar on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal as _};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};

/// The downloads' place on the screen.
pub(super) struct Progress {
    bars: Option<MultiProgress>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { bars: io::stderr().is_terminal().then(MultiProgress::new) }
    }

    /// A file's download, of which `have` bytes are there.
    pub(super) fn file(&self, name: &str, url: &str, have: u64) -> ProgressBar {
        let Some(bars) = &self.bars else {
            let start = match have {
                0 => String::new(),
                have => format!(", from {} on", HumanBytes(have)),
            };
            self.say(&format!("fetching {url}{start}"));
            return ProgressBar::hidden();
        };
        let style = "{msg:24!} {bar:30} {bytes:>11} of {total_bytes:11} {bytes_per_sec:12} {eta}";
        let bar = bars.add(ProgressBar::new(0).with_message(name.to_owned()).with_position(have));
        bar.reset_eta();
        bar.with_style(
            ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
        )
    }

    /// A line that stays.
    pub(super) fn say(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }
}
