use std::fmt;
use std::sync::Arc;

use tower::Layer;

use super::claim::{Plain, Transactional};
use super::config::Config;
use super::handle::Handle;
use super::identity::{Fingerprinted, Fixed, IntoKey, Scoped};
use super::key::Fingerprint;
use super::service::Idempotency;
use super::shared::Shared;
use super::store::Store;
use super::tape::{Answers, AnswersIf, ByFn, Results};
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::reject::AsError;

/// Does the work of a key once, and gives every repetition the same answer. See the [module](super)
/// for everything else.
///
/// `K` finds the key of a request, `V` is what the store keeps, `T` makes it of an answer, `R` makes
/// answers of refusals, `M` says what the inner service gets.
#[must_use]
pub struct IdempotencyLayer<K, V, T = Answers, R = AsError, M = Plain> {
    shared: Arc<Shared<V>>,
    identify: K,
    tape: T,
    reject: R,
    form: M,
}

impl<K, V: Clone + Send + 'static> IdempotencyLayer<K, V> {
    /// Keeps claims and answers in `store`, by the key that `key` finds in a request: a
    /// [`Key`](super::Key), an `Option` or a `Result` of one, or both ([`IntoKey`]).
    ///
    /// # Errors
    /// Lifetimes, leases or intervals of zero or beyond 365 days, counts of zero.
    pub fn new<St, Req, O>(config: Config, store: St, key: K) -> Result<Self, InvalidConfig>
    where
        St: Store<V>,
        K: Fn(&Req) -> O,
        O: IntoKey,
    {
        Self::identified_by(config, store, key)
    }

    /// Returns the same with an [`Identify`](super::Identify) of your own.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn identified_by<St: Store<V>>(
        config: Config,
        store: St,
        identify: K,
    ) -> Result<Self, InvalidConfig> {
        let shared = Shared::new(config, Arc::new(store))?;
        Ok(Self { shared, identify, tape: Answers, reject: AsError, form: Plain })
    }
}

impl<K, V: Clone + Send + 'static, St: Store<V>>
    IdempotencyLayer<K, V, Answers, AsError, Transactional<St>>
{
    /// The inner service gets a [`WithClaim`](super::WithClaim) instead of the request, and may store
    /// its answer in a transaction of its own.
    ///
    /// # Errors
    /// As [`new`](IdempotencyLayer::new).
    pub fn transactional<Req, O>(config: Config, store: St, key: K) -> Result<Self, InvalidConfig>
    where
        K: Fn(&Req) -> O,
        O: IntoKey,
    {
        let store = Arc::new(store);
        let shared = Shared::new(config, store.clone())?;
        let form = Transactional { store };
        Ok(Self { shared, identify: key, tape: Answers, reject: AsError, form })
    }
}

impl<K, V, T, R, M> IdempotencyLayer<K, V, T, R, M> {
    /// Takes the digest of what a request asks for from `fingerprint`, a
    /// [`Fingerprint`] or an `Option` of one: the same key with another is refused.
    pub fn fingerprint<Req, O, F>(
        self,
        fingerprint: F,
    ) -> IdempotencyLayer<Fingerprinted<K, F>, V, T, R, M>
    where
        F: Fn(&Req) -> O,
        O: Into<Option<Fingerprint>>,
    {
        self.identify(|identify| Fingerprinted { identify, fingerprint })
    }

    /// Keeps the keys of this layer apart from those of others that share its store. Keys with a scope
    /// of their own keep that. Defaults to no scope.
    pub fn scope(self, scope: impl Into<String>) -> IdempotencyLayer<Scoped<K, Fixed>, V, T, R, M> {
        let scope = Fixed(scope.into());
        self.identify(|identify| Scoped { identify, scope })
    }

    /// Keeps the keys of requests apart by the scope that `scope` finds in a request: its user or tenant, say.
    /// A request whose scope is empty is refused as one with an invalid key, unless its key has a scope of
    /// its own: requests of unknown callers must not share their results.
    pub fn scope_by<Req, O, F>(self, scope: F) -> IdempotencyLayer<Scoped<K, F>, V, T, R, M>
    where
        F: Fn(&Req) -> O,
        O: AsRef<str>,
    {
        self.identify(|identify| Scoped { identify, scope })
    }

    /// Keeps only the successful answers for which `keep` is true.
    pub fn keep_if<Res, P>(self, keep: P) -> IdempotencyLayer<K, V, AnswersIf<P>, R, M>
    where
        P: Fn(&Res) -> bool,
    {
        self.tape(AnswersIf { keep })
    }

    /// Keeps the results for which `keep` is true, errors too. The store keeps `Result<Res, E>`.
    pub fn keep_results<Res, E, P>(self, keep: P) -> IdempotencyLayer<K, V, Results<P>, R, M>
    where
        P: Fn(&Result<Res, E>) -> bool,
    {
        self.tape(Results { keep })
    }

    /// Keeps what `record` makes of a result, if anything, and answers with what `replay` makes of it.
    pub fn keep_as<Res, E, W, P>(
        self,
        record: W,
        replay: P,
    ) -> IdempotencyLayer<K, V, ByFn<W, P>, R, M>
    where
        W: Fn(&Result<Res, E>) -> Option<V>,
        P: Fn(V) -> Result<Res, E>,
    {
        self.tape(ByFn { record, replay })
    }

    /// Makes what is stored, and answers of it, by a [`Tape`](super::Tape) of your own.
    pub fn tape<T2>(self, tape: T2) -> IdempotencyLayer<K, V, T2, R, M> {
        let Self { shared, identify, reject, form, .. } = self;
        IdempotencyLayer { shared, identify, tape, reject, form }
    }

    /// Answers refusals through `reject` instead of as errors.
    pub fn reject<R2>(self, reject: R2) -> IdempotencyLayer<K, V, T, R2, M> {
        let Self { shared, identify, tape, form, .. } = self;
        IdempotencyLayer { shared, identify, tape, reject, form }
    }

    fn identify<K2>(self, wrap: impl FnOnce(K) -> K2) -> IdempotencyLayer<K2, V, T, R, M> {
        let Self { shared, identify, tape, reject, form } = self;
        IdempotencyLayer { shared, identify: wrap(identify), tape, reject, form }
    }
}

impl<K, V: Send + 'static, T, R, M> IdempotencyLayer<K, V, T, R, M> {
    /// Returns the operator's view of the shared state.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(self.shared.clone())
    }
}

impl<S, K, V, T, R, M> Layer<S> for IdempotencyLayer<K, V, T, R, M>
where
    K: Clone,
    T: Clone,
    R: Clone,
    M: Clone,
{
    type Service = Idempotency<S, K, V, T, R, M>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self { shared, identify, tape, reject, form } = self.clone();
        Idempotency::new(inner, shared, identify, tape, reject, form)
    }
}

impl<K: Clone, V, T: Clone, R: Clone, M: Clone> Clone for IdempotencyLayer<K, V, T, R, M> {
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

impl<K, V, T, R, M> fmt::Debug for IdempotencyLayer<K, V, T, R, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyLayer")
            .field("name", &self.shared.config.common.name)
            .finish_non_exhaustive()
    }
}
