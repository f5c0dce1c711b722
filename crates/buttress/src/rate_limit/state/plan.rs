//! The arithmetic of a token bucket, exact for any rate and horizon.
//!
//! A token is divided into `unit` parts, so that about one part, and never more, comes back in a
//! nanosecond. The *position* at a time is the number of parts that came back since the anchor:
//! `floor(nanos * ratio)`. It is computed each time from the whole elapsed time, so that rounding
//! errors never accumulate. The state of a bucket is one number: the position up to which its parts
//! are *spent*. The bucket is full when the current position has reached `spent`. Otherwise it
//! holds `capacity - (spent - position)`. (With `ratio` = 1 this is the generic cell rate algorithm
//! of ATM Forum TM 4.0, and `spent` is its theoretical arrival time.)

use std::time::{Duration, Instant};

use super::Short;
use crate::rate_limit::config::Config;
use crate::vocabulary::clock;

/// Returns the nanoseconds from the anchor of a limiter to `now`, at most 18 years, so that a
/// packed position has spare bits.
#[inline(always)]
pub(crate) fn nanos_since(anchor: Instant, now: Instant) -> u64 {
    const MOST: Duration = Duration::from_nanos(1 << 59);
    match now.checked_duration_since(anchor) {
        Some(since) if since.as_secs() < MOST.as_secs() => {
            since.as_secs() * 1_000_000_000 + u64::from(since.subsec_nanos())
        }
        Some(_) => MOST.as_secs() * 1_000_000_000,
        None => 0,
    }
}

/// The number of words of a plan in a sequence lock.
pub(crate) const WORDS: usize = 6;

/// The high word of the ratio of an even plan, which is 1.
const EVEN: u64 = 1 << 63;

/// Rate and size of a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Plan {
    /// Parts in a token.
    unit: u64,
    /// Parts in a full bucket.
    capacity: u64,
    /// Parts per nanosecond, times 2^127, rounded up: high and low word.
    ratio: (u64, u64),
    /// Parts that come back in `period` nanoseconds, exactly.
    parts: u64,
    period: u64,
}

/// A bucket after a take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Taken {
    /// The new spent position.
    pub spent: u64,
    /// `true` if less than one token is left.
    pub low: bool,
}

impl Plan {
    /// `config` must have been checked: at least one token and one nanosecond, and at most one
    /// token per nanosecond.
    pub(crate) fn new(config: &Config) -> Self {
        /// Room for positions of 18 years above a full bucket.
        const LARGEST: u64 = 1 << 58;
        let burst = u64::from(config.max_tokens).max(1);
        let tokens = u64::from(config.refill_tokens).max(1);
        let period = clock::to_nanos(config.refill_period).max(1);
        let common = gcd(tokens, period);
        let (tokens, period) = (tokens / common, period / common);
        let unit = (period / tokens).clamp(1, LARGEST / burst);
        let parts = (tokens * unit).min(period);
        Self { unit, capacity: burst * unit, ratio: ratio(parts, period), parts, period }
    }

    /// Returns `true` if exactly one part comes back in a nanosecond, so that a position is a time.
    /// This holds when a token takes a whole number of nanoseconds.
    #[inline]
    fn is_even(&self) -> bool {
        self.ratio.0 == EVEN
    }

    /// Returns the plan with these [first words](Self::to_words) if it is even. The first words
    /// determine an even plan.
    #[inline(always)]
    pub(crate) fn from_first_words([unit, capacity, high, _]: [u64; 4]) -> Option<Self> {
        let even = Self { unit, capacity, ratio: (EVEN, 0), parts: 1, period: 1 };
        (high == EVEN).then_some(even)
    }

    /// Takes `cost` tokens at `now` by the [first words](Self::to_words) of a plan that is not
    /// even. `None` if the tokens are not available. The first words do not determine the wait.
    #[inline(always)]
    pub(crate) fn take_by_first_words(
        [unit, capacity, high, low]: [u64; 4],
        spent: u64,
        cost: u32,
        now: u64,
    ) -> Option<Taken> {
        let plan = Self { unit, capacity, ratio: (high, low), parts: 1, period: 1 };
        let cost = u64::from(cost).checked_mul(unit).filter(|cost| *cost <= capacity)?;
        plan.take_at(spent, cost, plan.scaled(now))
    }

    /// Returns the position at `now`, and whether a part of the next part has come back too.
    #[inline]
    fn position(&self, now: u64) -> (u64, bool) {
        if self.is_even() { (now, false) } else { self.scaled(now) }
    }

    #[inline(always)]
    fn scaled(&self, now: u64) -> (u64, bool) {
        // now * ratio / 2^127. The ratio is at most 2^127 and rounded up by less than 2^-127, `now`
        // is below 2^60 and `period` below 2^56. So the error is below 2^-67. A true fraction is
        // either 0 or at least 2^-56. Neither the floor nor the test for a fraction can be wrong.
        let now = u128::from(now);
        let scaled = now * u128::from(self.ratio.0) + ((now * u128::from(self.ratio.1)) >> 64);
        let fraction = scaled & ((1 << 63) - 1);
        ((scaled >> 63) as u64, fraction != 0)
    }

    /// Returns the first time at which the position is reached.
    #[inline]
    fn time_of(&self, position: u64) -> u64 {
        if self.is_even() { position } else { self.divided(position) }
    }

    fn divided(&self, position: u64) -> u64 {
        let nanos = (u128::from(position) * u128::from(self.period)).div_ceil(self.parts.into());
        nanos.min((u64::MAX - 1).into()) as u64
    }

