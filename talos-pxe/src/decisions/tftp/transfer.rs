//! One transfer: which blocks to send when, whatever the network loses.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::time::BootTime;
use crate::wire::tftp::Request;

/// A block's length when the client asks for none, in octets (RFC 1350).
const BLOCK_SIZE: u16 = 512;
/// The largest block that we grant. iPXE asks for this much; a whole packet then leaves room for
/// tunnels, and some firmware breaks on blocks of more than about 1450 octets.
const LARGEST_BLOCK: u16 = 1432;
/// The most blocks that may be under way to one client. Of a window that lost a block, what follows
/// is sent again: with windows of 16 and one loss in a hundred that is a tenth of all packets. EDK2
/// asks for 4.
const LARGEST_WINDOW: u16 = 8;

/// How long to wait for the first answer before sending again.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The bounds of that wait once the client's own time to answer is known.
const SHORTEST_WAIT: Duration = Duration::from_millis(30);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// How long a client may be silent until it is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long after an answer a client has certainly not begun anew.
const LIVELY: Duration = Duration::from_secs(3);

/// What client and server agree upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Octets in a block.
    pub block_size: u16,
    /// Blocks that are sent before an acknowledgement is awaited.
    pub window: u16,
    /// The options to confirm, in the order in which they were asked for.
    pub granted: Vec<(&'static str, u64)>,
}

impl Terms {
    /// Grants what a request for a file of `length` octets asks for, within bounds. Options with
    /// values that make no sense are left out, as RFC 2347 says. So is the client's wish when to
    /// be sent to again: that follows from how fast it answers.
    pub fn of(request: &Request<'_>, length: u64) -> Self {
        let mut terms = Self { block_size: BLOCK_SIZE, window: 1, granted: Vec::new() };
        for (name, value) in &request.options {
            let Ok(value) = value.parse::<u64>() else { continue };
            let capped = |most: u16| u16::try_from(value).unwrap_or(u16::MAX).min(most);
            let granted = match (name.to_ascii_lowercase().as_str(), value) {
                ("tsize", _) => ("tsize", length),
                ("blksize", 8..=65464) => {
                    terms.block_size = capped(LARGEST_BLOCK);
                    ("blksize", terms.block_size.into())
                }
                ("windowsize", 1..=65535) => {
                    terms.window = capped(LARGEST_WINDOW);
                    ("windowsize", terms.window.into())
                }
                _ => continue,
            };
            if terms.granted.iter().all(|(known, _)| *known != granted.0) {
                terms.granted.push(granted);
            }
        }
        terms
    }
}

/// What to do next.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send the granted options.
    Options,
    /// Send these blocks; the first of a file has number 1.
    Blocks(RangeInclusive<u64>),
    /// Wait.
    Nothing,
    /// The client has the whole file.
    Done,
    /// The client has been silent for too long.
    GivenUp,
}

/// A transfer under way.
#[derive(Clone, Debug)]
pub struct Transfer {
    window: u64,
    /// How many blocks the file has; the last one is shorter than the others, maybe empty.
    blocks: u64,
    /// Whether options were granted and not taken up yet.
    offering: bool,
    /// The last block of which the client said that it has come.
    acknowledged: u64,
    /// The last block that was sent.
    sent: u64,
    /// When, and whether it was for the first time: only then an answer tells the client's time.
    sent_at: BootTime,
    first_time: bool,
    /// Whether the client has said that it waits for the first of these blocks.
    lacks_first: bool,
    /// How long the client takes to answer, once known, and how much that varies.
    answers_in: Option<(Duration, Duration)>,
    wait: Duration,
    /// When the client answered last, and whether it ever did.
    heard_at: BootTime,
    heard: bool,
}

impl Transfer {
    /// A transfer of `length` octets, and its first step.
    pub fn start(now: BootTime, terms: &Terms, length: u64) -> (Self, Step) {
        let mut transfer = Self {
            window: terms.window.into(),
            blocks: length / u64::from(terms.block_size.max(1)) + 1,
            offering: !terms.granted.is_empty(),
            acknowledged: 0,
            sent: 0,
            sent_at: now,
            first_time: true,
            lacks_first: false,
            answers_in: None,
            wait: FIRST_WAIT,
            heard_at: now,
            heard: false,
        };
        let step = transfer.send();
        (transfer, step)
    }

    /// The client says that every block up to `block` has come (modulo 65,536).
    ///
    /// A repeated acknowledgement is not answered: that would double every packet from then on
    /// (RFC 1123 section 4.2.3.1). It only tells what to send when time is up. An acknowledgement from within the window means that the blocks
    /// behind it were lost (RFC 7440 section 4).
    pub fn on_ack(&mut self, now: BootTime, block: u16) -> Step {
        // The number is the lowest two octets of the block's.
        let further = u64::from(block.wrapping_sub(self.acknowledged as u16));
        let taken_up = self.offering && further == 0;
        if !taken_up && (self.offering || further == 0 || further > self.sent - self.acknowledged) {
            self.lacks_first |= further == 0;
            return Step::Nothing;
        }
        (self.heard_at, self.heard) = (now, true);
        if self.first_time {
            self.learn(now.since(self.sent_at));
        }
        self.offering = false;
        self.acknowledged += further;
        if self.acknowledged == self.blocks {
            return Step::Done;
        }
        self.sent_at = now;
        self.first_time = true;
        self.lacks_first = false;
        self.send()
    }

    /// Looks whether it is time to send again.
    pub fn on_time(&mut self, now: BootTime) -> Step {
        if now < self.deadline() {
            return Step::Nothing;
        }
        if now.since(self.heard_at) >= PATIENCE {
            return Step::GivenUp;
        }
        let only_last = self.first_time && !self.lacks_first && self.sent > self.acknowledged;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        self.sent_at = now;
        self.first_time = false;
        if only_last {
            // Most of a window has come. Its last block makes the client say how much.
            return Step::Blocks(self.sent..=self.sent);
        }
        self.send()
    }

    /// Whether the client has answered a moment ago. Then a request for the same file that comes from
    /// it now is one that it repeated earlier, while it waited: to begin anew would leave both
    /// waiting for an answer that the other has given already.
    pub fn is_lively(&self, now: BootTime) -> bool {
        self.heard && now.since(self.heard_at) < LIVELY
    }

    /// When [`Transfer::on_time`] has something to do.
    pub fn deadline(&self) -> BootTime {
        self.sent_at + self.wait
    }

    fn send(&mut self) -> Step {
        if self.offering {
            return Step::Options;
        }
        self.sent = (self.acknowledged + self.window).min(self.blocks);
        Step::Blocks(self.acknowledged + 1..=self.sent)
    }

    /// Follows the client's time to answer as RFC 6298 section 2 does.
    fn learn(&mut self, took: Duration) {
        let (mean, deviation) = match self.answers_in {
            None => (took, took / 2),
            Some((mean, deviation)) => {
                ((mean * 7 + took) / 8, (deviation * 3 + mean.abs_diff(took)) / 4)
            }
        };
        self.answers_in = Some((mean, deviation));
        self.wait = (mean + deviation * 4).clamp(SHORTEST_WAIT, LONGEST_WAIT);
    }
}

#[cfg(test)]
#[path = "transfer_tests.rs"]
mod tests;
