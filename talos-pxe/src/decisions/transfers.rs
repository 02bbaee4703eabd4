//! Whose turn it is to download an image.
//!
//! When a whole rack shares the link, all machines would have their images late, and at the same
//! time. So a bounded number of transfers run at full speed while the others wait in line, and most
//! machines boot early. Who waits gets a little of its image every now and then, for firmware gives
//! up on a silent server: EDK2 does when nothing has come for 5 s (`PcdHttpIoTimeout`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use crate::time::BootTime;

/// What is shorter, in octets, is sent at once: scripts, configs, boot programs.
pub const SHORTEST: u64 = 1 << 20;
/// How many octets a waiting transfer gets at a time.
const MORSEL: usize = 1024;
/// How often a waiting transfer gets something; twice before EDK2 gives up.
const MORSEL_EVERY: Duration = Duration::from_secs(2);
/// A transfer that has sent nothing for so long takes nobody's turn: its client is slow or gone.
const STALLED: Duration = Duration::from_secs(1);
/// How many run at once to begin with, when that is to be found out.
const FIRST: usize = 32;
/// How long a rate is measured for.
const MEASURED: Duration = Duration::from_secs(1);
/// How long to wait after more transfers brought nothing, until it is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(10);
/// How long a client keeps its place between two images.
const PLACE_KEPT: Duration = Duration::from_secs(30);
/// How many images one place is good for: a kernel, an initramfs and what else a boot may load.
const IMAGES: u32 = 4;

/// How many transfers run at full speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// As many as it takes to fill the link: twice as many as long as that brings a tenth more.
    Auto,
    /// So many; never zero.
    Most(usize),
    /// All of them.
    Off,
}

/// The text names no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected auto, off or a number from 1 on")]
pub struct NoLimit;

impl FromStr for Limit {
    type Err = NoLimit;

    fn from_str(text: &str) -> Result<Self, NoLimit> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Self::Auto),
            ("off", _) => Ok(Self::Off),
            (_, Ok(most @ 1..)) => Ok(Self::Most(most)),
            _ => Err(NoLimit),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Most(most) => write!(f, "{most}"),
            Self::Off => f.write_str("off"),
        }
    }
}

/// A transfer's number, in the order in which they began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u64);

/// What a transfer may do now.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Send all it can.
    Go,
    /// Send so many octets, so that the client does not give up.
    Morsel(usize),
    /// Wait until it is called, at most until then.
    Wait(BootTime),
}

/// All transfers of images that are under way.
#[derive(Debug)]
pub struct Transfers {
    /// How many may run, and how that is found out.
    most: usize,
    measure: Option<Measure>,
    under_way: BTreeMap<Id, Transfer>,
    /// Those that wait, by the places of their clients.
    line: BTreeSet<(Place, Id)>,
    running: BTreeSet<Id>,
    /// The places of clients, also of those between two images.
    places: BTreeMap<IpAddr, Holder>,
    next: u64,
    called: Vec<Id>,
}

#[derive(Debug)]
struct Transfer {
    client: IpAddr,
    place: Place,
    /// When something was sent last.
    moved_at: Option<BootTime>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place(u64);

#[derive(Debug)]
struct Holder {
    place: Place,
    /// How many images it has been used for.
    images: u32,
    /// When the last image ended; none while one is under way.
    free_since: Option<BootTime>,
}

/// What more transfers at once bring.
#[derive(Debug, Default)]
struct Measure {
    /// Since when octets are counted, with somebody in line all the time.
    since: Option<BootTime>,
    octets: u64,
    /// The octets a second with half as many transfers, while twice as many are tried.
    tried_from: Option<u64>,
    /// When twice as many brought nothing.
    gave_up_at: Option<BootTime>,
}

impl Transfers {
    /// Nothing is under way; without a limit there is nothing to keep.
    pub fn new(limit: Limit) -> Option<Self> {
        let (most, measure) = match limit {
            Limit::Off => return None,
            Limit::Most(most) => (most, None),
            Limit::Auto => (FIRST, Some(Measure::default())),
        };
        Some(Self {
            most,
            measure,
            under_way: BTreeMap::new(),
            line: BTreeSet::new(),
            running: BTreeSet::new(),
            places: BTreeMap::new(),
            next: 0,
            called: Vec::new(),
        })
    }

    /// A transfer to a client begins. It goes to the end of the line, unless the client has just
    /// had another image: a machine that has its kernel needs its initramfs, too.
    pub fn begin(&mut self, now: BootTime, client: IpAddr) -> Id {
        let id = Id(self.next);
        self.next += 1;
        let place = self.place(now, client, Place(id.0));
        self.under_way.insert(id, Transfer { client, place, moved_at: None });
        self.line.insert((place, id));
        id
    }

