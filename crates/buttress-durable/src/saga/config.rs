use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use buttress::{Clock, InvalidConfig, Name, Rng, Spawner, retry::Backoff};

use crate::check::{check_at_least, check_duration};
use crate::saga::report::Report;

/// What is called with each saga that ends or gets stuck.
pub(super) type Hook = Arc<dyn Fn(&Report) + Send + Sync>;

/// How sagas are run.
///
/// Built with by-value setters; checked when an [`Executor`](crate::saga::Executor) is made of it.
#[derive(Clone)]
#[must_use]
pub struct Config {
    pub(super) name: Name,
    pub(super) clock: Clock,
    pub(super) rng: Rng,
    pub(super) spawner: Spawner,
    pub(super) lease: Duration,
    pub(super) deadline: Option<Duration>,
    pub(super) undo_attempts: u32,
    pub(super) undo_backoff: Backoff,
    pub(super) again_attempts: u32,
    pub(super) again_backoff: Backoff,
    pub(super) patience: Duration,
    pub(super) max_resumed: usize,
    /// `None` for ever.
    pub(super) retention: Option<Duration>,
    pub(super) on_end: Option<Hook>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: Name::default(),
            clock: Clock::default(),
            rng: Rng::default(),
            spawner: Spawner::default(),
            lease: Duration::from_secs(30),
            deadline: None,
            undo_attempts: 5,
            undo_backoff: Backoff::exponential(Duration::from_millis(100)),
            again_attempts: 10,
            again_backoff: Backoff::exponential(Duration::from_millis(100)),
            patience: Duration::from_secs(60),
            max_resumed: 256,
            retention: Some(Duration::from_secs(30 * 24 * 3600)),
            on_end: None,
        }
    }
}

impl Config {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The name in logs and metrics: "saga" without a name.
    pub(super) fn layer(&self) -> Name {
        match self.name.as_str() {
            "" => Name::from("saga"),
            _ => self.name,
        }
    }

    /// The name in events. Defaults to none.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = name.into();
        self
    }

    /// The clock. Defaults to tokio's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Where ids and jitter come from. Defaults to a source seeded differently in every process.
    pub fn rng(mut self, rng: Rng) -> Self {
        self.rng = rng;
        self
    }

    /// Where sagas run. Defaults to `tokio::spawn`.
    pub fn spawner(mut self, spawner: Spawner) -> Self {
        self.spawner = spawner;
        self
    }

    /// How long this worker owns its sagas without renewing, which it does three times in that time.
    /// Defaults to 30 seconds: so long others wait before they take over from a worker that crashed, and
    /// so long a store may be away before steps stop being started.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How long a saga may take until its point of no return. Beyond it compensatable actions under way
    /// are cut short, which leaves them in doubt, and the saga unwinds; a pivot under way is waited for.
    /// Undos and the steps after the pivot take as long as they need. Defaults to no limit.
    ///
    /// The store keeps the deadline of a saga as wall time. When this executor resumes a saga, the deadline is at
    /// most this long from then, so a wall clock that was set back does not postpone it further. Without a limit
    /// of its own, an executor keeps the stored deadline of a saga unchanged.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// How often an undo is attempted before the saga is stuck, and how long it waits between two
    /// attempts. Defaults to 5, exponential from 100 ms with full jitter.
    pub fn undo_retry(mut self, attempts: u32, backoff: Backoff) -> Self {
        self.undo_attempts = attempts;
        self.undo_backoff = backoff;
        self
    }

    /// How often a pivot in doubt, or a retryable step that failed, is attempted with the same key before
    /// the saga is stuck, and how long it waits between two attempts. Defaults to 10, exponential from
    /// 100 ms with full jitter.
    pub fn run_again(mut self, attempts: u32, backoff: Backoff) -> Self {
        self.again_attempts = attempts;
        self.again_backoff = backoff;
        self
    }

    /// Sets how long a caller waits for a store that fails, or that does not answer. Default: 60 seconds; more
    /// than 0.
    ///
    /// Every method of the executor returns a transient error after this time without an answer. The operation
    /// may still have its effect. A caller that waits for a saga gets the error too. The saga itself repeats the
    /// write until the store answers, because what it has done must be in the log.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sets how many of the sagas that [`recover`](crate::saga::Executor::recover) takes over run concurrently. The
    /// others wait for their turn, oldest first, and are owned by this worker meanwhile. Default: 256, so that the
    /// sagas of a worker that crashed do not call every service at the same moment; at least 1.
    ///
    /// A saga that waits between two attempts counts. Sagas that are started, and those that an operator lets
    /// continue, do not count and are not limited: put a bulkhead in front of what starts them.
    pub fn max_resumed(mut self, max: usize) -> Self {
        self.max_resumed = max;
        self
    }

    /// Sets how long sagas of this definition, of all versions, are kept in the store after their end. Default:
    /// 30 days; more than 0. The executor then removes them in the background, a few in one transaction. It never
    /// removes a saga that is stuck or unfinished.
    ///
    /// A [`start_as`](crate::saga::Executor::start_as) with the id of a removed saga starts a new saga. So keep them
    /// longer than a caller may repeat a start.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = Some(retention);
        self
    }

    /// Keeps sagas in the store forever after their end. Default: [`retention`](Self::retention) of 30 days.
    pub fn keep_forever(mut self) -> Self {
        self.retention = None;
        self
    }

    /// Called with each saga that ends or gets stuck, on its task, after that is durable. It should be
    /// quick and must not panic.
    pub fn on_end(mut self, hook: impl Fn(&Report) + Send + Sync + 'static) -> Self {
        self.on_end = Some(Arc::new(hook));
        self
    }

    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        check_duration("lease", self.lease)?;
        if let Some(deadline) = self.deadline {
            check_duration("deadline", deadline)?;
        }
        check_at_least("undo-attempts", self.undo_attempts, 1)?;
        self.undo_backoff.check()?;
        check_at_least("again-attempts", self.again_attempts, 1)?;
        self.again_backoff.check()?;
        check_at_least("max-resumed", self.max_resumed, 1)?;
        if let Some(retention) = self.retention {
            if retention.is_zero() {
                return Err(InvalidConfig::new("retention", "0s", "longer than zero"));
            }
        }
        check_duration("patience", self.patience)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("name", &self.name)
            .field("lease", &self.lease)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
