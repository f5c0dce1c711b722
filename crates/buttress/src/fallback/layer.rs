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
use crate::machinery::own::{Counted, Leaked, Own, layer_over, leak_of};
use crate::vocabulary::classify::{AnyError, Classify, Outcome};

layer_over! {
    /// A layer that answers in place of a service that failed. The [module](super) explains the pattern.
    pub struct FallbackLayer<F, C = AnyError, O: Own = Counted> { recover: F, classify: C }
}

impl<T: Send + Sync + 'static> FallbackLayer<Value<T>> {
    /// Creates a fallback that answers with clones of `value`.
    pub fn value(value: T) -> Self {
        Self::answering(Value::new(), Arc::new(value))
    }
}

impl<F> FallbackLayer<FromError<F>> {
    /// Creates a fallback that answers with `respond(error)`. The response need not be `Clone`.
    pub fn from_error<Res, E>(respond: F) -> Self
    where
        F: Fn(E) -> Res,
    {
        Self::over(FromError::new(respond))
    }
}

impl<F> FallbackLayer<FromResult<F>> {
    /// Creates a fallback that answers with `respond(failed)`. The response need not be `Clone`.
    ///
    /// `failed` is an error, or a response that the classifier judges as a failure. `respond` can
    /// therefore read the failed response. Use this kind for services that cannot fail, such as
    /// axum's.
    pub fn from_result<Res, E>(respond: F) -> Self
    where
        F: Fn(Result<Res, E>) -> Result<Res, E>,
    {
        Self::over(FromResult::new(respond))
    }
}

impl<F> FallbackLayer<FromRequest<F>> {
    /// Creates a fallback that answers with the result of the async function `respond`. An error of
    /// `respond` is returned to the caller.
    pub fn from_request<Req, Res, E, Fut>(respond: F) -> Self
    where
        F: Fn(Req, E) -> Fut,
        Fut: Future<Output = Result<Res, E>>,
    {
        Self::over(FromRequest::new(respond))
    }
}

impl<S> FallbackLayer<ToService<S, KeepPrimary>> {
    /// Creates a fallback that sends the request to `service` instead. If `service` fails too, the
    /// layer returns the first failure unchanged, unless [`on_both_failed`](Self::on_both_failed)
    /// is set.
    pub fn service(service: S) -> Self {
        Self::over(ToService::new(service, KeepPrimary))
    }

    /// Sets how the first failure and the second error become one result if both fail. Default: the
    /// first failure.
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
    /// Sets name, clock, observer and counting to the values of `config`. The layer then has a new
    /// handle.
    pub fn config(mut self, config: Config) -> Self {
        self.shared = Shared::new(config, self.shared.value.clone());
        self
    }
}

leak_of! {
    <F, C> FallbackLayer { recover, classify }:
    FallbackLayer<F, C> => FallbackLayer<F, C, Leaked>
}

impl<F, C, O: Own> FallbackLayer<F, C, O> {
    /// Sets the classifier. The fallback answers results that it judges as failures. Default:
    /// [`AnyError`].
    ///
    /// A [`from_error`](Self::from_error) or [`from_request`](Self::from_request) fallback needs an
    /// error. It returns a failed *response* unchanged.
    pub fn classify<T>(self, classify: T) -> FallbackLayer<F, T, O> {
        FallbackLayer { shared: self.shared, recover: self.recover, classify }
    }

    /// Restricts the fallback to errors for which `when` returns `true`.
    pub fn when<E, P>(self, when: P) -> FallbackLayer<F, When<P>, O>
    where
        P: Fn(&E) -> bool,
    {
        self.classify(When { when })
    }

    /// Runs `operation` on `request` with the fallback, without tower.
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
    /// Returns the error of the operation if the fallback does not apply, or the error of the fallback.
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
}

/// A classifier that judges an error as a failure if a closure returns `true`.
/// [`FallbackLayer::when`] makes it.
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
