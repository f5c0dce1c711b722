//! The configuration of a limiter.

use std::time::Duration;

use buttress::__const_setters as const_setters;
use buttress::{InvalidConfig, Name};

use crate::check::check_duration;

/// The largest number that a script of Redis counts exactly.
const EXACT: u128 = 1 << 53;

/// The decision of a limiter while Redis is unavailable.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum OnOutage {
    /// Each process limits alone, to this share of tokens and rate. Above 0, at most 1.
    ///
    /// With n processes a share of 1/n keeps the limit of all together, except that a process always has at least one
    /// token. The local buckets are warm: they count the calls before the outage too.
    Local {
        /// The share.
        share: f64,
    },
    /// All calls pass.
    Allow,
    /// No call passes. The error is the refusal of an open circuit.
    Refuse,
}

/// The configuration of a limiter whose tokens are in Redis.
///
/// Setters take and return the value. [`Redis::rate_limit`](crate::Redis::rate_limit) checks the values.
#[derive(Clone, Debug)]
#[must_use]
pub struct Config {
    pub(super) name: Name,
    pub(super) max_tokens: u32,
    pub(super) refill_tokens: u32,
    pub(super) refill_period: Duration,
    pub(super) on_outage: OnOutage,
    pub(super) call_limit: Duration,
    pub(super) retry_after: Duration,
    pub(super) local_keys: usize,
}

impl Config {
    /// Creates the configuration of 10 tokens and 10 tokens a second, for a limiter with this name.
    ///
    /// The name is a part of the keys in Redis: processes that share a limit give it the same name.
    pub fn new(name: impl Into<Name>) -> Self {
        Self {
            name: name.into(),
            max_tokens: 10,
            refill_tokens: 10,
            refill_period: Duration::from_secs(1),
            on_outage: OnOutage::Local { share: 0.5 },
            call_limit: Duration::from_millis(50),
            retry_after: Duration::from_secs(1),
            local_keys: 10_000,
        }
    }

    const_setters! {
        /// Sets how many tokens a key has after a quiet time. Default: 10. At least 1.
        max_tokens(tokens: u32);
    }

    /// Sets the refill rate: `tokens` are refilled evenly in every `period`. Default: 10 per second. At least 1 token,
    /// at most one per microsecond, and a period of at most 365 days.
    pub const fn refill(mut self, tokens: u32, period: Duration) -> Self {
        (self.refill_tokens, self.refill_period) = (tokens, period);
        self
    }

    const_setters! {
        /// Sets the behaviour while Redis is unavailable. Default: [`OnOutage::Local`] with a share of 0.5, for two
        /// processes. Set the share to 1 divided by the number of your processes.
        on_outage(policy: OnOutage);

        /// Sets how long a call waits for Redis, connecting included. Default: 50 ms, longer than Redis takes within a
        /// data centre. Between 1 ms and 365 days.
        call_limit(limit: Duration);

        /// Sets how long Redis is not asked after a failure. Default: 1 second. Between 1 ms and 365 days.
        ///
        /// Then one call asks, and the others do not wait for it.
        retry_after(time: Duration);

        /// Sets how many keys have a local bucket. Default: 10 000. Between 1 and 10 000 000.
        ///
        /// Beyond it the process forgets the bucket that is nearest to being full. A forgotten bucket is full again.
        local_keys(keys: usize);
    }

    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        InvalidConfig::check_range("max-tokens", self.max_tokens, 1..=u32::MAX)?;
        InvalidConfig::check_range("refill-tokens", self.refill_tokens, 1..=u32::MAX)?;
        check_duration("refill-period", self.refill_period, Duration::from_micros(1))?;
        check_duration("call-limit", self.call_limit, Duration::from_millis(1))?;
        check_duration("retry-after", self.retry_after, Duration::from_millis(1))?;
        InvalidConfig::check_range("local-keys", self.local_keys, 1..=10_000_000)?;
        let micros = self.refill_period.as_micros();
        if u128::from(self.refill_tokens) > micros {
            let bound = format!("at most one per microsecond of {:?}", self.refill_period);
            return Err(InvalidConfig::new("refill-tokens", self.refill_tokens, bound));
        }
        if u128::from(self.max_tokens) * micros > EXACT {
            let most = EXACT / micros;
            let bound = format!("at most {most} with a period of {:?}", self.refill_period);
            return Err(InvalidConfig::new("max-tokens", self.max_tokens, bound));
        }
        match self.on_outage {
            OnOutage::Local { share } if !(share > 0.0 && share <= 1.0) => {
                Err(InvalidConfig::new("share", share, "above 0, at most 1"))
            }
            _ => Ok(()),
        }
    }
}
