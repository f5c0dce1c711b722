//! The times of requests.

use buttress::Rng;

use super::Shape;
use super::rate::{Piece, Rate};
use crate::distribution::rounded;
use crate::rng;

/// The times of an open load, in nanoseconds since the start.
pub(crate) enum Arrivals {
    Rated(Rated),
    Trace(std::vec::IntoIter<std::time::Duration>),
}

/// Times from a rate. The integral of the rate grows by 1 between two times, or for random times by
/// an exponential with mean 1. Computed from the beginning of each piece, so that rounding errors
/// do not add up.
pub(crate) struct Rated {
    pieces: Vec<Piece>,
    /// The piece of the last time, and the integral at its beginning.
    piece: usize,
    before: f64,
    integral: f64,
    random: Option<Rng>,
}

impl Arrivals {
    /// Returns the times of an open load, or `None` for a closed loop, which has none.
    pub(crate) fn of(shape: &Shape, rng: &Rng) -> Option<Self> {
        match shape {
            Shape::Open { rate, random } => {
                Some(Self::Rated(Rated::new(rate, random.then(|| rng.clone()))))
            }
            Shape::Trace(times) => Some(Self::Trace(times.clone().into_iter())),
            Shape::Closed { .. } => None,
        }
    }
}

impl Iterator for Arrivals {
    type Item = u64;

    #[inline]
    fn next(&mut self) -> Option<u64> {
        match self {
            Self::Rated(rated) => rated.next(),
            Self::Trace(times) => times.next().map(crate::distribution::nanos),
        }
    }
}

impl Rated {
    fn new(rate: &Rate, random: Option<Rng>) -> Self {
        Self { pieces: rate.pieces.clone(), piece: 0, before: 0.0, integral: 0.0, random }
    }

    fn next(&mut self) -> Option<u64> {
        self.integral += self.random.as_ref().map_or(1.0, rng::exponential);
        loop {
            let piece = self.pieces.get(self.piece)?;
            let wanted = self.integral - self.before;
            let Some(next) = self.pieces.get(self.piece + 1) else {
                return piece.when(wanted).map(to_nanos);
            };
            let length = next.from - piece.from;
            let whole = length * (piece.rate + 0.5 * piece.slope * length);
            if wanted <= whole
                && let Some(when) = piece.when(wanted)
            {
                return Some(to_nanos(when.min(next.from)));
            }
            self.before += whole;
            self.piece += 1;
        }
    }
}

impl Piece {
    /// Returns the time at which the integral of this piece reaches `wanted`, in seconds since the
    /// start.
    fn when(&self, wanted: f64) -> Option<f64> {
        let Self { from, rate, slope } = *self;
        if slope == 0.0 {
            return (rate > 0.0).then(|| from + wanted / rate);
        }
        let root = rate * rate + 2.0 * slope * wanted;
        (root >= 0.0 && rate + root.sqrt() > 0.0)
            .then(|| from + 2.0 * wanted / (rate + root.sqrt()))
    }
}

fn to_nanos(seconds: f64) -> u64 {
    rounded(seconds * 1e9)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::distribution::nanos;
    use crate::{Load, Seed};

    fn sec(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn times(load: &Load, until: Duration) -> Vec<u64> {
        let arrivals = Arrivals::of(&load.shape, &Seed::new(1).named("arrivals")).unwrap();
        arrivals.take_while(|at| *at <= nanos(until)).collect()
    }

    #[test]
    fn even_arrivals_do_not_drift() {
        let found = times(&Load::even(3.0), sec(1_000_000));
        assert_eq!(found.len(), 3_000_000);
        assert_eq!(found[2_999_999], 1_000_000_000_000_000);
        assert_eq!(found[0], 333_333_333);
    }

    #[test]
    fn a_ramp_has_the_area_of_a_triangle() {
        let found = times(&Load::even(Rate::ramp(0.0, 100.0, sec(10))), sec(10));
        assert_eq!(found.len(), 500);
        // Half of the time has a quarter of the area.
        assert_eq!(found.iter().filter(|at| **at <= nanos(sec(5))).count(), 125);
        let down = times(&Load::even(Rate::ramp(100.0, 0.0, sec(10))), sec(100));
        assert_eq!(down.len(), 500, "and then nothing comes any more");
    }

    #[test]
    fn steps_and_spikes_begin_and_end_on_time() {
        let rate = Rate::spike(10.0, 100.0, sec(10), sec(5));
        assert_eq!([9, 10, 14, 15].map(|s| rate.at(sec(s))), [10.0, 100.0, 100.0, 10.0]);
        let found = times(&Load::even(rate), sec(30));
        let within = |from, to| {
            found.iter().filter(|at| **at > nanos(sec(from)) && **at <= nanos(sec(to))).count()
        };
        assert_eq!((within(0, 10), within(10, 15), within(15, 30)), (100, 500, 150));
        let late = times(&Load::even(Rate::steps([(sec(5), 2.0)])), sec(6));
        assert_eq!(late, [5_500_000_000, 6_000_000_000]);
    }

    #[test]
    fn random_arrivals_have_the_rate_and_the_spread_of_poisson() {
        let found = times(&Load::poisson(Rate::ramp(50.0, 150.0, sec(1000))), sec(1000));
        assert!((found.len() as f64 - 100_000.0).abs() < 4.0 * 100_000f64.sqrt());
        let found = times(&Load::poisson(100.0), sec(1000));
        let mut counts = vec![0f64; 1000];
        found.iter().for_each(|at| counts[(at / 1_000_000_000) as usize] += 1.0);
        let variance = counts.iter().map(|n| (n - 100.0) * (n - 100.0)).sum::<f64>() / 1000.0;
        assert!((variance - 100.0).abs() < 20.0, "{variance}");
    }

    #[test]
    fn a_trace_is_read_from_text() {
        let load = Load::trace_text("# seconds\n0.5\n\n2 # late\n0.25\n").unwrap();
        assert_eq!(times(&load, sec(3)), [250_000_000, 500_000_000, 2_000_000_000]);
        assert_eq!(
            Load::trace_text("soon").unwrap_err().to_string(),
            "trace: soon is not a time in seconds"
        );
        assert!(Load::trace_text("-1").is_err());
    }
}
