use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use buttress::{InvalidConfig, retry::Backoff};

use crate::check::{check_at_least, check_duration};
use crate::saga::model::retry::Retry;
use crate::saga::report::Report;
use crate::setters::{Common, common_setters, setters, settings};

/// The function that an executor calls with each saga that ends or gets stuck.
pub(super) type Hook = Arc<dyn Fn(&Report) + Send + Sync>;

settings! {
    /// The configuration of an executor of sagas.
    ///
    /// Setters take and return the value. [`Executor::new`](crate::saga::Executor::new) checks the
    /// values.
    #[derive(Clone)]
    pub struct Config {
        common: Common = Common::default(),
        lease: Duration = Duration::from_secs(30),
        deadline: Option<Duration> = None,
        undo_retry: Retry = Retry::new(5, Backoff::exponential(Duration::from_millis(100))),
        again: Retry = Retry::new(10, Backoff::exponential(Duration::from_millis(100))),
        patience: Duration = Duration::from_secs(60),
        max_resumed: usize = 256,
        /// `None` keeps sagas forever.
        retention: Option<Duration> = Some(Duration::from_secs(30 * 24 * 3600)),
        on_end: Option<Hook> = None,
    }
}

impl Config {
    common_setters!("saga", "sagas run");

    setters! {
        /// Sets how long this worker owns its sagas without a renewal. Default: 30 seconds. Above zero,
        /// at most 365 days.
        ///
        /// The worker renews three times per lease. If it crashes, other workers wait this long before
        /// they take over. If the store fails for this long, the worker stops starting steps.
        lease(lease: Duration);

        /// Sets how long a saga may take until its point of no return. Default: no limit. Above zero,
        /// at most 365 days.
        ///
        /// At the deadline the saga cuts compensatable actions in progress short, which leaves them in
        /// doubt, and unwinds. It waits for a pivot in progress. The deadline does not limit undos and
        /// the steps after the pivot.
        ///
        /// The store keeps the deadline of a saga as wall time. When this executor resumes a saga, the
        /// deadline is at most this long from then. So a wall clock that was set back does not postpone
        /// it further. An executor without a limit keeps the stored deadline of a saga unchanged.
        deadline(deadline: Duration) => Some(deadline);
    }

    /// Sets how many times an undo is attempted before the saga is stuck, and the wait between two
    /// attempts. Default: 5 attempts, exponential from 100 ms with full jitter. At least 1 attempt.
    ///
    /// [`StepBuilder::undo_retry`](crate::saga::StepBuilder::undo_retry) sets both for one step.
    pub fn undo_retry(mut self, attempts: u32, backoff: Backoff) -> Self {
        self.undo_retry = Retry::new(attempts, backoff);
        self
    }

    /// Sets how many times a pivot in doubt, or a failed retryable step, is attempted before the saga is
    /// stuck, and the wait between attempts. Default: 10 attempts, exponential from 100 ms with
    /// full jitter. At least 1 attempt.
    ///
    /// Every attempt has the same key. [`StepBuilder::run_again`](crate::saga::StepBuilder::run_again)
    /// sets both for one step.
    pub fn run_again(mut self, attempts: u32, backoff: Backoff) -> Self {
        self.again = Retry::new(attempts, backoff);
        self
    }

    setters! {
        /// Sets how long a caller waits for a store that fails or does not answer. Default: 60 seconds.
        /// Above zero, at most 365 days.
        ///
        /// Every method of the executor returns a transient error after this time without an answer. The operation may
        /// still have its effect. A caller that waits for a saga gets the error too. The saga itself repeats the write
        /// until the store answers, because the log must record each step.
        patience(patience: Duration);

        /// Sets how many of the sagas that [`recover`](crate::saga::Executor::recover) takes over run
        /// concurrently. Default:
        /// 256. At least 1.
        ///
        /// The other sagas wait for their turn, oldest first; this worker owns them during the wait.
        /// Sagas whose wait is over count too. The executor takes them while it has fewer than four times
        /// this number of taken-over sagas. The others stay in the store, where any worker can take them.
        /// The limit keeps the sagas of a crashed worker from calling every service at the same moment.
        /// A saga that waits between two attempts counts. A saga that a caller starts, or that an
        /// operator lets continue, does not count and is not limited: put a bulkhead in front of the
        /// starts.
        max_resumed(max: usize);

        /// Sets how long the store keeps sagas of this definition after their end, in all versions.
        /// Default: 30 days. Longer than the [`patience`](Self::patience).
        ///
        /// After this time the executor removes ended sagas in the background, up to 200 per
        /// transaction. It never
        /// removes a saga that is stuck or unfinished. A [`start_as`](crate::saga::Executor::start_as)
        /// with the id of a removed saga starts a new saga. So keep sagas for longer than a caller may
        /// repeat a start.
        retention(retention: Duration) => Some(retention);
    }

    /// Keeps sagas in the store forever after their end. Default: [`retention`](Self::retention) of
    /// 30 days.
    pub fn keep_forever(mut self) -> Self {
        self.retention = None;
        self
    }

    setters! {
        /// Sets a function that the executor calls with each saga that ends or gets stuck. Default:
        /// none.
        ///
        /// It runs on the task of the saga, after the end is durable. It should be quick. A panic of it
        /// is logged.
        on_end(hook: impl Fn(&Report) + Send + Sync + 'static) => Some(Arc::new(hook));
    }

    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        check_duration("lease", self.lease)?;
        if let Some(deadline) = self.deadline {
            check_duration("deadline", deadline)?;
        }
        self.undo_retry.check("undo-attempts")?;
        self.again.check("again-attempts")?;
        check_at_least("max-resumed", self.max_resumed, 1)?;
        check_duration("patience", self.patience)?;
        match self.retention {
            // Within its patience one start may be written twice. The second write of a saga that has ended and was
            // removed meanwhile would run it again.
            Some(retention) if retention <= self.patience => {
                let bound = format!("longer than the patience, {:?}", self.patience);
                Err(InvalidConfig::new("retention", format!("{retention:?}"), bound))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("name", &self.common.name)
            .field("lease", &self.lease)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
