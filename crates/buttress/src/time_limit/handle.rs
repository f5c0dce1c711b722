use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::config::{Config, Hook};
use super::future::Limited;
use crate::clock;
use crate::counters::Counters;
use crate::error::{Error, InvalidConfig};
use crate::observe::Common;
use crate::sync::{AtomicU64, Ordering};

const TIMED_OUT: usize = 0;
const CALLS: usize = 1;

/// What every service of one layer shares.
pub(super) struct Shared {
    limit: AtomicU64,
    on_timeout: Option<Hook>,
    counters: Counters<2>,
    pub(super) common: Common,
}

impl Shared {
    pub(super) fn new(config: &Config) -> Result<Arc<Self>, InvalidConfig> {
        config.check()?;
        Ok(Arc::new(Self {
            limit: AtomicU64::new(clock::to_nanos(config.limit)),
            on_timeout: config.on_timeout.clone(),
            counters: Counters::new(),
            common: config.common.clone(),
        }))
    }

    pub(super) fn limit(&self) -> Duration {
        Duration::from_nanos(self.limit.load(Ordering::Relaxed))
    }

    /// Begins a call: its time counts from now.
    pub(super) fn begin<F>(self: &Arc<Self>, future: F, limit: Duration) -> Limited<F> {
        if self.common.count_calls {
            self.counters.add(CALLS);
        }
        let deadline = clock::after(self.common.clock.now(), limit);
        Limited::new(future, deadline, limit, self.clone())
    }

    pub(super) fn timed_out(&self, limit: Duration) -> Error {
        let error = Error::timed_out(self.common.name, limit);
        self.counters.add(TIMED_OUT);
        self.common.timed_out(&error);
        if let Some(hook) = &self.on_timeout {
            hook(&error);
        }
        error
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("limit", &self.limit()).finish_non_exhaustive()
    }
}

/// The operator's view of a time limit, and its use without tower. Cheap to clone; all clones, and
/// every service of the layer, share one state.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl Handle {
    /// Runs `future` under the limit, counted from this call.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use buttress::time_limit::{Config, TimeLimitLayer};
    /// let limit = TimeLimitLayer::new(Config::new(Duration::from_millis(100)))?.handle();
    /// assert_eq!(limit.run(async { 1 }).await?, 1);
    /// assert!(limit.run(std::future::pending::<()>()).await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`TimedOut`](crate::ErrorKind::TimedOut) if it is not done by then; it is dropped.
    pub fn run<F: Future>(&self, future: F) -> Limited<F> {
        self.shared.begin(future, self.shared.limit())
    }

    /// Takes over the limit of `config` for calls that begin from now on.
    ///
    /// # Errors
    /// What [`TimeLimitLayer::new`](super::TimeLimitLayer::new) would refuse is refused and changes
    /// nothing.
    pub fn reconfigure(&self, config: &Config) -> Result<(), InvalidConfig> {
        config.check()?;
        self.shared.limit.store(clock::to_nanos(config.limit), Ordering::Relaxed);
        self.shared.common.reconfigured();
        Ok(())
    }

    /// Whether [`reconfigure`](Self::reconfigure) would take `config`. Changes nothing.
    ///
    /// # Errors
    /// What it would say.
    pub fn accepts(&self, config: &Config) -> Result<(), InvalidConfig> {
        config.check()
    }

    /// The numbers as they are now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        Stats {
            limit: shared.limit(),
            timed_out: shared.counters.sum(TIMED_OUT),
            calls: shared.common.count_calls.then(|| shared.counters.sum(CALLS)),
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("name", &self.shared.common.name)
            .field("stats", &self.stats())
            .finish()
    }
}

/// A snapshot of a time limit.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stats {
    /// The limit in force.
    pub limit: Duration,
    /// Calls cut short.
    pub timed_out: u64,
    /// Calls begun; `None` unless [`count_calls`](Config::count_calls) is on.
    pub calls: Option<u64>,
}
