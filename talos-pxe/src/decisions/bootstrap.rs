//! Bootstrapping the cluster: which machine is told to begin etcd, and when. Exactly one ever is.
//!
//! A second etcd cluster is the one error that nobody can put right, and a machine that was told
//! to begin one cannot be told to stop. So the machine is written down before it is told, and from
//! then on no other is, whatever becomes of it, unless it has certainly refused. What it answered
//! may be lost; then it is asked what etcd it has, and told again only if it waits for that.
//!
//! Before anyone is told, all machines of the control plane are asked: one that has etcd ends it.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::state::bootstrap::Mark;
use crate::time::BootTime;
use crate::wire::{MacAddr, Role};

/// The most machines that are asked at once. A control plane seldom has more than five.
const MOST_ASKED: usize = 16;
/// The first pause between attempts; each is twice as long as the one before it.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// The longest. Installing Talos takes minutes, so nothing is won by asking more often.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Which machine may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Choice {
    /// The machine with role `init`; with several, the one seen first.
    Role,
    /// As `role`, or else the machine of the control plane seen first.
    Auto,
    /// None: the cluster is bootstrapped by other means.
    Off,
}

/// A machine of the control plane, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The machine.
    pub mac: MacAddr,
    /// The address that it has now.
    pub address: Ipv4Addr,
    /// Its role; machines of other roles than the control plane's are left alone.
    pub role: Role,
    /// When it first booted, in seconds since 1970. It only orders machines, and the clock may
    /// have been wrong: so it chooses among those that may be told, and decides nothing else.
    pub first_seen: u64,
}

/// What a machine says of its etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Etcd {
    /// It belongs to a cluster.
    Member,
    /// It waits for a cluster.
    Waits,
    /// The machine answers, but not clearly.
    Unclear,
}

/// What came of telling a machine to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It does.
    Accepted,
    /// It has etcd already.
    AlreadyExists,
    /// It did not, certainly.
    Refused,
    /// Nobody knows: the answer was lost, or does not tell.
    Unknown,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is time to look; these machines are known.
    Due(Vec<Candidate>),
    /// Those of the machines asked that answered did so.
    Asked(Vec<(MacAddr, Etcd)>),
    /// The mark is stored.
    Stored,
    /// The machine was told.
    Told(Outcome),
}

/// What to do next. Each action but [`Action::End`] is answered with its event.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Come back with [`Event::Due`] at this time.
    Wait(BootTime),
    /// Ask these machines what etcd they have: [`Event::Asked`].
    Ask(Vec<Candidate>),
    /// Store the mark, durably: [`Event::Stored`]. Its time is yet to be set.
    Store(Option<Mark>),
    /// Tell this machine to begin etcd: [`Event::Told`].
    Tell(Candidate),
    /// The cluster is bootstrapped.
    End,
}

/// The state of the matter.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    choice: Choice,
    /// How long a machine of which it is not known whether it accepted has to say that it waits
    /// before it is believed: one that has just accepted says so, too, until etcd starts.
    patience: Duration,
    /// As stored.
    mark: Option<Mark>,
    /// Which event is expected.
    step: Step,
    /// Pauses since something changed.
    pauses: u32,
    /// Since when the marked machine has said, each time, that it waits.
    waits_since: Option<BootTime>,
}

#[derive(Clone, Debug)]
enum Step {
    Resting,
    Asking(Vec<Candidate>),
    Storing {
        mark: Option<Mark>,
        then: Then,
    },
    /// `first`: the machine has never been told before.
    Telling {
        first: bool,
    },
}

#[derive(Clone, Debug)]
enum Then {
    Tell { target: Candidate, first: bool },
    Rest,
    End,
}

impl Bootstrap {
    /// Begins with the mark that is stored. A machine of which it is not known whether it accepted
    /// has to say for as long as `patience` that it waits before it is told again.
    pub fn new(choice: Choice, patience: Duration, mark: Option<Mark>) -> Self {
        let step = Step::Resting;
        Self { choice, patience, mark, step, pauses: 0, waits_since: None }
    }

    /// The mark, as stored.
    pub fn mark(&self) -> Option<Mark> {
        self.mark
    }

    /// Decides what to do after `event`. An event that was not waited for changes nothing but
    /// the order: it begins anew.
    pub fn handle(&mut self, now: BootTime, event: Event) -> Action {
        let step = std::mem::replace(&mut self.step, Step::Resting);
        match (step, event) {
            _ if self.mark.is_some_and(|mark| mark.done) => Action::End,
            (Step::Storing { mark, then }, Event::Stored) => self.stored(now, mark, then),
            (_, Event::Due(candidates)) => self.due(now, candidates),
            (Step::Asking(asked), Event::Asked(answers)) => self.asked(now, &asked, &answers),
            (Step::Telling { first }, Event::Told(outcome)) => self.told(now, first, outcome),
            _ => self.rest(now),
        }
    }