    /// Takes `cost` tokens at `now`.
    #[inline(always)]
    pub(crate) fn take(&self, spent: u64, cost: u32, now: u64) -> Result<Taken, Short> {
        let cost = u64::from(cost).checked_mul(self.unit).filter(|cost| *cost <= self.capacity);
        let Some(cost) = cost else { return Err(Short::Never) };
        self.take_at(spent, cost, self.position(now)).ok_or_else(|| {
            let due = self.time_of(spent + cost - self.capacity);
            Short::For(due.saturating_sub(now))
        })
    }

    /// Takes `cost` parts at a position, if they are available.
    #[inline(always)]
    fn take_at(&self, spent: u64, cost: u64, (position, fraction): (u64, bool)) -> Option<Taken> {
        if spent <= position {
            // The bucket is full. Parts beyond that are lost, and so is the fraction: counting it
            // as spent keeps the bucket from granting a token a nanosecond early.
            let cost = cost + u64::from(fraction);
            return Some(Taken { spent: position + cost, low: self.capacity < cost + self.unit });
        }
        let level = self.level_above(spent, position);
        let taken = Taken { spent: spent + cost, low: level < cost + self.unit };
        (level >= cost).then_some(taken)
    }

    /// Takes `cost` tokens as of the first moment from `since` to `until` at which they are
    /// available. Only parts that overflowed before `since` are lost.
    pub(crate) fn take_due(
        &self,
        spent: u64,
        cost: u32,
        since: u64,
        until: u64,
    ) -> Result<Taken, Short> {
        let cost = u64::from(cost).checked_mul(self.unit).filter(|cost| *cost <= self.capacity);
        let Some(cost) = cost else { return Err(Short::Never) };
        let (floor, fraction) = self.position(since);
        let spent = if spent <= floor { floor + u64::from(fraction) } else { spent } + cost;
        let (position, _) = self.position(until);
        if spent > position + self.capacity {
            let due = self.time_of(spent - self.capacity);
            return Err(Short::For(due.saturating_sub(until)));
        }
        Ok(Taken { spent, low: position + self.capacity < spent + self.unit })
    }

    /// Returns the nanoseconds until `cost` tokens are available after other calls have taken
    /// `ahead`.
    pub(crate) fn wait_for(&self, spent: u64, ahead: u64, cost: u32, now: u64) -> Option<u64> {
        if cost > self.max_tokens() {
            return None;
        }
        let wanted = (u128::from(ahead) + u128::from(cost)) * u128::from(self.unit);
        let end = u128::from(spent.max(self.position(now).0)) + wanted;
        let target = end.saturating_sub(self.capacity.into()).min(u64::MAX.into()) as u64;
        Some(self.time_of(target).saturating_sub(now))
    }

    /// Returns the parts held at `now`.
    pub(crate) fn level(&self, spent: u64, now: u64) -> u64 {
        let (position, _) = self.position(now);
        if spent <= position { self.capacity } else { self.level_above(spent, position) }
    }

    /// Returns the level while `spent` is above the position: 0 if a clock that went back left it
    /// more than a bucket ahead.
    #[inline]
    fn level_above(&self, spent: u64, position: u64) -> u64 {
        (position + self.capacity).saturating_sub(spent)
    }

    /// Returns the whole tokens held at `now`.
    pub(crate) fn tokens(&self, spent: u64, now: u64) -> u32 {
        (self.level(spent, now) / self.unit) as u32
    }

    pub(crate) fn is_full(&self, spent: u64, now: u64) -> bool {
        spent <= self.position(now).0
    }

    /// Returns the spent position after returning `cost`, whose take had moved the position to
    /// `mark`. The parts of a take come back with time as the position passes over them. Parts that
    /// it has passed are not returned a second time.
    pub(crate) fn refund(&self, spent: u64, cost: u32, mark: u64, now: u64) -> u64 {
        let still_owed = mark.saturating_sub(self.position(now).0);
        let cost = u64::from(cost).saturating_mul(self.unit);
        spent.saturating_sub(cost.min(still_owed))
    }

    /// Returns the spent position under this plan that holds as many tokens at `now` as `spent`
    /// holds under `old`. A smaller bucket holds at most its size.
    pub(crate) fn carry(&self, old: &Self, spent: u64, now: u64) -> u64 {
        let level =
            u128::from(old.level(spent, now)) * u128::from(self.unit) / u128::from(old.unit);
        let level = level.min(self.capacity.into()) as u64;
        self.position(now).0 + self.capacity - level
    }

    /// Returns the nanoseconds until the bucket is full.
    pub(crate) fn full_in(&self, spent: u64, now: u64) -> u64 {
        self.time_of(spent).saturating_sub(now)
    }

    pub(crate) fn max_tokens(&self) -> u32 {
        (self.capacity / self.unit) as u32
    }

    pub(crate) fn to_words(self) -> [u64; WORDS] {
        let (high, low) = self.ratio;
        [self.unit, self.capacity, high, low, self.parts, self.period]
    }

    #[inline]
    pub(crate) fn from_words([unit, capacity, high, low, parts, period]: [u64; WORDS]) -> Self {
        Self { unit, capacity, ratio: (high, low), parts, period }
    }
}

/// Returns `parts / period * 2^127`, rounded up, by long division. `parts <= period < 2^56`.
fn ratio(parts: u64, period: u64) -> (u64, u64) {
    let (parts, period) = (u128::from(parts), u128::from(period));
    let (high, rest) = ((parts << 64) / period, (parts << 64) % period);
    let (low, rest) = ((rest << 63) / period, (rest << 63) % period);
    let ratio = (high << 63) + low + u128::from(rest != 0);
    ((ratio >> 64) as u64, ratio as u64)
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}
