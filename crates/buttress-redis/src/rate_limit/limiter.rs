//! [`Limiter`]: the decision about one call, by Redis or, while Redis is unavailable, without it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buttress::circuit_breaker::{self, CircuitBreakerLayer};
use buttress::health::{Finding, Watch};
use buttress::idempotency::Fingerprint;
use buttress::{Clock, Error, InvalidConfig};

use super::config::{Config, OnOutage};
use super::refusal::refusal;
use super::script::{Taken, take};
use super::state::Buckets;
use crate::link::Link;

/// The longest key that is written unchanged.
const LONGEST_KEY: usize = 200;

/// The handle of a limiter whose tokens are in Redis: for operators, and for use without tower. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    link: Link,
    clock: Clock,
    /// Opens at the first failure, so that one call waits for a Redis that does not answer, and not all.
    breaker: circuit_breaker::Handle,
    buckets: Mutex<Buckets>,
    trouble: Mutex<Option<String>>,
    admitted: AtomicU64,
    refused: AtomicU64,
    without_redis: AtomicU64,
}

/// The decisions of a limiter since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Calls that passed.
    pub admitted: u64,
    /// Calls that were refused.
    pub refused: u64,
    /// Calls that were decided without Redis, of both kinds.
    pub without_redis: u64,
}

impl Handle {
    pub(super) fn new(config: Config, link: Link, clock: Clock) -> Result<Self, InvalidConfig> {
        config.check().map_err(|error| error.of_layer(config.name.as_str()))?;
        let share = match config.on_outage {
            OnOutage::Local { share } => share,
            OnOutage::Allow | OnOutage::Refuse => 1.0,
        };
        let Config { max_tokens, refill_tokens, refill_period, local_keys, .. } = config;
        let buckets = Buckets::new(max_tokens, refill_tokens, refill_period, share, local_keys);
        let breaker = circuit_breaker::Config::new()
            .name(config.name.as_str())
            .consecutive_failures(1)
            .open_for(config.retry_after)
            .clock(clock.clone());
        let breaker = CircuitBreakerLayer::new(breaker)?.handle();
        let shared = Shared {
            config,
            link,
            clock,
            breaker,
            buckets: Mutex::new(buckets),
            trouble: Mutex::default(),
            admitted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            without_redis: AtomicU64::new(0),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Takes `cost` tokens of `key`, if they are there.
    ///
    /// # Errors
    /// Returns [`RateLimited`](buttress::ErrorKind::RateLimited) with the time until the tokens are refilled. The time
    /// is absent if `cost` is more than a bucket can hold. While Redis is unavailable, [`OnOutage`] decides; with
    /// [`OnOutage::Refuse`] the error is [`CircuitOpen`](buttress::ErrorKind::CircuitOpen).
    ///
    /// # Cancel safety
    /// If the future is dropped, the tokens may be taken.
    pub async fn try_acquire(&self, key: &str, cost: u32) -> Result<(), Error> {
        let shared = &self.shared;
        let answer = match shared.breaker.try_acquire() {
            Ok(admission) => match self.ask(key, cost).await {
                Ok(taken) => {
                    admission.success();
                    *shared.trouble() = None;
                    Some(taken)
                }
                Err(error) => {
                    *shared.trouble() = Some(error.to_string());
                    admission.failure();
                    None
                }
            },
            Err(_open) => None,
        };
        let decided = match answer {
            Some(Taken::Admitted) => Ok(()),
            Some(Taken::Refused(wait)) => Err(self.refused(wait)),
            None => self.alone(key, cost),
        };
        let number = if decided.is_ok() { &shared.admitted } else { &shared.refused };
        number.fetch_add(1, Ordering::Relaxed);
        decided
    }

    async fn ask(&self, key: &str, cost: u32) -> Result<Taken, crate::Error> {
        let Shared { config, link, clock, .. } = &*self.shared;
        let debt = self.shared.buckets().debt(clock.now(), key);
        // A dropped call leaves the debt with Redis unpaid.
        let mut unpaid = Unpaid { shared: &self.shared, key, debt };
        let name = self.shared.name_of(key);
        let taken = take(link, config, &name, cost, debt).await?;
        unpaid.debt = 0;
        if taken == Taken::Admitted {
            self.shared.buckets().count(clock.now(), key, cost);
        }
        Ok(taken)
    }

    /// Decides without Redis.
    fn alone(&self, key: &str, cost: u32) -> Result<(), Error> {
        let shared = &self.shared;
        shared.without_redis.fetch_add(1, Ordering::Relaxed);
        match shared.config.on_outage {
            OnOutage::Allow => Ok(()),
            OnOutage::Local { .. } => {
                let taken = shared.buckets().take(shared.clock.now(), key, cost);
                taken.map_err(|wait| self.refused(wait))
            }
            // The circuit may have closed in between: the next call asks Redis.
            OnOutage::Refuse => match shared.breaker.check() {
                Err(open) => Err(open),
                Ok(()) => Err(self.refused(Some(Duration::ZERO))),
            },
        }
    }

    fn refused(&self, wait: Option<Duration>) -> Error {
        match refusal(&self.shared.config, wait) {
            Some(error) => error,
            None => unreachable!("a checked configuration makes a limiter that refuses"),
        }
    }

    /// Returns the numbers since the limiter was made.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let Shared { admitted, refused, without_redis, .. } = &*self.shared;
        Stats {
            admitted: admitted.load(Ordering::Relaxed),
            refused: refused.load(Ordering::Relaxed),
            without_redis: without_redis.load(Ordering::Relaxed),
        }
    }

    /// Returns the circuit in front of Redis. It is open while Redis is unavailable.
    #[must_use]
    pub fn circuit(&self) -> circuit_breaker::Handle {
        self.shared.breaker.clone()
    }
}

/// A health check: DOWN while Redis is unavailable, with the last error.
impl Watch for Handle {
    async fn look(&self) -> Finding {
        self.shared.trouble().clone().map_or(Ok(()), Err).into()
    }
}

impl Shared {
    fn buckets(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the key of a bucket. The braces keep a bucket in one slot of a cluster.
    fn name_of(&self, key: &str) -> String {
        let name = self.config.name;
        if key.len() <= LONGEST_KEY {
            return format!("buttress:limit:{name}:{{{key}}}");
        }
        format!("buttress:limit:{name}:{{{:032x}}}", Fingerprint::of(key.as_bytes()).get())
    }
}

/// A debt that Redis has not taken yet.
struct Unpaid<'a> {
    shared: &'a Shared,
    key: &'a str,
    debt: u32,
}

impl Drop for Unpaid<'_> {
    fn drop(&mut self) {
        if self.debt > 0 {
            self.shared.buckets().still_owes(self.key);
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("config", &self.shared.config).finish_non_exhaustive()
    }
}