    fn due(&mut self, now: BootTime, candidates: Vec<Candidate>) -> Action {
        let asked = self.in_order(candidates);
        // A marked machine that is not known any more counts as one that does not answer.
        if self.choice == Choice::Off || (asked.is_empty() && self.mark.is_none()) {
            self.pauses = 0;
            return self.rest(now);
        }
        self.step = Step::Asking(asked.clone());
        Action::Ask(asked)
    }

    /// The control plane: the marked machine first, then those that may be told, in order.
    fn in_order(&self, candidates: Vec<Candidate>) -> Vec<Candidate> {
        let sharing = candidates.clone();
        // Which of two machines answers at an address that both are said to have?
        let is_alone = |one: &Candidate| {
            let there = |other: &&Candidate| other.address == one.address && other.mac != one.mac;
            !sharing.iter().any(|other| there(&other))
        };
        let marked = self.mark.map(|mark| mark.mac);
        let mut control_plane: Vec<Candidate> =
            candidates.into_iter().filter(|c| c.role.is_control_plane() && is_alone(c)).collect();
        control_plane.sort_by_key(|c| {
            (Some(c.mac) != marked, c.role.as_str() != "init", c.first_seen, c.mac)
        });
        control_plane.truncate(MOST_ASKED);
        control_plane
    }

    fn asked(&mut self, now: BootTime, asked: &[Candidate], answers: &[(MacAddr, Etcd)]) -> Action {
        let said = |c: &Candidate| answers.iter().find(|(mac, _)| *mac == c.mac).map(|(_, e)| *e);
        if let Some(member) = asked.iter().find(|c| said(c) == Some(Etcd::Member)) {
            return self.store(Some(mark(member, true)), Then::End);
        }
        let (target, first) = match self.mark {
            None => (asked.iter().find(|c| self.may_be_told(c) && said(c).is_some()), true),
            Some(marked) => {
                let marked = asked.iter().find(|c| c.mac == marked.mac);
                let waits = marked.is_some_and(|c| said(c) == Some(Etcd::Waits));
                (marked.filter(|_| self.has_waited(now, waits)), false)
            }
        };
        let Some(target) = target.cloned() else { return self.rest(now) };
        self.store(Some(mark(&target, false)), Then::Tell { target, first })
    }

    fn may_be_told(&self, candidate: &Candidate) -> bool {
        match self.choice {
            Choice::Role => candidate.role.as_str() == "init",
            Choice::Auto => candidate.role.is_control_plane(),
            Choice::Off => false,
        }
    }

    /// Whether the marked machine has said for long enough that it waits.
    fn has_waited(&mut self, now: BootTime, waits: bool) -> bool {
        let since = waits.then(|| self.waits_since.unwrap_or(now));
        self.waits_since = since;
        since.is_some_and(|since| now.since(since) >= self.patience)
    }

    fn told(&mut self, now: BootTime, first: bool, outcome: Outcome) -> Action {
        self.waits_since = None;
        match outcome {
            Outcome::Accepted | Outcome::AlreadyExists => {
                self.store(self.mark.map(|mark| Mark { done: true, ..mark }), Then::End)
            }
            // Told before, it may have accepted then, and refuses because etcd no longer waits.
            Outcome::Refused if first => self.store(None, Then::Rest),
            Outcome::Refused | Outcome::Unknown => self.rest(now),
        }
    }

    fn store(&mut self, mark: Option<Mark>, then: Then) -> Action {
        self.step = Step::Storing { mark, then };
        Action::Store(mark)
    }

    fn stored(&mut self, now: BootTime, mark: Option<Mark>, then: Then) -> Action {
        self.mark = mark;
        match then {
            Then::Tell { target, first } => {
                self.step = Step::Telling { first };
                Action::Tell(target)
            }
            Then::Rest => self.rest(now),
            Then::End => Action::End,
        }
    }

    fn rest(&mut self, now: BootTime) -> Action {
        let pause = SHORTEST_PAUSE.saturating_mul(1 << self.pauses.min(8)).min(LONGEST_PAUSE);
        self.pauses = self.pauses.saturating_add(1);
        Action::Wait(now + pause)
    }
}

fn mark(candidate: &Candidate, done: bool) -> Mark {
    Mark { done, mac: candidate.mac, address: candidate.address, at: 0 }
}

#[cfg(test)]
#[path = "bootstrap_tests.rs"]
mod tests;
