use std::fmt;

use tower::Layer;

use super::clone_request::{ByClone, Stamped};
use super::config::Config;
use super::handle::Handle;
use super::service::Retry;
use super::shared::Shared;
use super::state::{Attempts, Failure};
use crate::machinery::own::{Counted, Forever, Held, Leaked, Own};
use crate::vocabulary::classify::{Classify, Outcome, RetryableErrors};
use crate::vocabulary::invalid_config::InvalidConfig;

/// Attempts calls again that failed. See the [module](super) for everything else.
#[must_use]
pub struct RetryLayer<C = RetryableErrors, Q = ByClone, O: Own = Counted> {
    shared: O::Of<Shared>,
    classify: C,
    clone: Q,
}

impl Config {
    /// Builds a retry with its own counters. Short for [`RetryLayer::new`].
    ///
    /// # Errors
    /// As [`RetryLayer::new`]: names the first field that is out of its bounds.
    pub fn build(self) -> Result<RetryLayer, InvalidConfig> {
        RetryLayer::new(self)
    }
}

impl RetryLayer {
    /// Creates a retry.
    ///
    /// # Errors
    /// No attempts, times of zero, or a backoff that cannot be.
    pub fn new(config: Config) -> Result<Self, InvalidConfig> {
        let shared = Shared::new(&config)?;
        Ok(Self { shared, classify: RetryableErrors, clone: ByClone })
    }

    /// Another layer over the rules and counters of an existing one.
    pub fn from_handle(handle: &Handle) -> Self {
        let shared = handle.shared.clone();
        Self { shared, classify: RetryableErrors, clone: ByClone }
    }
}

impl<C, Q> RetryLayer<C, Q> {
    /// Keeps the layer's state until the process ends. Its services then count no references to it: a call, and a
    /// clone of the service, write no cache line that all threads share. Use it for layers that are built once.
    pub fn leak(self) -> RetryLayer<C, Q, Leaked> {
        let Self { shared, classify, clone } = self;
        RetryLayer { shared: Forever::new(shared), classify, clone }
    }
}

impl<C, Q, O: Own> RetryLayer<C, Q, O> {
    /// Judges through `classify` which results are worth another attempt: those that are
    /// [`Failure`](Outcome::Failure)s.
    pub fn classify<T>(self, classify: T) -> RetryLayer<T, Q, O> {
        RetryLayer { shared: self.shared, classify, clone: self.clone }
    }

    /// Copies requests with `clone` instead of `Clone`; `None` means one attempt.
    pub fn clone_request<Req, F>(self, clone: F) -> RetryLayer<C, F, O>
    where
        F: Fn(&Req) -> Option<Req>,
    {
        self.clone_with(clone)
    }

    /// Copies requests through a [`CloneRequest`](super::CloneRequest) of your own.
    pub fn clone_with<T>(self, clone: T) -> RetryLayer<C, T, O> {
        RetryLayer { shared: self.shared, classify: self.classify, clone }
    }

    /// Calls `stamp` with the request and the number of the attempt, the first is 1, before each one.
    ///
    /// ```
    /// use buttress::retry::RetryLayer;
    /// #[derive(Clone)]
    /// struct Request { attempt: u32 }
    /// let layer = RetryLayer::default().on_attempt(|request: &mut Request, n| request.attempt = n);
    /// ```
    pub fn on_attempt<Req, F>(self, stamp: F) -> RetryLayer<C, Stamped<Q, F>, O>
    where
        F: Fn(&mut Req, u32),
    {
        let clone = Stamped::new(self.clone, stamp);
        RetryLayer { shared: self.shared, classify: self.classify, clone }
    }

    /// Returns the operator's view of the shared state.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.counted().clone() }
    }

    /// Attempts `operation`, which is given the number of the attempt, the first is 1, without tower.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// use buttress::{AnyError, retry::RetryLayer};
    /// let retry = RetryLayer::default().classify(AnyError);
    /// let answer = retry.run(async |attempt| if attempt < 3 { Err("not yet") } else { Ok(attempt) });
    /// assert_eq!(answer.await, Ok(3));
    /// # }
    /// ```
    ///
    /// `operation` may capture by reference, also in a task: the task owns the value, and the closure borrows it.
    /// The future of an attempt cannot borrow from the closure itself, so an `async move` closure cannot use what
    /// it captured. Clone the value for each attempt instead:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// use buttress::{AnyError, retry::RetryLayer};
    /// let retry = RetryLayer::default().classify(AnyError);
    /// let host = String::from("prices");
    /// let task = tokio::spawn(async move {
    ///     let attempt = |_| {
    ///         let host = host.clone();
    ///         async move { Ok::<usize, String>(host.len()) }
    ///     };
    ///     retry.run(attempt).await
    /// });
    /// assert_eq!(task.await.unwrap(), Ok(6));
    /// # }
    /// ```
    ///
    /// # Errors
    /// The error of the last attempt, unchanged.
    pub async fn run<T, E, F, Fut>(&self, operation: F) -> Result<T, E>
    where
        F: Fn(u32) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        C: Classify<T, E>,
    {
        let mut attempts = Attempts::begin(self.shared.begin().started);
        loop {
            let result = operation(attempts.number()).await;
            if self.classify.classify(&result) != Outcome::Failure {
                return result;
            }
            let hint = self.classify.retry_after(&result);
            let failure = Failure { is_repeatable: true, hint };
            let Some((delay, decided)) =
                Shared::next::<O>(&self.shared, &mut attempts, failure, || true)
            else {
                return result;
            };
            // It may hold a connection.
            drop(result);
            if delay.is_zero() {
                // Attempts that neither wait nor pend must not keep the other tasks from running.
                tokio::task::coop::consume_budget().await;
            } else {
                self.shared.common.clock.sleep(delay).await;
            }
            decided.made();
        }
    }
}

impl Default for RetryLayer {
    /// 3 attempts, exponential waits from 100 ms with full jitter.
    fn default() -> Self {
        match Self::new(Config::new()) {
            Ok(layer) => layer,
            Err(error) => unreachable!("the defaults are valid: {error}"),
        }
    }
}

impl<S, C: Clone, Q: Clone, O: Own> Layer<S> for RetryLayer<C, Q, O> {
    type Service = Retry<S, C, Q, O>;

    fn layer(&self, inner: S) -> Self::Service {
        Retry::new(inner, self.shared.clone(), self.classify.clone(), self.clone.clone())
    }
}

impl<C: Clone, Q: Clone, O: Own> Clone for RetryLayer<C, Q, O> {
    fn clone(&self) -> Self {
        let (classify, clone) = (self.classify.clone(), self.clone.clone());
        Self { shared: self.shared.clone(), classify, clone }
    }
}

impl<C, Q, O: Own> fmt::Debug for RetryLayer<C, Q, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryLayer").field("handle", &self.handle()).finish_non_exhaustive()
    }
}
