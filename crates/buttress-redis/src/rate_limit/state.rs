//! The buckets of one process, for the time without Redis. Pure: takes `now`.
//!
//! A bucket is the instant at which it is full again. Each call that is admitted moves the instant, also while Redis
//! decides, so that the buckets are warm when Redis becomes unavailable.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The tokens that a call of a key takes in Redis besides its own.
pub(super) type Debt = u32;

#[derive(Clone, Copy, Debug)]
struct Bucket {
    full_at: Instant,
    /// Whether calls were admitted that Redis does not know.
    owes: bool,
}

/// The local buckets.
#[derive(Debug)]
pub(super) struct Buckets {
    /// The time in which a token is refilled.
    interval: Duration,
    tokens: u32,
    most: usize,
    buckets: HashMap<Box<str>, Bucket>,
}

impl Buckets {
    /// Creates buckets for a share of `tokens` and of `refill` tokens per `period`.
    pub(super) fn new(tokens: u32, refill: u32, period: Duration, share: f64, most: usize) -> Self {
        // Rounded so that a bucket never admits more than its share, but for its one token.
        let interval = period.div_f64(f64::from(refill) * share).max(Duration::from_nanos(1));
        let tokens = ((f64::from(tokens) * share) as u32).max(1);
        Self { interval, tokens, most, buckets: HashMap::new() }
    }

    /// Takes tokens for a call that Redis does not know. Returns the time until the tokens are refilled otherwise;
    /// `None` if the cost is larger than a bucket.
    pub(super) fn take(
        &mut self,
        now: Instant,
        key: &str,
        cost: u32,
    ) -> Result<(), Option<Duration>> {
        if cost > self.tokens {
            return Err(None);
        }
        let full = self.interval.saturating_mul(self.tokens);
        let full_at = self.full_at(now, key) + self.interval.saturating_mul(cost);
        let wait = full_at.saturating_duration_since(now + full);
        if wait > Duration::ZERO {
            return Err(Some(wait));
        }
        self.put(now, key, Bucket { full_at, owes: true });
        Ok(())
    }

    /// Counts a call that Redis admitted. A bucket owes at most all of its tokens.
    pub(super) fn count(&mut self, now: Instant, key: &str, cost: u32) {
        let most = now + self.interval.saturating_mul(self.tokens);
        let full_at = self.full_at(now, key) + self.interval.saturating_mul(cost);
        let owes = self.buckets.get(key).is_some_and(|bucket| bucket.owes);
        self.put(now, key, Bucket { full_at: full_at.min(most), owes });
    }

    /// Takes out the tokens of the calls that Redis does not know, which are the tokens missing in the bucket.
    pub(super) fn debt(&mut self, now: Instant, key: &str) -> Debt {
        let Some(bucket) = self.buckets.get_mut(key) else { return 0 };
        if !std::mem::take(&mut bucket.owes) {
            return 0;
        }
        let missing = bucket.full_at.saturating_duration_since(now).as_nanos();
        let tokens = missing.div_ceil(self.interval.as_nanos().max(1));
        tokens.try_into().unwrap_or(u32::MAX)
    }

    /// Puts a debt back that Redis did not take.
    pub(super) fn still_owes(&mut self, key: &str) {
        if let Some(bucket) = self.buckets.get_mut(key) {
            bucket.owes = true;
        }
    }

    fn full_at(&self, now: Instant, key: &str) -> Instant {
        self.buckets.get(key).map_or(now, |bucket| bucket.full_at.max(now))
    }

    fn put(&mut self, now: Instant, key: &str, bucket: Bucket) {
        if let Some(known) = self.buckets.get_mut(key) {
            *known = bucket;
            return;
        }
        if self.buckets.len() >= self.most {
            // A full bucket is the same as none.
            self.buckets.retain(|_, bucket| bucket.full_at > now);
        }
        if self.buckets.len() >= self.most {
            let nearest = self.buckets.iter().min_by_key(|(_, bucket)| bucket.full_at);
            if let Some(nearest) = nearest.map(|(key, _)| key.clone()) {
                self.buckets.remove(&nearest);
            }
        }
        self.buckets.insert(key.into(), bucket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn now() -> Instant {
        buttress::VirtualClock::new().clock().now()
    }

    /// Ten tokens, and ten a second.
    fn half(most: usize) -> Buckets {
        Buckets::new(20, 20, Duration::from_secs(1), 0.5, most)
    }

    #[test]
    fn a_share_of_tokens_and_rate() {
        let (mut buckets, now) = (half(10), now());
        assert_eq!(buckets.take(now, "a", 11), Err(None), "never");
        assert_eq!(buckets.take(now, "a", 10), Ok(()));
        assert_eq!(buckets.take(now, "a", 1), Err(Some(100 * MS)));
        assert_eq!(buckets.take(now, "b", 1), Ok(()), "keys are separate");
        assert_eq!(buckets.take(now + 99 * MS, "a", 1), Err(Some(MS)));
        assert_eq!(buckets.take(now + 100 * MS, "a", 1), Ok(()));
        let smallest = Buckets::new(1, 1, Duration::from_secs(1), 0.25, 1);
        assert_eq!((smallest.tokens, smallest.interval), (1, Duration::from_secs(4)));
    }

    #[test]
    fn a_bucket_is_warm_and_owes_only_what_redis_does_not_know() {
        let (mut buckets, now) = (half(10), now());
        buckets.count(now, "a", 30);
        assert_eq!(buckets.debt(now, "a"), 0, "Redis knows them");
        assert_eq!(buckets.take(now, "a", 1), Err(Some(100 * MS)), "warm, and at most empty");
        assert_eq!(buckets.take(now + 450 * MS, "a", 2), Ok(()));
        let later = now + 450 * MS;
        assert_eq!(buckets.debt(later, "a"), 8, "six and a half are missing of before, and two");
        assert_eq!(buckets.debt(later, "a"), 0, "taken out");
        buckets.still_owes("a");
        assert_eq!(buckets.debt(later + 700 * MS, "a"), 1, "time pays");
    }

    #[test]
    fn the_number_of_buckets_is_bounded() {
        let (mut buckets, now) = (half(2), now());
        for (key, cost) in [("a", 5), ("b", 1), ("c", 3)] {
            assert_eq!(buckets.take(now, key, cost), Ok(()));
        }
        assert_eq!(buckets.buckets.len(), 2);
        assert!(!buckets.buckets.contains_key("b"), "it was the nearest to being full");
        assert_eq!(buckets.take(now + 500 * MS, "d", 1), Ok(()));
        assert_eq!(buckets.buckets.len(), 1, "full buckets are forgotten first");
    }
}
