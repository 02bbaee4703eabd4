//! What the appliance's console does next: which interface it serves, when it starts the daemon
//! again, and what keys mean.

use std::time::Duration;

use super::interface::{Link, candidates};
use crate::time::BootTime;

/// A daemon that ran for so long before it failed is started again without delay.
const STEADY: Duration = Duration::from_secs(60);
/// The longest pause before a daemon that failed is started again.
const LONGEST_PAUSE: Duration = Duration::from_secs(64);

/// The console's state.
#[derive(Clone, Debug)]
pub struct Console {
    doing: Doing,
    /// What could be served, by the kernel's numbers.
    candidates: Vec<Link>,
    /// Whether a person or a flag named the interface.
    named: bool,
    /// Whether it may end in order to power off.
    power: bool,
    /// How long it waits for a choice.
    patience: Duration,
    /// What was asked for, and waits for a `y`.
    question: Option<Ending>,
    typed: String,
    failures: u32,
}

/// What the console is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Somebody may choose the interface, until then.
    Choosing(BootTime),
    /// The daemon runs.
    Serving {
        /// The interface that it serves.
        interface: String,
        /// When it was started.
        since: BootTime,
    },
    /// The daemon failed, and is started again.
    Resting {
        /// The interface that it is to serve.
        interface: String,
        /// When it is started.
        until: BootTime,
        /// What it said.
        cause: String,
    },
    /// All comes to an end.
    Ending(Ending),
}

/// How the console ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was told to by a signal.
    Stopped,
    /// Somebody wants the computer off.
    PowerOff,
    /// Somebody wants the computer to start anew.
    Reboot,
}

impl Ending {
    /// The exit code that says so to whoever started the console.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Stopped => 0,
            Self::PowerOff => 10,
            Self::Reboot => 11,
        }
    }
}

/// What is to be done now.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Stay,
    /// Start the daemon on this interface.
    Serve(String),
    /// Stop the daemon.
    Stop,
    /// Stop the daemon, and end.
    End(Ending),
}

impl Console {
    /// A console that chooses an interface, waiting `patience` for a person to do so, or serves
    /// the one that is `named`. It offers to end for a power-off or a reboot when `power` says so.
    pub fn start(
        named: Option<String>,
        power: bool,
        patience: Duration,
        now: BootTime,
    ) -> (Self, Step) {
        let mut console = Self {
            doing: Doing::Choosing(now + patience),
            candidates: Vec::new(),
            named: named.is_some(),
            power,
            patience,
            question: None,
            typed: String::new(),
            failures: 0,
        };
        let step = named.map_or(Step::Stay, |interface| console.serve(interface, now));
        (console, step)
    }

    /// What it is about.
    pub fn doing(&self) -> &Doing {
        &self.doing
    }

    /// What could be served, in the order of their numbers, which begin at 1.
    pub fn candidates(&self) -> &[Link] {
        &self.candidates
    }

    /// What was asked for, and waits for a `y`.
    pub fn question(&self) -> Option<Ending> {
        self.question
    }

    /// Whether it offers to power off and to reboot.
    pub fn has_power(&self) -> bool {
        self.power
    }

    /// The first candidate with carrier.
    pub fn favourite(&self) -> Option<&Link> {
        self.candidates.iter().find(|link| link.carrier)
    }

    /// Time has passed, and these are the interfaces now. To be called every second.
    pub fn tick(&mut self, links: &[Link], now: BootTime) -> Step {
        self.candidates = candidates(links).into_iter().cloned().collect();
        self.candidates.sort_by_key(|link| link.index);
        if let Doing::Resting { interface, until, .. } = &self.doing
            && now >= *until
        {
            let interface = interface.clone();
            let served = self.candidates.iter().find(|link| link.name == interface);
            if self.named || served.is_some_and(|link| link.carrier) {
                return self.serve(interface, now);
            }
            // Whatever chose it may have been mistaken.
            self.doing = Doing::Choosing(now + self.patience);
        }
        let Doing::Choosing(until) = self.doing else { return Step::Stay };
        match self.candidates.as_slice() {
            [] => {
                // The time to choose begins when there is something to choose.
                self.doing = Doing::Choosing(now + self.patience);
                Step::Stay
            }
            [only] => self.serve(only.name.clone(), now),
            _ if now >= until => match self.favourite() {
                Some(link) => self.serve(link.name.clone(), now),
                None => Step::Stay,
            },
            _ => Step::Stay,
        }
    }

    /// A key was pressed.
    pub fn key(&mut self, key: char, now: BootTime) -> Step {
        if let Some(ending) = self.question.take() {
            return if key.eq_ignore_ascii_case(&'y') { self.end(ending) } else { Step::Stay };
        }
        let choosing = matches!(self.doing, Doing::Choosing(_));
        match key {
            'p' | 'P' if self.power => self.question = Some(Ending::PowerOff),
            'r' | 'R' if self.power => self.question = Some(Ending::Reboot),
            'i' | 'I' if !choosing => {
                self.named = false;
                self.failures = 0;
                self.doing = Doing::Choosing(now + self.patience);
                return Step::Stop;
            }
            '0'..='9' if choosing => {
                self.typed.push(key);
                return self.number(false, now);
            }
            '\r' | '\n' if choosing => return self.number(true, now),
            _ => self.typed.clear(),
        }
        Step::Stay
    }

    /// The daemon ended, and said this.
    pub fn ended(&mut self, cause: String, now: BootTime) {
        if let Doing::Serving { interface, since } = &self.doing {
            let (interface, steady) = (interface.clone(), now.since(*since) >= STEADY);
            self.failures = if steady { 0 } else { (self.failures + 1).min(8) };
            let pause = Duration::from_secs((1 << self.failures) / 2).min(LONGEST_PAUSE);
            self.doing = Doing::Resting { interface, until: now + pause, cause };
        }
    }

    /// It comes to an end.
    pub fn end(&mut self, ending: Ending) -> Step {
        self.doing = Doing::Ending(ending);
        Step::End(ending)
    }

    fn serve(&mut self, interface: String, now: BootTime) -> Step {
        self.typed.clear();
        self.doing = Doing::Serving { interface: interface.clone(), since: now };
        Step::Serve(interface)
    }

    /// Takes the number that was typed, as soon as it is `finished` or no digit could follow.
    fn number(&mut self, finished: bool, now: BootTime) -> Step {
        let count = self.candidates.len();
        let number: usize = self.typed.parse().unwrap_or(0);
        if !finished && (1..=count / 10).contains(&number) {
            return Step::Stay;
        }
        self.typed.clear();
        match number.checked_sub(1).and_then(|position| self.candidates.get(position)) {
            Some(link) => {
                let name = link.name.clone();
                self.named = true;
                self.serve(name, now)
            }
            None => Step::Stay,
        }
    }
}

#[cfg(test)]
#[path = "console_tests.rs"]
mod tests;
