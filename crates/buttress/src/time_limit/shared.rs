//! The state that the services of one layer share.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::{Config, Hook};
use super::future::Limited;
use super::state::Bound;
use crate::machinery::counters::{Counters, counters};
use crate::machinery::own::Own;
use crate::machinery::reconfigure::Reconfigure;
use crate::sync::{AtomicU64, Ordering};
use crate::vocabulary::error::Error;
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::observe::Common;
use crate::vocabulary::pattern::Pattern;

counters! {
    /// The counters of a time limit.
    pub(super) enum Counter {
        TimedOut,
        Calls,
    }
}

/// The state that the services of one layer share.
pub(crate) struct Shared {
    pub(super) limit: AtomicU64,
    pub(super) on_timeout: Option<Hook>,
    pub(super) counters: Counters<Counter>,
    pub(super) common: Common,
}

impl Shared {
    pub(super) fn new(config: &Config) -> Result<Arc<Self>, InvalidConfig> {
        config.check()?;
        Ok(Self::unchecked(config))
    }

    /// Creates the state without [`Config::check`]. With a limit of zero, only an answer that is
    /// ready at the first poll passes.
    pub(super) fn unchecked(config: &Config) -> Arc<Self> {
        Arc::new(Self {
            limit: AtomicU64::new(Bound::nanos(config.limit)),
            on_timeout: config.on_timeout.clone(),
            counters: Counters::new(),
            common: config.common.of(Pattern::TimeLimit),
        })
    }

    pub(super) fn limit(&self) -> Duration {
        Duration::from_nanos(self.limit.load(Ordering::Relaxed))
    }

    /// Begins a call, whose time counts from now. `make` makes its future. `limit` is the limit of
    /// this call, or `None` for the configured one.
    #[inline(always)]
    pub(super) fn begin<F, O: Own>(
        this: &O::Of<Self>,
        limit: Option<Duration>,
        make: impl FnOnce() -> F,
    ) -> Limited<F, O> {
        this.count();
        let limit = match limit {
            Some(limit) => Bound::nanos(limit),
            None => this.limit.load(Ordering::Relaxed),
        };
        let started = this.common.clock.now();
        Limited::new(make(), started, Bound::limit(limit), this.clone())
    }

    /// Counts the beginning of a call.
    #[inline(always)]
    pub(super) fn count(&self) {
        if self.common.count_calls {
            self.counters.add(Counter::Calls);
        }
    }

    /// The limit of a call that begins at `started`, or `deadline` if that is earlier.
    pub(super) fn bound(&self, started: Instant, deadline: Option<Instant>) -> Bound {
        let limit = Bound::limit(self.limit.load(Ordering::Relaxed));
        deadline.map_or(limit, |deadline| limit.and_deadline(started, deadline))
    }

    pub(super) fn timed_out(&self, bound: Bound) -> Error {
        let (name, limit) = (self.common.name, bound.duration());
        let error = if bound.is_deadline() {
            Error::deadline_exceeded(name, limit)
        } else {
            Error::timed_out(name, limit)
        };
        self.counters.add(Counter::TimedOut);
        self.common.timed_out(&error);
        if let Some(hook) = &self.on_timeout {
            hook(&error);
        }
        error
    }
}

impl Reconfigure for Shared {
    type Config = Config;

    fn config(&self) -> Config {
        let (on_timeout, common) = (self.on_timeout.clone(), self.common.clone());
        Config { limit: self.limit(), on_timeout, common }
    }

    fn accepts(_old: &Config, new: &Config) -> Result<(), InvalidConfig> {
        new.check()
    }

    fn apply(&self, config: &Config) {
        self.limit.store(Bound::nanos(config.limit), Ordering::Relaxed);
    }

    fn common(&self) -> &Common {
        &self.common
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("limit", &self.limit()).finish_non_exhaustive()
    }
}
