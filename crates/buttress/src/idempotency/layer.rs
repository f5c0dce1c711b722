use std::fmt;
use std::sync::Arc;

use tower::Layer;

use super::config::Config;
use super::detached::Detached;
use super::handle::Handle;
use super::identity::{Fingerprinted, Fixed, IntoKey, Scoped};
use super::key::Fingerprint;
use super::service::Idempotency;
use super::shared::Shared;
use super::store::Store;
use super::tape::{Answers, AnswersIf, ByFn, Results};
use super::transactional::{Plain, Transactional};
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::reject::AsError;

/// A layer that does the work of a key once, and returns the same answer to every repetition. The
/// [module](super) explains the pattern.
///
/// `X` finds the key of a request. `V` is the stored value. `T` converts between answers and stored
/// values. `R` converts refusals to answers. `M` chooses
/// the request type of the inner service, and the task of its calls.
#[must_use]
pub struct IdempotencyLayer<X, V, T = Answers, R = AsError, M = Plain> {
    shared: Arc<Shared<V>>,
    identify: X,
    tape: T,
    reject: R,
    form: M,
}

impl<X, V: Clone + Send + 'static> IdempotencyLayer<X, V> {
    /// Creates a layer that keeps claims and answers in `store`. `key` returns the key of a
    /// request: a [`Key`](super::Key), an `Option` or a `Result` of a key, or both ([`IntoKey`]).
    ///
    /// # Errors
    /// Returns an error for lifetimes, leases or intervals of zero or above 365 days, or counts of zero.
    pub fn new<St, Req, O>(config: Config, store: St, key: X) -> Result<Self, InvalidConfig>
    where
        St: Store<V>,
        X: Fn(&Req) -> O,
        O: IntoKey,
    {
        Self::identified_by(config, store, key)
    }

    /// Creates a layer with your own [`Identify`](super::Identify) for the key of a request.
    ///
    /// # Errors
    /// Returns the errors of [`new`](Self::new).
    pub fn identified_by<St: Store<V>>(
        config: Config,
        store: St,
        identify: X,
    ) -> Result<Self, InvalidConfig> {
        let shared = Shared::new(config, Arc::new(store))?;
        Ok(Self { shared, identify, tape: Answers, reject: AsError, form: Plain })
    }
}

impl<X, V: Clone + Send + 'static, St: Store<V>>
    IdempotencyLayer<X, V, Answers, AsError, Transactional<St>>
{
    /// Creates a layer whose inner service gets a [`WithClaim`](super::WithClaim) instead of the
    /// request. The service may store its answer in its own transaction.
    ///
    /// # Errors
    /// Returns the errors of [`new`](IdempotencyLayer::new).
    pub fn transactional<Req, O>(config: Config, store: St, key: X) -> Result<Self, InvalidConfig>
    where
        X: Fn(&Req) -> O,
        O: IntoKey,
    {
        let store = Arc::new(store);
        let shared = Shared::new(config, store.clone())?;
        let form = Transactional { store };
        Ok(Self { shared, identify: key, tape: Answers, reject: AsError, form })
    }
}

impl<X, V, T, R, M> IdempotencyLayer<X, V, T, R, M> {
    /// Sets the digest of a request's contents. `fingerprint` returns a [`Fingerprint`] or an
    /// `Option` of one.
    ///
    /// A request whose key was used with another digest is refused. Default: no digest.
    pub fn fingerprint<Req, O, F>(
        self,
        fingerprint: F,
    ) -> IdempotencyLayer<Fingerprinted<X, F>, V, T, R, M>
    where
        F: Fn(&Req) -> O,
        O: Into<Option<Fingerprint>>,
    {
        self.identify(|identify| Fingerprinted { identify, fingerprint })
    }

    /// Sets one scope for all keys of this layer, so that layers with other scopes can share its
    /// store. A key with its own scope keeps that scope. Default: no scope.
    pub fn scope(self, scope: impl Into<String>) -> IdempotencyLayer<Scoped<X, Fixed>, V, T, R, M> {
        let scope = Fixed(scope.into());
        self.identify(|identify| Scoped { identify, scope })
    }

