use std::sync::Arc;
use std::time::Duration;

use crate::vocabulary::invalid_config::{InvalidConfig, check_at_least, check_duration};
use crate::vocabulary::observe::{Common, Observer, common_setters};
use crate::vocabulary::setters::{configuration, setters};

/// The algorithm of the limit.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Policy {
    /// A token bucket: admits bursts up to [`max_tokens`](Config::max_tokens), then calls at the
    /// refill rate. Exact, and without a lock.
    #[default]
    TokenBucket,
    /// A fixed window: admits at most [`max_tokens`](Config::max_tokens) in each period. The count starts again from
    /// zero with each period. Around the end of a period twice the limit can pass. Choose it where a peer counts in
    /// this way. Takes a short lock.
    FixedWindow,
    /// A sliding window: admits at most [`max_tokens`](Config::max_tokens) in *any* time span of one period. Exact. It
    /// remembers every call of the last period and takes a short lock, so choose the token bucket
    /// for hot paths.
    SlidingWindow,
}

configuration! {
    /// The configuration of a rate limiter: how many calls pass, and how long the next call may wait.
    ///
    /// Setters take the configuration by value. The constructor of the limiter checks it.
    #[derive(Clone, Debug)]
    pub struct Config {
        policy: Policy = Policy::TokenBucket,
        max_tokens: u32 = 10,
        refill_tokens: u32 = 10,
        #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
        refill_period: Duration = Duration::from_secs(1),
        queue: u32 = 1000,
        #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
        max_wait: Duration = Duration::from_secs(1),
        #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
        claim_within: Duration = Duration::from_secs(1),
    }
}

impl Config {
    setters! {
        /// Sets the size of the bucket: how many tokens can be taken together after a quiet time.
        /// Default: 10, one second's worth of the default rate. At least 1. For window policies, the
        /// limit of a window.
        max_tokens(tokens: u32);
    }

    /// Sets the refill rate: `tokens` are refilled evenly in every `period`. Default: 10 per second. At least
    /// 1 token, at most one per nanosecond, and a period of at most 365 days.
    pub fn refill(mut self, tokens: u32, period: Duration) -> Self {
        self.refill_tokens = tokens;
        self.refill_period = period;
        self
    }

    /// Chooses windows of length `period` that admit `limit` tokens each, instead of a token
    /// bucket.
    pub fn fixed_window(self, limit: u32, period: Duration) -> Self {
        Self { policy: Policy::FixedWindow, ..self }.max_tokens(limit).refill(limit, period)
    }

    /// Chooses a limit of `limit` tokens in any time span of length `period`, instead of a token
    /// bucket.
    pub fn sliding_window(self, limit: u32, period: Duration) -> Self {
        Self { policy: Policy::SlidingWindow, ..self }.max_tokens(limit).refill(limit, period)
    }

    setters! {
        /// Sets how many calls may wait, in [`queued`](super::RateLimitLayer::queued) layers and
        /// [`Handle::acquire`](super::Handle::acquire). Default: 1000, which bounds memory even if
        /// [`max_wait`](Self::max_wait) is long.
        queue(calls: u32);

        /// Sets how long a call may wait for its tokens. A call that needs a longer wait is
        /// refused immediately. A call that has its tokens may wait longer for the inner service.
        /// Default: 1 second. Longer than zero, at most 365 days.
        max_wait(wait: Duration);

        /// Sets how long a [`backpressure`](super::RateLimitLayer::backpressure) service that is not
        /// polled keeps a token that it was granted while it waited.
        ///
        /// The token then goes to the next waiter, or to any caller if no other service waits. The
        /// service keeps its place at the head of the queue: when it is polled again, it is served
        /// first. Default: 1 second. Longer than zero, at most 365 days.
        claim_within(time: Duration);
    }

    common_setters!();

    /// Sets `observer` unless the configuration has one.
    pub(crate) fn observed_by(mut self, observer: Arc<dyn Observer>) -> Self {
        self.common.observer.get_or_insert(observer);
        self
    }

    /// Checks the fields. An error has the name of the layer.
    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        self.common.named(self.check_fields())
    }

    fn check_fields(&self) -> Result<(), InvalidConfig> {
        check_at_least("max-tokens", self.max_tokens, 1)?;
        check_at_least("refill-tokens", self.refill_tokens(), 1)?;
        check_duration("refill-period", self.refill_period)?;
        check_duration("max-wait", self.max_wait)?;
        check_duration("claim-within", self.claim_within)?;
        if u128::from(self.refill_tokens()) > self.refill_period.as_nanos() {
            let bound = format!("at most one per nanosecond of {:?}", self.refill_period);
            return Err(InvalidConfig::new("refill-tokens", self.refill_tokens(), bound));
        }
        Ok(())
    }

    /// Checks that the policy is the policy of `old`, the rules in force.
    pub(super) fn keeps_policy(&self, old: &Self) -> Result<(), InvalidConfig> {
        if self.policy == old.policy {
            return Ok(());
        }
        let bound = format!("{:?}, which cannot change while the limiter runs", old.policy);
        Err(InvalidConfig::new("policy", format_args!("{:?}", self.policy), bound))
    }

    /// Returns how many tokens are refilled in a period. For a window it is the whole limit.
    pub(super) fn refill_tokens(&self) -> u32 {
        match self.policy {
            Policy::TokenBucket => self.refill_tokens,
            Policy::FixedWindow | Policy::SlidingWindow => self.max_tokens,
        }
    }

    pub(super) fn per_second(&self) -> f32 {
        (f64::from(self.refill_tokens()) / self.refill_period.as_secs_f64()) as f32
    }
}
