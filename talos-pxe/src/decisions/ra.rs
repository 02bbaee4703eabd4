//! When to send router advertisements (RFC 4861 sections 6.2.4 and 6.2.6).

use std::net::Ipv6Addr;
use std::time::Duration;

use crate::time::BootTime;
use crate::wire::icmp6::RouterSolicitation;

/// Two multicast advertisements are never closer together than this (MIN_DELAY_BETWEEN_RAS).
const MIN_BETWEEN: Duration = Duration::from_secs(3);
/// The first few advertisements follow each other within this (MAX_INITIAL_RTR_ADVERT_INTERVAL).
const INITIAL_INTERVAL: Duration = Duration::from_secs(16);
/// How many those are (MAX_INITIAL_RTR_ADVERTISEMENTS).
const INITIAL_COUNT: u32 = 3;
/// MinRtrAdvInterval and MaxRtrAdvInterval.
const INTERVAL: (Duration, Duration) = (Duration::from_secs(200), Duration::from_secs(600));

/// Where an advertisement goes now.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advertise {
    /// To all nodes.
    Multicast,
    /// To the one that asked, between two multicasts.
    Unicast(Ipv6Addr),
    /// Nowhere yet: a multicast follows at [`Schedule::due`].
    Later,
}

/// Remembers what was sent when, and says what to send next.
#[derive(Debug)]
pub struct Schedule {
    /// When the next multicast is due.
    due: BootTime,
    /// When the last multicast was sent; none is sent too soon after it.
    last: Option<BootTime>,
    /// Multicasts sent so far, up to [`INITIAL_COUNT`].
    sent: u32,
}

impl Schedule {
    /// The first advertisement is due at once.
    pub fn new(now: BootTime) -> Self {
        Self { due: now, last: None, sent: 0 }
    }

    /// When the next unsolicited advertisement is due.
    pub fn due(&self) -> BootTime {
        self.due
    }

    /// A multicast was sent at `now`; `random` picks the moment of the next one, so that many
    /// routers on a link do not fall in step.
    pub fn sent(&mut self, now: BootTime, random: u32) {
        self.last = Some(now);
        self.sent = self.sent.saturating_add(1).min(INITIAL_COUNT);
        let (min, max) = INTERVAL;
        let wait = min + (max - min).mul_f64(f64::from(random) / f64::from(u32::MAX));
        self.due = now + if self.sent < INITIAL_COUNT { wait.min(INITIAL_INTERVAL) } else { wait };
    }

    /// A node asks. A lone one is answered at once and by multicast, so that its neighbours that
    /// wait as well are served by the same message; those that come right after it get theirs by
    /// unicast, which no rate limit holds back. The RFC's random delay before an answer spreads
    /// out the routers of a link; we are the only one that answers so, and the client waits.
    pub fn solicited(&mut self, now: BootTime, from: RouterSolicitation) -> Advertise {
        let earliest = match self.last {
            Some(last) => last + MIN_BETWEEN,
            None => now,
        };
        if earliest <= now {
            return Advertise::Multicast;
        }
        if let Some(source) = from.source {
            return Advertise::Unicast(source);
        }
        self.due = self.due.min(earliest);
        Advertise::Later
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOMEONE: RouterSolicitation =
        RouterSolicitation { source: Some(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)) };
    const NOBODY: RouterSolicitation = RouterSolicitation { source: None };

    fn at(seconds: u64) -> BootTime {
        BootTime::BOOT + Duration::from_secs(seconds)
    }

    #[test]
    fn starts_with_three_and_then_goes_slow() {
        let mut schedule = Schedule::new(at(0));
        assert_eq!(schedule.due(), at(0));
        schedule.sent(at(0), 0);
        assert_eq!(schedule.due(), at(16));
        schedule.sent(at(16), u32::MAX);
        assert_eq!(schedule.due(), at(32));
        schedule.sent(at(32), 0);
        assert_eq!(schedule.due(), at(232));
        schedule.sent(at(232), u32::MAX);
        assert_eq!(schedule.due(), at(832));
    }

    #[test]
    fn answers_a_lone_node_at_once_and_a_crowd_one_by_one() {
        let mut schedule = Schedule::new(at(0));
        assert_eq!(schedule.solicited(at(0), SOMEONE), Advertise::Multicast);
        schedule.sent(at(0), 0);
        assert_eq!(schedule.solicited(at(1), SOMEONE), Advertise::Unicast(SOMEONE.source.unwrap()));
        assert_eq!(schedule.due(), at(16));
        assert_eq!(schedule.solicited(at(3), SOMEONE), Advertise::Multicast);
    }

    #[test]
    fn a_node_without_address_waits_for_the_next_multicast() {
        let mut schedule = Schedule::new(at(0));
        schedule.sent(at(0), 0);
        assert_eq!(schedule.solicited(at(1), NOBODY), Advertise::Later);
        assert_eq!(schedule.due(), at(3));
    }
}
