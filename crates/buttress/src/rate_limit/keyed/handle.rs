use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use super::rules::{OneRule, PlanStats, Plans, Rules};
use super::shared::{Counter, Shared};
use crate::machinery::keyed::{self, keyed_stats};
use crate::rate_limit::config::Config;
#[cfg(feature = "serde")]
use crate::vocabulary::duration_text;
use crate::vocabulary::error::Error;
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::observe::Common;
use crate::vocabulary::reading::{Reading, snapshot};

/// The handle of a keyed limiter, for operators and for use without tower. Cheap to clone.
pub type KeyedHandle<K, P = OneRule> = keyed::KeyedHandle<Shared<K, P>>;

/// The handle of a keyed limiter with a plan per key, for the state of a service or the field of a
/// struct. `P` is the type of a plan, e.g. `&'static str`.
pub type PlansHandle<K, P> = KeyedHandle<K, Plans<K, P>>;

impl<K: Hash + Eq + Clone, P: Rules<K>> KeyedHandle<K, P> {
    /// Takes `cost` tokens of `key`, without waiting.
    ///
    /// # Errors
    /// Returns [`RateLimited`](crate::ErrorKind::RateLimited) if the tokens are not available, with the exact time
    /// until they are. Returns [`TooManyKeys`](crate::ErrorKind::TooManyKeys) if there is no place for a new key.
    pub fn try_acquire(&self, key: &K, cost: u32) -> Result<(), Error> {
        self.keys.try_take(key, cost).map(|_spent| ())
    }

    /// Returns how many whole tokens `key` could take now, without taking any. `None` if the key is
    /// not held. A key that is not held starts with a full bucket. A key whose plan has changed
    /// moves to its new plan, as it does at a call.
    #[must_use]
    pub fn available(&self, key: &K) -> Option<u32> {
        let now = self.keys.now();
        let (rule, spent) = self.keys.look(key, now);
        spent.map(|spent| rule.plan.tokens(spent, now))
    }

    /// Returns the rules of `key` and its tokens, without taking any. A key that is not held has a
    /// full bucket.
    ///
    /// A key whose plan has changed moves to its new plan, as it does at a call: from now on its
    /// bucket fills at the rate that is returned.
    #[must_use]
    pub fn limit_of(&self, key: &K) -> KeyLimit {
        let now = self.keys.now();
        let (rule, spent) = self.keys.look(key, now);
        let spent = spent.unwrap_or(0);
        KeyLimit {
            available: rule.plan.tokens(spent, now),
            max_tokens: rule.plan.max_tokens(),
            refill_tokens: rule.refill_tokens,
            refill_period: rule.refill_period,
            full_in: Duration::from_nanos(rule.plan.full_in(spent, now)),
        }
    }

    /// Returns a snapshot of the statistics.
    #[must_use]
    pub fn stats(&self) -> KeyedStats {
        let shared = &self.keys;
        KeyedStats {
            keys: shared.keys.len(),
            max_keys: shared.keys.max_keys(),
            refused: shared.counters.sum(Counter::Refused),
            too_many_keys: shared.counters.sum(Counter::TooManyKeys),
            unlisted_plan: shared.counters.sum(Counter::UnlistedPlan),
            admitted: shared.common.count_calls.then(|| shared.counters.sum(Counter::Admitted)),
        }
    }
}

impl<K: Hash + Eq + Clone> KeyedHandle<K> {
    /// Returns the rules of every key, with the name, clock and observer of the layer.
    pub fn config(&self) -> Config {
        self.keys.config(())
    }

    /// Changes rate and size of every key to the values of `config`. The keys keep their levels.
    /// The duration grows with the number of keys.
    ///
    /// # Errors
    /// Returns the errors of [`KeyedRateLimitLayer::new`](super::KeyedRateLimitLayer::new). Nothing changes then.
    pub fn reconfigure(&self, config: &Config) -> Result<(), InvalidConfig> {
        self.keys.change((), config)
    }
}

impl<K: Hash + Eq + Clone, P: PartialEq + fmt::Debug> KeyedHandle<K, Plans<K, P>> {
    /// Changes rate and size of every key of `plan` to the values of `config`. The keys keep their
    /// levels. The duration grows with the number of all keys.
    ///
    /// # Errors
    /// Returns an error for a plan that is not listed, and the errors of
    /// [`KeyedRateLimitLayer::with_plans`](super::KeyedRateLimitLayer::with_plans). Nothing changes then.
    pub fn reconfigure_plan(&self, plan: &P, config: &Config) -> Result<(), InvalidConfig> {
        self.keys.change(self.keys.rules.known(plan)?, config)
    }

    /// Returns a snapshot of the statistics of `plan`, over all its keys.
    ///
    /// # Errors
    /// Returns an error for a plan that is not listed.
    pub fn stats_of_plan(&self, plan: &P) -> Result<PlanStats, InvalidConfig> {
        let rules = &self.keys.rules;
        Ok(rules.stats(rules.known(plan)?, &self.keys.common))
    }

    /// Returns a snapshot of the statistics of all keys without a listed plan.
    #[must_use]
    pub fn stats_of_unlisted(&self) -> PlanStats {
        self.keys.rules.stats(0, &self.keys.common)
    }

    /// Returns the rules of every key of `plan`, with the name, clock and observer of the layer.
    ///
    /// # Errors
    /// Returns an error for a plan that is not listed.
    pub fn config_of_plan(&self, plan: &P) -> Result<Config, InvalidConfig> {
        Ok(self.keys.config(self.keys.rules.known(plan)?))
    }

    /// Returns the rules of every key without a listed plan, with the name, clock and observer of the layer.
    pub fn config_of_unlisted(&self) -> Config {
        self.keys.config(0)
    }

    /// Changes rate and size of every key without a listed plan to the values of `config`. The keys
    /// keep their levels. The duration grows with the number of all keys.
    ///
    /// # Errors
    /// Returns the errors of [`KeyedRateLimitLayer::with_plans`](super::KeyedRateLimitLayer::with_plans). Nothing
    /// changes then.
    pub fn reconfigure_unlisted(&self, config: &Config) -> Result<(), InvalidConfig> {
        self.keys.change(0, config)
    }
}

impl<K, P: Rules<K>> KeyedHandle<K, P> {
    pub(in crate::rate_limit) fn common(&self) -> &Common {
        &self.keys.common
    }

    pub(in crate::rate_limit) fn read_plans(&self, reading: &mut Reading) {
        self.keys.read_plans(reading);
    }
}

keyed_stats! {
    /// A snapshot of a keyed limiter.
    refused: "Calls refused because their key had too few tokens."
    /// Calls whose plan is not listed, admitted or refused. Zero for a limiter without plans.
    pub unlisted_plan: u64,
    /// Calls admitted. `None` unless [`count_calls`](Config::count_calls) is on.
    pub admitted: Option<u64>,
}

snapshot! {
    /// The rules and the tokens of one key.
    pub struct KeyLimit: Copy + Eq {
        /// Whole tokens that are available now.
        pub available: u32,
        /// The size of the bucket.
        pub max_tokens: u32,
        /// How many tokens are refilled in [`refill_period`](Self::refill_period).
        pub refill_tokens: u32,
        /// The time in which [`refill_tokens`](Self::refill_tokens) tokens are refilled.
        #[cfg_attr(feature = "serde", serde(serialize_with = "duration_text::serialize"))]
        pub refill_period: Duration,
        /// The time until the bucket is full, if no call takes a token.
        #[cfg_attr(feature = "serde", serde(serialize_with = "duration_text::serialize"))]
        pub full_in: Duration,
    }
}