    /// What a transfer may do now.
    pub fn turn(&mut self, now: BootTime, id: Id) -> Turn {
        if !self.running.contains(&id) {
            self.call(now);
        }
        let Some(transfer) = self.under_way.get_mut(&id) else { return Turn::Go };
        if self.running.contains(&id) {
            return Turn::Go;
        }
        match transfer.moved_at {
            Some(moved) if now.since(moved) < MORSEL_EVERY => Turn::Wait(moved + MORSEL_EVERY),
            _ => {
                transfer.moved_at = Some(now);
                Turn::Morsel(MORSEL)
            }
        }
    }

    /// A transfer has sent so many octets.
    pub fn sent(&mut self, now: BootTime, id: Id, octets: u64) {
        if let Some(transfer) = self.under_way.get_mut(&id) {
            transfer.moved_at = Some(now);
        }
        let waiting = !self.line.is_empty();
        if let Some(most) =
            self.measure.as_mut().and_then(|measure| measure.add(now, octets, waiting, self.most))
        {
            self.most = most;
            self.call(now);
        }
    }

    /// A transfer is over, or its client has gone.
    pub fn end(&mut self, now: BootTime, id: Id) {
        let Some(Transfer { client, place, .. }) = self.under_way.remove(&id) else { return };
        self.line.remove(&(place, id));
        self.running.remove(&id);
        if let Some(holder) = self.places.get_mut(&client).filter(|holder| holder.place == place) {
            holder.free_since = Some(now);
        }
        if let (true, Some(measure)) = (self.under_way.is_empty(), &mut self.measure) {
            // The next rush may be another one.
            (self.most, *measure) = (FIRST, Measure::default());
        }
        self.call(now);
    }

    /// The transfers whose turn has come since this was last asked.
    pub fn called(&mut self) -> Vec<Id> {
        std::mem::take(&mut self.called)
    }

    fn place(&mut self, now: BootTime, client: IpAddr, last: Place) -> Place {
        self.places.retain(|_, holder| {
            holder.free_since.is_none_or(|since| now.since(since) < PLACE_KEPT)
        });
        match self.places.get_mut(&client) {
            // Whoever loads several at once has one place for one of them.
            Some(holder) if holder.free_since.is_none() => last,
            Some(holder) if holder.images < IMAGES => {
                holder.free_since = None;
                holder.images += 1;
                holder.place
            }
            _ => {
                self.places.insert(client, Holder { place: last, images: 1, free_since: None });
                last
            }
        }
    }

    /// Calls the next in line while fewer run than may.
    fn call(&mut self, now: BootTime) {
        if self.line.is_empty() {
            return;
        }
        let mut busy = self.busy(now);
        while busy < self.most
            && let Some((_, id)) = self.line.pop_first()
        {
            // Its time to stall begins now.
            if let Some(transfer) = self.under_way.get_mut(&id) {
                transfer.moved_at = Some(now);
            }
            self.running.insert(id);
            self.called.push(id);
            busy += 1;
        }
    }

    fn busy(&self, now: BootTime) -> usize {
        let moves = |id: &&Id| {
            let moved = self.under_way.get(id).and_then(|transfer| transfer.moved_at);
            moved.is_some_and(|moved| now.since(moved) < STALLED)
        };
        self.running.iter().filter(moves).count()
    }
}

impl Measure {
    /// Counts octets; says how many transfers may run from now on, when that changes.
    fn add(&mut self, now: BootTime, octets: u64, waiting: bool, most: usize) -> Option<usize> {
        if !waiting {
            // All run: nothing can be learned.
            (self.since, self.octets, self.tried_from) = (None, 0, None);
            return None;
        }
        let since = *self.since.get_or_insert(now);
        self.octets += octets;
        let time = now.since(since);
        if time < MEASURED {
            return None;
        }
        let rate = self.octets.saturating_mul(1000) / (time.as_millis() as u64).max(1);
        (self.since, self.octets) = (Some(now), 0);
        match self.tried_from.take() {
            Some(before) if rate < before.saturating_add(before / 10) => {
                self.gave_up_at = Some(now);
                Some((most / 2).max(1))
            }
            None if self.gave_up_at.is_some_and(|at| now.since(at) < TRY_AGAIN) => None,
            _ => {
                self.tried_from = Some(rate);
                Some(most.saturating_mul(2))
            }
        }
    }
}

#[cfg(test)]
#[path = "transfers_tests.rs"]
mod tests;