    /// Sets the scope of each request to the result of `scope`, e.g. its user or tenant.
    ///
    /// A request whose scope is empty is refused like a request with an invalid key, unless its key
    /// has its own scope. Requests of unknown callers must not share their results.
    pub fn scope_by<Req, O, F>(self, scope: F) -> IdempotencyLayer<Scoped<X, F>, V, T, R, M>
    where
        F: Fn(&Req) -> O,
        O: AsRef<str>,
    {
        self.identify(|identify| Scoped { identify, scope })
    }

    /// Keeps only successful answers for which `keep` returns `true`. Default: all successful
    /// answers.
    pub fn keep_if<Res, P>(self, keep: P) -> IdempotencyLayer<X, V, AnswersIf<P>, R, M>
    where
        P: Fn(&Res) -> bool,
    {
        self.tape(AnswersIf { keep })
    }

    /// Keeps results for which `keep` returns `true`, also errors. The store keeps `Result<Res,
    /// E>`.
    pub fn keep_results<Res, E, P>(self, keep: P) -> IdempotencyLayer<X, V, Results<P>, R, M>
    where
        P: Fn(&Result<Res, E>) -> bool,
    {
        self.tape(Results { keep })
    }

    /// Keeps the value that `record` returns for a result, if any. A repetition gets the result of
    /// `replay`.
    pub fn keep_as<Res, E, W, P>(
        self,
        record: W,
        replay: P,
    ) -> IdempotencyLayer<X, V, ByFn<W, P>, R, M>
    where
        W: Fn(&Result<Res, E>) -> Option<V>,
        P: Fn(V) -> Result<Res, E>,
    {
        self.tape(ByFn { record, replay })
    }

    /// Sets your own [`Tape`](super::Tape) between answers and stored values. Default: [`Answers`].
    pub fn tape<T2>(self, tape: T2) -> IdempotencyLayer<X, V, T2, R, M> {
        let Self { shared, identify, reject, form, .. } = self;
        IdempotencyLayer { shared, identify, tape, reject, form }
    }

    /// Sets how refusals are returned. Default: as errors, through [`AsError`].
    pub fn reject<R2>(self, reject: R2) -> IdempotencyLayer<X, V, T, R2, M> {
        let Self { shared, identify, tape, form, .. } = self;
        IdempotencyLayer { shared, identify, tape, reject, form }
    }

    /// Runs each handler on a separate task. A caller that drops the call does not stop the handler,
    /// and its retry finds the answer. At most [`max_detached`](super::Config::max_detached)
    /// handlers run concurrently. Default: a handler runs with its caller.
    ///
    /// A task needs a `'static` service. The compiler does not see that an async block with this
    /// layer over a boxed service is `Send`. Put `BoxCloneSyncService::new(..)` around the layer, or
    /// write `tokio::spawn(service.oneshot(request))`.
    pub fn detached(self) -> IdempotencyLayer<X, V, T, R, Detached<M>> {
        let Self { shared, identify, tape, reject, form } = self;
        IdempotencyLayer { shared, identify, tape, reject, form: Detached(form) }
    }

    fn identify<X2>(self, wrap: impl FnOnce(X) -> X2) -> IdempotencyLayer<X2, V, T, R, M> {
        let Self { shared, identify, tape, reject, form } = self;
        IdempotencyLayer { shared, identify: wrap(identify), tape, reject, form }
    }
}

impl<X, V: Send + 'static, T, R, M> IdempotencyLayer<X, V, T, R, M> {
    /// Returns the handle of the shared state, for operators.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(self.shared.clone())
    }
}

impl<S, X, V, T, R, M> Layer<S> for IdempotencyLayer<X, V, T, R, M>
where
    X: Clone,
    T: Clone,
    R: Clone,
    M: Clone,
{
    type Service = Idempotency<S, X, V, T, R, M>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self { shared, identify, tape, reject, form } = self.clone();
        Idempotency { inner, shared, identify, tape, reject, form }
    }
}

impl<X: Clone, V, T: Clone, R: Clone, M: Clone> Clone for IdempotencyLayer<X, V, T, R, M> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            identify: self.identify.clone(),
            tape: self.tape.clone(),
            reject: self.reject.clone(),
            form: self.form.clone(),
        }
    }
}

impl<X, V, T, R, M> fmt::Debug for IdempotencyLayer<X, V, T, R, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyLayer")
            .field("name", &self.shared.config.common.name)
            .finish_non_exhaustive()
    }
}
