use std::fmt;
use std::future::Future;
use std::sync::Arc;

use tower::Layer;

use super::config::Config;
use super::handle::Handle;
use super::recover::{
    FromError, FromRequest, FromResult, KeepPrimary, Recover, Shareable, ToService, Value,
};
use super::service::Fallback;
use super::shared::Shared;
use crate::machinery::own::{Counted, Forever, Held, Leaked, Own};
use crate::vocabulary::classify::{AnyError, Classify, Outcome};

/// Answers in place of a service that failed. See the [module](super) for everything else.
#[must_use]
pub struct FallbackLayer<F, C = AnyError, O: Own = Counted> {
    shared: O::Of<Shared>,
    recover: F,
    classify: C,
}

impl<T: Send + Sync + 'static> FallbackLayer<Value<T>> {
    /// Answers with clones of `value`.
    pub fn value(value: T) -> Self {
        Self::answering(Value::new(), Arc::new(value))
    }
}

impl<F> FallbackLayer<FromError<F>> {
    /// Answers with what `respond` makes of the error. The response need not be `Clone`.
    pub fn from_error<Res, E>(respond: F) -> Self
    where
        F: Fn(E) -> Res,
    {
        Self::over(FromError::new(respond))
    }
}

impl<F> FallbackLayer<FromResult<F>> {
    /// Answers with what `respond` makes of the failed result: an error, or a response that the
    /// classifier calls a failure. The response need not be `Clone`, and what it says is still there;
    /// this is the kind for services that cannot fail, such as axum's.
    pub fn from_result<Res, E>(respond: F) -> Self
    where
        F: Fn(Result<Res, E>) -> Result<Res, E>,
    {
        Self::over(FromResult::new(respond))
    }
}

impl<F> FallbackLayer<FromRequest<F>> {
    /// Answers with what the async function `respond` makes of the request and the error. Its own error
    /// is the caller's.
    pub fn from_request<Req, Res, E, Fut>(respond: F) -> Self
    where
        F: Fn(Req, E) -> Fut,
        Fut: Future<Output = Result<Res, E>>,
    {
        Self::over(FromRequest::new(respond))
    }
}

impl<S> FallbackLayer<ToService<S, KeepPrimary>> {
    /// Sends the request to `service` instead. If that fails too, the first failure is returned
    /// unchanged; see [`on_both_failed`](Self::on_both_failed).
    pub fn service(service: S) -> Self {
        Self::over(ToService::new(service, KeepPrimary))
    }

    /// Makes what is returned when both fail, of the first failure and the second error.
    pub fn on_both_failed<Res, E, E2, M>(self, merge: M) -> FallbackLayer<ToService<S, M>>
    where
        M: Fn(Result<Res, E>, E2) -> Result<Res, E>,
    {
        let Self { shared, recover, classify } = self;
        FallbackLayer { shared, recover: recover.merge(merge), classify }
    }
}

impl<F> FallbackLayer<F> {
    fn over(recover: F) -> Self {
        Self::answering(recover, Arc::new(()))
    }

    fn answering(recover: F, value: Arc<Shareable>) -> Self {
        Self { shared: Shared::new(Config::new(), value), recover, classify: AnyError }
    }
}

impl<F, C> FallbackLayer<F, C> {
    /// Takes name, clock, observer and counting from `config`. The handle is another one from then on.
    pub fn config(mut self, config: Config) -> Self {
        self.shared = Shared::new(config, self.shared.value.clone());
        self
    }

    /// Keeps the layer's state until the process ends. Its services then count no references to it: a call, and a
    /// clone of the service, write no cache line that all threads share. Use it for layers that are built once.
    pub fn leak(self) -> FallbackLayer<F, C, Leaked> {
        let Self { shared, recover, classify } = self;
        FallbackLayer { shared: Forever::new(shared), recover, classify }
    }
}

impl<F, C, O: Own> FallbackLayer<F, C, O> {
    /// Falls back on results that `classify` calls failures. A [`from_error`](Self::from_error) or
    /// [`from_request`](Self::from_request) fallback has nothing to work on in a failed *response*, and
    /// lets it pass.
    pub fn classify<T>(self, classify: T) -> FallbackLayer<F, T, O> {
        FallbackLayer { shared: self.shared, recover: self.recover, classify }
    }

    /// Falls back only on errors for which `when` is true.
    pub fn when<E, P>(self, when: P) -> FallbackLayer<F, When<P>, O>
    where
        P: Fn(&E) -> bool,
    {
        self.classify(When { when })
    }

    /// Runs `operation` on `request`, with the fallback, without tower.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use buttress::fallback::FallbackLayer;
    /// let fallback = FallbackLayer::value(7);
    /// let answer = fallback.run((), async |()| Err("down")).await;
    /// assert_eq!(answer, Ok(7));
    /// # }
    /// ```
    ///
    /// # Errors
    /// That of the operation where the fallback does not apply, or what the fallback ends with.
    pub async fn run<Req, Res, E, Op>(&self, request: Req, operation: Op) -> Result<Res, E>
    where
        F: Recover<Req, Res, E> + Clone,
        C: Classify<Res, E>,
        Op: AsyncFnOnce(Req) -> Result<Res, E>,
    {
        self.shared.begin();
        let recover = self.recover.clone();
        let kept = recover.keep(&request);
        let result = operation(request).await;
        if self.classify.classify(&result) != Outcome::Failure {
            return result;
        }
        let answer = match recover.recover(&*self.shared.value, kept, result) {
            Ok(answer) => answer,
            Err(result) => return result,
        };
        self.shared.fell_back();
        let result = answer.await;
        if self.classify.classify(&result) == Outcome::Failure {
            self.shared.failed();
        }
        result
    }

    /// Returns the operator's view of the shared state.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.counted().clone() }
    }
}

/// Errors for which a closure is true. Made by [`FallbackLayer::when`].
#[derive(Clone, Copy)]
pub struct When<P> {
    when: P,
}

impl<Res, E, P: Fn(&E) -> bool> Classify<Res, E> for When<P> {
    fn classify(&self, result: &Result<Res, E>) -> Outcome {
        match result {
            Ok(_) => Outcome::Success,
            Err(error) if (self.when)(error) => Outcome::Failure,
            Err(_) => Outcome::Ignored,
        }
    }
}

impl<P> fmt::Debug for When<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("When").finish_non_exhaustive()
    }
}

impl<S, F: Clone, C: Clone, O: Own> Layer<S> for FallbackLayer<F, C, O> {
    type Service = Fallback<S, F, C, O>;

    fn layer(&self, inner: S) -> Self::Service {
        Fallback::new(inner, self.shared.clone(), self.recover.clone(), self.classify.clone())
    }
}

impl<F: Clone, C: Clone, O: Own> Clone for FallbackLayer<F, C, O> {
    fn clone(&self) -> Self {
        let (recover, classify) = (self.recover.clone(), self.classify.clone());
        Self { shared: self.shared.clone(), recover, classify }
    }
}

impl<F, C, O: Own> fmt::Debug for FallbackLayer<F, C, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackLayer").field("handle", &self.handle()).finish_non_exhaustive()
    }
}
