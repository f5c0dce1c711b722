use tower::Layer;

use super::clone_request::{ByClone, Stamped};
use super::config::Config;
use super::handle::Handle;
use super::service::Retry;
use super::shared::Shared;
use super::state::{Attempts, Failure};
use crate::context;
use crate::machinery::own::{
    Counted, Leaked, Own, constructors, default_layer, layer_over, leak_of,
};
use crate::vocabulary::classify::{Classify, Outcome, RetryableErrors};

layer_over! {
    /// A layer that attempts failed calls again. The [module](super) explains the pattern.
    pub struct RetryLayer<C = RetryableErrors, Q = ByClone, O: Own = Counted> {
        classify: C, clone: Q
    }
}

constructors! {
    RetryLayer { classify: RetryableErrors, clone: ByClone },
    "a retry with its own counters",
    /// No attempts, times of zero, or a backoff that is out of its bounds.
}

leak_of! { <C, Q> RetryLayer { classify, clone }: RetryLayer<C, Q> => RetryLayer<C, Q, Leaked> }

impl<C, Q, O: Own> RetryLayer<C, Q, O> {
    /// Sets the classifier. The retry repeats results that it judges as
    /// [`Failure`](Outcome::Failure). Default: [`RetryableErrors`].
    pub fn classify<T>(self, classify: T) -> RetryLayer<T, Q, O> {
        RetryLayer { shared: self.shared, classify, clone: self.clone }
    }

    /// Sets a closure that copies requests. If it returns `None`, the request gets one attempt.
    /// Default: [`ByClone`].
    pub fn clone_request<Req, F>(self, clone: F) -> RetryLayer<C, F, O>
    where
        F: Fn(&Req) -> Option<Req>,
    {
        self.clone_with(clone)
    }

    /// Sets your own [`CloneRequest`](super::CloneRequest). Default: [`ByClone`].
    pub fn clone_with<T>(self, clone: T) -> RetryLayer<C, T, O> {
        RetryLayer { shared: self.shared, classify: self.classify, clone }
    }

    /// Calls `stamp` before each attempt, with the request and the number of the attempt, from 1.
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

    /// Attempts `operation` without tower. `operation` gets the number of the attempt, from 1.
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
    /// `operation` may capture by reference, also in a task: the task owns the value, and the
    /// closure borrows it. The future of an attempt cannot borrow from the closure itself, so an
    /// `async move` closure cannot use the values that it captured. Clone the value for each
    /// attempt instead:
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
    /// Returns the error of the last attempt, unchanged.
    pub async fn run<T, E, F, Fut>(&self, operation: F) -> Result<T, E>
    where
        F: Fn(u32) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        C: Classify<T, E>,
    {
        let mut attempts = Attempts::begin(self.shared.begin().started, context::deadline());
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
            // The result may hold a connection.
            drop(result);
            if delay.is_zero() {
                // Attempts that neither wait nor pend must let other tasks run.
                tokio::task::coop::consume_budget().await;
            } else {
                self.shared.common.clock.sleep(delay).await;
            }
            decided.made();
        }
    }
}

default_layer! {
    /// Creates a retry of 3 attempts, with exponential waits from 100 ms and full jitter.
    RetryLayer
}

impl<S, C: Clone, Q: Clone, O: Own> Layer<S> for RetryLayer<C, Q, O> {
    type Service = Retry<S, C, Q, O>;

    fn layer(&self, inner: S) -> Self::Service {
        Retry::new(inner, self.shared.clone(), self.classify.clone(), self.clone.clone())
    }
}
