//! The highest rate at which a server loses nothing.

use std::time::Duration;

use anyhow::Result;

use super::generator::{Kind, Load, Outcome};

/// No rate above this is tried.
const CEILING: u32 = 4_000_000;

/// How often a loss has to happen, and lateness, until they count.
const LOSSES: u32 = 2;
const DELAYS: u32 = 4;

/// A rate without loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Highest {
    /// Replies a second.
    pub rate: f64,
    /// Whether it was the generator that could not do more: nothing was lost, but requests were
    /// late.
    pub generator_bound: bool,
}

/// Doubles the rate from `first` until `run` loses something, then looks between, to a twentieth.
/// A loss counts when it happens twice, and lateness of the generator when it happens four times:
/// something else on the machine may have caused one.
///
/// # Errors
/// Those of `run`.
pub fn highest(
    kind: Kind,
    time: Duration,
    first: u32,
    mut run: impl FnMut(Load) -> Result<Outcome>,
) -> Result<Highest> {
    let mut best = Highest { rate: 0.0, generator_bound: false };
    let (mut rate, mut too_high) = (first, None);
    loop {
        let load = Load { kind, rate, time };
        let (mut losses, mut delays) = (0, 0);
        let outcome = loop {
            let outcome = run(load)?;
            let achieved = outcome.sent as f64 / outcome.seconds.max(time.as_secs_f64());
            if outcome.is_lossless() && achieved > best.rate {
                best = Highest { rate: achieved, generator_bound: !outcome.in_time(&load) };
            }
            losses += u32::from(!outcome.is_lossless());
            delays += u32::from(!outcome.in_time(&load));
            if outcome.is_clean(&load) || losses == LOSSES || delays == DELAYS {
                break outcome;
            }
        };
        if !outcome.is_clean(&load) {
            too_high = Some(rate);
        }
        rate = match too_high {
            None if rate >= CEILING => return Ok(best),
            None => rate.saturating_mul(2),
            Some(_) if best.rate == 0.0 => rate / 4,
            Some(high) => ((best.rate + f64::from(high)) / 2.0) as u32,
        };
        let step = too_high.map_or(f64::INFINITY, |high| f64::from(high) - best.rate);
        if rate == 0 || step < best.rate / 20.0 || best.generator_bound {
            return Ok(best);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that loses one in ten requests above 10,000 a second, behind a generator that can
    /// do so many.
    fn highest_of(generator: u32) -> Highest {
        let time = Duration::from_secs(1);
        highest(Kind::Both, time, 500, |load| {
            let mut outcome = Outcome::none()?;
            outcome.sent = load.rate.into();
            outcome.seconds = f64::from(load.rate.max(generator)) / f64::from(generator);
            let rate = outcome.sent as f64 / outcome.seconds;
            outcome.answered = if rate > 10_000.0 { outcome.sent * 9 / 10 } else { outcome.sent };
            Ok(outcome)
        })
        .unwrap()
    }

    #[test]
    fn the_highest_rate_is_found_to_a_twentieth() {
        let Highest { rate, generator_bound } = highest_of(1_000_000);
        assert!((9_500.0..=10_000.0).contains(&rate) && !generator_bound, "{rate}");
    }

    #[test]
    fn a_generator_at_its_limit_is_not_taken_for_a_server() {
        let Highest { rate, generator_bound } = highest_of(7_000);
        assert!((6_900.0..=7_100.0).contains(&rate) && generator_bound, "{rate}");
    }
}
