//! The state that the services of a keyed limiter share.

use std::fmt;
use std::hash::Hash;
use std::time::Instant;

use super::rules::{PlanCounter, Rule, Rules};
use crate::machinery::counters::{Counters, counters};
use crate::machinery::key_map::{KeyMap, check_max_keys};
use crate::machinery::keyed::PerKey;
use crate::rate_limit::config::{Config, Policy};
use crate::rate_limit::state::Short;
use crate::rate_limit::state::plan::nanos_since;
use crate::rate_limit::tokens::Spent;
use crate::sync::{Mutex, lock};
use crate::vocabulary::error::{Error, RetryAfter};
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::name::Name;
use crate::vocabulary::observe::Common;
use crate::vocabulary::pattern::Pattern;
use crate::vocabulary::reading::Reading;

counters! {
    /// The counters of a keyed limiter.
    pub(super) enum Counter {
        Refused,
        TooManyKeys,
        Admitted,
        UnlistedPlan,
    }
}

/// The rules, and for each key the position up to which its tokens are spent.
pub struct Shared<K, P: Rules<K>> {
    anchor: Instant,
    pub(super) rules: P,
    pub(super) keys: KeyMap<K, P::Entry, P::Table>,
    pub(super) counters: Counters<Counter>,
    pub(super) common: Common,
    /// The given configuration. Its queue and waits are not used.
    given: Config,
    /// The newest rules. Its lock serializes changes: shards get them one after another.
    table: Mutex<P::Table>,
}

impl<K: Hash + Eq + Clone, P: Rules<K>> Shared<K, P> {
    pub(super) fn new(
        config: Config,
        max_keys: usize,
        rules: P,
        table: P::Table,
    ) -> Result<Self, InvalidConfig> {
        config.common.named(check_max_keys(max_keys))?;
        Ok(Self {
            anchor: config.common.clock.now(),
            rules,
            keys: KeyMap::new(max_keys, table.clone()),
            counters: Counters::new(),
            common: config.common.of_keys(Pattern::RateLimit),
            given: config,
            table: Mutex::new(table),
        })
    }

    /// Returns the nanoseconds since the limiter was made.
    pub(super) fn now(&self) -> u64 {
        nanos_since(self.anchor, self.common.clock.now())
    }

    pub(super) fn try_take(&self, key: &K, cost: u32) -> Result<Spent, Error> {
        // Code of the user runs before any lock is taken.
        let which = self.rules.which(key);
        if P::is_unlisted(which) {
            self.counters.add(Counter::UnlistedPlan);
        }
        let now = self.now();
        let taken = self.keys.with(
            key,
            |_| P::full(which),
            // A full bucket can be forgotten: a new bucket is full too.
            |table, entry| {
                let (rule, spent) = P::kept(table, entry);
                rule.plan.is_full(spent, now)
            },
            |table, entry| {
                let (rule, spent) = P::under(table, entry, which, now);
                match rule.plan.take(*spent, cost, now) {
                    Ok(taken) => {
                        *spent = taken.spent;
                        Ok(())
                    }
                    Err(short) => Err((short, rule.per_second)),
                }
            },
        );
        let error = match taken {
            Ok(Ok(())) => {
                if self.common.count_calls {
                    self.counters.add(Counter::Admitted);
                    self.rules.count(which, PlanCounter::Admitted);
                }
                return Ok(Spent);
            }
            Ok(Err((short, per_second))) => {
                self.counters.add(Counter::Refused);
                self.rules.count(which, PlanCounter::Refused);
                let retry_after = match short {
                    Short::For(nanos) => RetryAfter::nanos(nanos),
                    Short::Never | Short::Behind => RetryAfter::UNKNOWN,
                };
                Error::rate_limited(self.common.name, per_second, retry_after)
            }
            Err(_) => {
                self.counters.add(Counter::TooManyKeys);
                Error::too_many_keys(self.common.name, self.keys.max_keys() as u32)
            }
        };
        self.common.refused(|| error.clone());
        Err(error)
    }

    /// Moves `key` to the rules that it has now, as a call does, so that the numbers that are shown
    /// come true. Returns these rules and the spent position, which is `None` if the key is not held.
    pub(super) fn look(&self, key: &K, now: u64) -> (Rule, Option<u64>) {
        let which = self.rules.which(key);
        let held = self.keys.peek(key, |table, entry| {
            let (rule, spent) = P::under(table, entry, which, now);
            (*rule, *spent)
        });
        match held {
            Some((rule, spent)) => (rule, Some(spent)),
            None => (*P::rule(&lock(&self.table), which), None),
        }
    }

    /// Returns the rules in force that `which` selects.
    pub(super) fn config(&self, which: P::Which) -> Config {
        let rule = *P::rule(&lock(&self.table), which);
        self.given
            .clone()
            .max_tokens(rule.plan.max_tokens())
            .refill(rule.refill_tokens, rule.refill_period)
    }

    /// Changes rate and size of every key with these rules. The keys keep their levels.
    pub(super) fn change(&self, which: P::Which, config: &Config) -> Result<(), InvalidConfig> {
        check(config)?;
        let mut table = lock(&self.table);
        let rule = Rule::new(config);
        *table = P::replaced(&table, which, rule);
        let now = self.now();
        self.keys.change(&table, |old, entry| {
            if P::is_under(entry, which) {
                let (old, spent) = P::kept(old, entry);
                *P::spent(entry) = rule.plan.carry(&old.plan, spent, now);
            }
        });
        drop(table);
        self.common.reconfigured();
        Ok(())
    }
}

impl<K, P: Rules<K>> Shared<K, P> {
    /// Adds the numbers of each plan to `reading`.
    pub(super) fn read_plans(&self, reading: &mut Reading) {
        let table = lock(&self.table).clone();
        self.rules.read_plans(&table, &self.common, reading);
    }
}

impl<K, P: Rules<K>> fmt::Debug for Shared<K, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl<K, P: Rules<K>> PerKey for Shared<K, P> {
    type Key = K;
    type Pass = Spent;

    fn name(&self) -> Name {
        self.common.name
    }

    fn keys(&self) -> usize {
        self.keys.len()
    }

    fn max_keys(&self) -> usize {
        self.keys.max_keys()
    }
}

pub(super) fn check(config: &Config) -> Result<(), InvalidConfig> {
    config.check()?;
    if config.policy != Policy::TokenBucket {
        let policy = format!("{:?}", config.policy);
        let unkeyed = InvalidConfig::new("policy", policy, "TokenBucket in a keyed limiter");
        return config.common.named(Err(unkeyed));
    }
    Ok(())
}
