use std::time::Duration;

use buttress::InvalidConfig;

/// Requests per second as a function of time: straight lines between points, and steps.
#[derive(Clone, PartialEq, Debug)]
pub struct Rate {
    /// In the order of their times. The first is at 0, and the last continues forever.
    pub(super) pieces: Vec<Piece>,
}

/// From `from` on, in seconds: `rate` per second, changing by `slope` per second each second.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Piece {
    pub from: f64,
    pub rate: f64,
    pub slope: f64,
}

impl Rate {
    /// Returns a constant rate.
    #[must_use]
    pub fn constant(rate: f64) -> Self {
        Self { pieces: vec![Piece { from: 0.0, rate, slope: 0.0 }] }
    }

    /// Returns a rate that changes linearly from `from` to `to`, and then stays there.
    #[must_use]
    pub fn ramp(from: f64, to: f64, over: Duration) -> Self {
        let over = over.as_secs_f64();
        let slope = if over > 0.0 { (to - from) / over } else { 0.0 };
        let rising = Piece { from: 0.0, rate: from, slope };
        Self { pieces: vec![rising, Piece { from: over, rate: to, slope: 0.0 }] }
    }

    /// Returns a rate with steps: each value applies from its time on. It is 0 before the first
    /// time.
    #[must_use]
    pub fn steps(steps: impl IntoIterator<Item = (Duration, f64)>) -> Self {
        let mut pieces = vec![Piece { from: 0.0, rate: 0.0, slope: 0.0 }];
        let mut steps: Vec<(Duration, f64)> = steps.into_iter().collect();
        steps.sort_by_key(|(from, _)| *from);
        pieces.extend(steps.iter().map(|(from, rate)| Piece {
            from: from.as_secs_f64(),
            rate: *rate,
            slope: 0.0,
        }));
        Self { pieces }
    }

    /// Returns a rate of `base`, with `peak` from `at` on for `lasting`.
    #[must_use]
    pub fn spike(base: f64, peak: f64, at: Duration, lasting: Duration) -> Self {
        Self::steps([(Duration::ZERO, base), (at, peak), (at.saturating_add(lasting), base)])
    }

    /// Returns the rate at `at`.
    #[must_use]
    pub fn at(&self, at: Duration) -> f64 {
        let at = at.as_secs_f64();
        let piece = self.pieces.iter().rev().find(|piece| piece.from <= at);
        piece.map_or(0.0, |piece| piece.rate + piece.slope * (at - piece.from))
    }

    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        match self.pieces.iter().find(|piece| !(piece.rate.is_finite() && piece.rate >= 0.0)) {
            Some(piece) => {
                Err(InvalidConfig::new("rate", piece.rate, "a finite number, at least 0"))
            }
            None => Ok(()),
        }
    }
}

impl From<f64> for Rate {
    fn from(rate: f64) -> Self {
        Self::constant(rate)
    }
}
