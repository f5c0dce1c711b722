use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::config::Config;
use super::future::Limited;
use super::shared::{CALLS, Shared, TIMED_OUT};
use crate::sync::Ordering;
use crate::vocabulary::clock;
use crate::vocabulary::invalid_config::InvalidConfig;

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
        self.shared.begin(None, || future)
    }

    /// Takes over the limit of `config` for calls that begin from now on.
    ///
    /// # Errors
    /// What [`TimeLimitLayer::new`](super::TimeLimitLayer::new) would refuse is refused and changes
    /// nothing.
    pub fn reconfigure(&self, config: &Config) -> Result<(), InvalidConfig> {
        self.accepts(config)?;
        self.change(config);
        self.announce();
        Ok(())
    }

    /// Takes over what [`accepts`](Self::accepts) let pass, and tells nobody.
    pub(crate) fn change(&self, config: &Config) {
        self.shared.limit.store(clock::to_nanos(config.limit), Ordering::Relaxed);
    }

    /// Serves those whom a change lets in, and tells of it.
    pub(crate) fn announce(&self) {
        self.shared.common.reconfigured();
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
