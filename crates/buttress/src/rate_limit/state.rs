//! The decision of a rate limiter: whether a call gets its tokens, and otherwise when.
//!
//! [`plan`] is the arithmetic of a token bucket, [`bucket`] keeps one in an atomic word, and
//! [`windows`] implements the other policies.

pub(super) mod bucket;
pub(super) mod plan;
pub(super) mod windows;

use std::time::{Duration, Instant};

use bucket::Bucket;
use windows::Windows;

use super::config::{Config, Policy};
use crate::machinery::queue::{Lack, Resource};
use crate::vocabulary::clock;

/// A record of taken tokens. A caller returns exactly these tokens with it while they still count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// For a bucket, the position after the take. For a window, the time of its entry.
    mark: u64,
    /// The version of the plan the mark belongs to.
    version: u64,
}

/// The reason why a call was not admitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Short {
    /// The tokens are available after this number of nanoseconds.
    For(u64),
    /// The call costs more than the limiter can ever hold.
    Never,
    /// Other calls wait, and this call must not overtake them.
    Behind,
}

#[derive(Debug)]
enum Kind {
    Bucket(Bucket),
    Windows(Windows),
}

#[derive(Debug)]
pub struct Limiter {
    anchor: Instant,
    kind: Kind,
}

impl Limiter {
    pub(crate) fn new(config: &Config, anchor: Instant) -> Self {
        let kind = match config.policy {
            Policy::TokenBucket => Kind::Bucket(Bucket::new(plan::Plan::new(config))),
            Policy::FixedWindow | Policy::SlidingWindow => Kind::Windows(Windows::new(config)),
        };
        Self { anchor, kind }
    }

    /// Takes `cost`, unless other calls wait. The tokens cannot be returned.
    #[inline(always)]
    pub(crate) fn spend(&self, cost: u32, now: Instant) -> Result<(), Short> {
        let now = plan::nanos_since(self.anchor, now);
        match &self.kind {
            Kind::Bucket(bucket) => bucket.spend(cost, now),
            Kind::Windows(windows) => windows.try_take(cost, now).map(drop),
        }
    }

    /// Takes `cost`, unless other calls wait.
    pub(crate) fn try_take(&self, cost: u32, now: Instant) -> Result<Receipt, Short> {
        let now = plan::nanos_since(self.anchor, now);
        match &self.kind {
            Kind::Bucket(bucket) => bucket.try_take(cost, now),
            Kind::Windows(windows) => windows.try_take(cost, now),
        }
    }

    /// Returns `true` if one token is surely available, decided without reading the clock.
    #[inline]
    pub(crate) fn surely_has_one(&self) -> bool {
        match &self.kind {
            Kind::Bucket(bucket) => bucket.surely_has_one(),
            Kind::Windows(_) => false,
        }
    }

    /// Returns the nanoseconds after `now` until `cost` is available. `None` if only the slow path
    /// can answer.
    #[inline(always)]
    pub(crate) fn quick_wait(&self, cost: u32, now: Instant) -> Option<u64> {
        match &self.kind {
            Kind::Bucket(bucket) => bucket.quick_wait(cost, plan::nanos_since(self.anchor, now)),
            Kind::Windows(_) => None,
        }
    }

    /// Returns the error that [`try_take`](Self::try_take) would return at `now`. Takes nothing.
    pub(crate) fn peek(&self, cost: u32, now: Instant) -> Result<(), Short> {
        let now = plan::nanos_since(self.anchor, now);
        match &self.kind {
            Kind::Bucket(bucket) => bucket.peek(cost, now),
            Kind::Windows(windows) => windows.peek(cost, now),
        }
    }

    /// Returns how long until `cost` is available, after other calls have taken `ahead`. `None` if
    /// never.
    pub(crate) fn wait_for(&self, ahead: u64, cost: u32, now: Instant) -> Option<Duration> {
        let now = plan::nanos_since(self.anchor, now);
        let nanos = match &self.kind {
            Kind::Bucket(bucket) => bucket.wait_for(ahead, cost, now),
            Kind::Windows(windows) => windows.wait_for(ahead, cost, now),
        };
        nanos.map(Duration::from_nanos)
    }

    /// Returns unused tokens to the limiter, as far as they still count. Tokens that time has
    /// brought back meanwhile are not returned a second time.
    pub(crate) fn refund(&self, cost: u32, receipt: Receipt, now: Instant) {
        match &self.kind {
            Kind::Bucket(bucket) => {
                bucket.refund(cost, receipt, plan::nanos_since(self.anchor, now));
            }
            Kind::Windows(windows) => windows.refund(cost, receipt),
        }
    }

    /// Returns how many whole tokens are available now.
    pub(crate) fn available(&self, now: Instant) -> u32 {
        let now = plan::nanos_since(self.anchor, now);
        match &self.kind {
            Kind::Bucket(bucket) => bucket.available(now),
            Kind::Windows(windows) => windows.available(now),
        }
    }

    /// Returns the time until all tokens are refilled.
    pub(crate) fn full_in(&self, now: Instant) -> Duration {
        let now = plan::nanos_since(self.anchor, now);
        Duration::from_nanos(match &self.kind {
            Kind::Bucket(bucket) => bucket.full_in(now),
            Kind::Windows(windows) => windows.full_in(now),
        })
    }

    /// Returns the most tokens that can ever be taken together.
    pub(crate) fn max_tokens(&self) -> u32 {
        match &self.kind {
            Kind::Bucket(bucket) => bucket.max_tokens(),
            Kind::Windows(windows) => windows.limit(),
        }
    }

    pub(crate) fn policy(&self) -> Policy {
        match &self.kind {
            Kind::Bucket(_) => Policy::TokenBucket,
            Kind::Windows(windows) => windows.policy(),
        }
    }

    /// Changes rate and size, and keeps the level. The policy must be unchanged. The caller
    /// serializes the changes.
    pub(crate) fn apply(&self, config: &Config, now: Instant) {
        let now = plan::nanos_since(self.anchor, now);
        match &self.kind {
            Kind::Bucket(bucket) => bucket.apply(plan::Plan::new(config), now),
            Kind::Windows(windows) => windows.apply(config, now),
        }
    }
}

impl Resource for Limiter {
    type Receipt = Receipt;
    const COMES_WITH_TIME: bool = true;

    fn take(&self, cost: u32, since: Instant, until: Instant) -> Result<Receipt, Lack> {
        let since = plan::nanos_since(self.anchor, since);
        let until = plan::nanos_since(self.anchor, until);
        let taken = match &self.kind {
            Kind::Bucket(bucket) => bucket.take_due(cost, since, until),
            Kind::Windows(windows) => windows.take_due(cost, since, until),
        };
        taken.map_err(|short| match short {
            Short::Never => Lack::Never,
            Short::For(_) | Short::Behind => Lack::Now,
        })
    }

    fn give_back(&self, cost: u32, receipt: Receipt, now: Instant) {
        self.refund(cost, receipt, now);
    }

    fn due(&self, ahead: u64, cost: u32, now: Instant) -> Option<Instant> {
        self.wait_for(ahead, cost, now).map(|wait| clock::after(now, wait))
    }

    fn set_waiting(&self, waiting: bool) {
        match &self.kind {
            Kind::Bucket(bucket) => bucket.set_waiting(waiting),
            Kind::Windows(windows) => windows.set_waiting(waiting),
        }
    }
}
