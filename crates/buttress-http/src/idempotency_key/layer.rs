use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use buttress::InvalidConfig;
use buttress::idempotency::{Config, Detached, Handle, IdempotencyLayer, Plain, Store};
use http::header::{SET_COOKIE, WWW_AUTHENTICATE};
use http::request::Parts as RequestHead;
use http::response::Parts as ResponseHead;
use http::{HeaderName, HeaderValue, Method, Response};
use tower::Layer;

use super::header::{IDEMPOTENCY_REPLAYED, Syntax};
use super::identity::Known;
use super::scope::Scope;
use super::service::IdempotencyKey;
use super::stored::StoredResponse;
use super::tape::{ResponseTape, kept_by_default};
use super::unusable::UnusableRequest;
use crate::respond::{BEARER, Respond, RespondChallenge};

/// The default cap on request and response bodies, in bytes.
const CAP: usize = 1024 * 1024;

/// Fields that belong to one caller. The layer replays them only if `replay_fields` names them.
const OF_ONE_CALLER: [HeaderName; 5] = [
    SET_COOKIE,
    HeaderName::from_static("set-cookie2"),
    WWW_AUTHENTICATE,
    HeaderName::from_static("authentication-info"),
    HeaderName::from_static("proxy-authentication-info"),
];

/// The layer of the core that runs the calls.
pub(super) type Core<R, M> = IdempotencyLayer<Known, StoredResponse, ResponseTape, R, M>;

/// The default `Retry-After` of a key in flight. It is shorter than a lease because most handlers
/// are short.
const IN_FLIGHT_HINT: Duration = Duration::from_secs(1);

type Closure<A, T> = Arc<dyn Fn(&A) -> T + Send + Sync>;

/// The settings that all services of a layer share.
#[derive(Clone)]
pub(super) struct Settings {
    pub methods: Vec<Method>,
    pub syntax: Syntax,
    pub scope: Closure<RequestHead, Scope>,
    /// Whether the fingerprint includes the body.
    pub payload: bool,
    pub request_cap: usize,
    pub response_cap: usize,
    pub keep: Closure<ResponseHead, bool>,
    pub marker: Option<HeaderName>,
    /// Fields that the layer does not replay.
    pub left_out: Vec<HeaderName>,
    /// `None`: the layer answers with [`UnusableRequest::response`] and the challenge.
    pub unusable: Option<Closure<UnusableRequest, Response<String>>>,
    /// The challenge of a 401.
    pub challenge: HeaderValue,
}

/// A layer that runs a request with an `Idempotency-Key` once. It answers every repetition with the
/// same response. See the [module](super).
#[must_use]
pub struct IdempotencyKeyLayer<R = Respond, M = Plain> {
    core: Core<R, M>,
    settings: Arc<Settings>,
}

impl IdempotencyKeyLayer {
    /// Returns the defaults for HTTP: the defaults of [`Config::new`] with two changes. The layer
    /// refuses a call whose key is in flight immediately, as the draft requires. Its hint is 1 s
    /// ([`Config::in_flight_hint`]). With `refuse_in_flight(false)` such a call waits for the
    /// response of the first call.
    pub fn config() -> Config {
        Config::new().refuse_in_flight(true).in_flight_hint(IN_FLIGHT_HINT)
    }

    /// Stores responses in `store` by the key of a request and its `scope`: **the caller**.
    ///
    /// `scope` receives the head of the request. An authentication layer further out can put the
    /// user into the extensions. `scope` returns a [`Scope`], or the name of the user or tenant as
    /// a `String` or `&str`. It cannot return an `Option`, because the closure has to choose what
    /// happens without a user. Two requests with one key and one scope are one request: both get
    /// the response to the first caller, with its data. A scope that does not distinguish users
    /// lets each user read the responses of all users whose keys it knows or guesses.
    ///
    /// A scope should last as long as the user account, not as long as a token or session.
    /// Otherwise a retry after a new login is another request. Scope and key together may have 510
    /// bytes, without control characters. The layer refuses a longer one as `key-invalid`.
    ///
    /// # Errors
    /// Returns the errors of [`IdempotencyLayer::new`].
    pub fn new<St, F, O>(config: Config, store: St, scope: F) -> Result<Self, InvalidConfig>
    where
        St: Store<StoredResponse>,
        F: Fn(&RequestHead) -> O + Send + Sync + 'static,
        O: Into<Scope>,
    {
        let settings = Arc::new(Settings {
            methods: vec![Method::POST, Method::PATCH],
            syntax: Syntax::DEFAULT,
            scope: Arc::new(move |head| scope(head).into()),
            payload: true,
            request_cap: CAP,
            response_cap: CAP,
            keep: Arc::new(kept_by_default),
            marker: Some(IDEMPOTENCY_REPLAYED),
            left_out: OF_ONE_CALLER.to_vec(),
            unusable: None,
            challenge: BEARER,
        });
        let tape = ResponseTape { settings: settings.clone() };
        let config = config.default_in_flight_hint(IN_FLIGHT_HINT);
        let core = IdempotencyLayer::identified_by(config, store, Known)?;
        Ok(Self { core: core.tape(tape).reject(Respond), settings })
    }

    /// Stores the responses of all requests in one scope, [`Scope::Shared`]. **Use it only where
    /// all callers are one user, or may read each other's responses.** A caller that sends another
    /// caller's key and request receives the other caller's response. Keys that count up (`1`, `2`,
    /// ...) can be guessed.
    ///
    /// # Errors
    /// Returns the errors of [`new`](Self::new).
    pub fn unscoped<St: Store<StoredResponse>>(
        config: Config,
        store: St,
    ) -> Result<Self, InvalidConfig> {
        Self::new(config, store, |_| Scope::Shared(""))
    }
}

impl<R, M> IdempotencyKeyLayer<R, M> {
    /// Sets the methods that the layer protects. Requests with other methods pass unchanged.
    /// Default: `POST` and `PATCH`, the methods that are not idempotent by definition.
    pub fn methods(self, methods: impl IntoIterator<Item = Method>) -> Self {
        let methods = methods.into_iter().collect();
        self.with(|settings| settings.methods = methods)
    }

    /// Accepts only strings in double quotes, as the draft requires. Default: off. The layer then
    /// also accepts a bare `Idempotency-Key: 8e03978e-...`, as many clients send it. The key is the
    /// same with and without quotes.
    pub fn strict(self) -> Self {
        self.with(|settings| settings.syntax.strict = true)
    }

    /// Sets the longest key in bytes, without quotes. Default: 255. That leaves 255 of the 512
    /// bytes that stores accept for the scope and a separator.
    pub fn longest_key(self, bytes: usize) -> Self {
        self.with(|settings| settings.syntax.longest = bytes)
    }

    /// Sets the longest body of a request with a key, in bytes. Default: 1 MiB. The layer reads the
    /// whole body first, and answers a longer one with 413. Each request in flight may hold this
    /// much memory. On a processor without SHA instructions, the digest takes some milliseconds of
    /// the thread per MiB.
    pub fn request_cap(self, bytes: usize) -> Self {
        self.with(|settings| settings.request_cap = bytes)
    }

    /// Excludes the bodies of requests from the fingerprint. Bodies of any length stream to the
    /// inner service. The fingerprint then covers method, path and query only. The layer answers
    /// the same key with another body with the stored response. Default: off. The layer reads the
    /// bodies.
    pub fn ignore_payload(self) -> Self {
        self.with(|settings| settings.payload = false)
    }

    /// Sets the longest response body that the layer stores, in bytes. Default: 1 MiB. Each
    /// response in the store may hold this much memory. A longer response still goes to the client
    /// and is **not stored**. Its key stays done: the layer answers a retry with 422, kind
    /// `result-not-kept`, and does not run the handler again unless [`Config::rerun_if_not_kept`]
    /// is set.
    pub fn response_cap(self, bytes: usize) -> Self {
        self.with(|settings| settings.response_cap = bytes)
    }

    /// Stores a response if `keep` returns `true` for its head. After any other response the key is free, or as
    /// [`Config::failed_calls`] sets. Default: [`kept_by_default`], which also stores a 400 or 422 of a handler or of
    /// an extractor. A client that corrects its request then needs a new key.
    ///
    /// The layer reads the body of a kept response to its end before the client gets any of it.
    pub fn keep(self, keep: impl Fn(&ResponseHead) -> bool + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.keep = Arc::new(keep))
    }

    /// Sets the header field that marks a replayed response, with the value `true`. `None` sets no
    /// mark. Default: `Idempotency-Replayed`.
    pub fn marker(self, name: impl Into<Option<HeaderName>>) -> Self {
        let name = name.into();
        self.with(|settings| settings.marker = name)
    }

    /// Excludes the header fields `names` from replays, in addition to the defaults: `Set-Cookie`, `Set-Cookie2`,
    /// `WWW-Authenticate`, `Authentication-Info` and `Proxy-Authentication-Info`. These belong to the caller, session
    /// or connection of the first response. Add the fields that your service returns tokens in. The first caller gets
    /// the fields. The layer neither stores nor replays them, in the header or in the trailers.
    pub fn leave_out(self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        let names: Vec<HeaderName> = names.into_iter().collect();
        self.with(|settings| settings.left_out.extend(names))
    }

    /// Replays the header fields `names` although the default excludes them. A replay of
    /// `Set-Cookie` gives the session of the first call to every caller that sends its key in the
    /// same scope.
    pub fn replay_fields(self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        let names: Vec<HeaderName> = names.into_iter().collect();
        self.with(|settings| settings.left_out.retain(|name| !names.contains(name)))
    }

    /// Answers unusable requests, with a malformed key or body, through `answer`. Default:
    /// [`UnusableRequest::response`].
    pub fn unusable(
        self,
        answer: impl Fn(&UnusableRequest) -> Response<String> + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.unusable = Some(Arc::new(answer)))
    }

    /// Answers refusals through `reject`. Default: [`Respond`]. A [challenge](Respond::challenge)
    /// of `reject` is also the challenge to an [unauthenticated](Scope::Unauthenticated) caller,
    /// unless [`unusable`](Self::unusable) answers that request.
    pub fn reject<R2: 'static>(self, reject: R2) -> IdempotencyKeyLayer<R2, M> {
        let known = (&reject as &dyn Any).downcast_ref::<RespondChallenge>();
        let challenge = known.map_or(BEARER, |known| known.challenge().clone());
        let Self { core, settings } = self.with(|settings| settings.challenge = challenge);
        IdempotencyKeyLayer { core: core.reject(reject), settings }
    }

    /// Runs each handler on a separate task. A client that disconnects does not stop the handler,
    /// and its retry finds the response. [`IdempotencyLayer::detached`] says what this needs of a
    /// boxed service. Default: a handler runs with its request.
    pub fn detached(self) -> IdempotencyKeyLayer<R, Detached<M>> {
        let Self { core, settings } = self;
        IdempotencyKeyLayer { core: core.detached(), settings }
    }

    /// Returns the operator's view. Its numbers exclude [unusable](UnusableRequest) requests and
    /// requests with other methods.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.core.handle()
    }

    fn with(mut self, set: impl FnOnce(&mut Settings)) -> Self {
        set(Arc::make_mut(&mut self.settings));
        let tape = ResponseTape { settings: self.settings.clone() };
        Self { core: self.core.tape(tape), ..self }
    }
}

impl<S, R: Clone, M: Clone> Layer<S> for IdempotencyKeyLayer<R, M> {
    type Service = IdempotencyKey<S, R, M>;

    fn layer(&self, inner: S) -> Self::Service {
        IdempotencyKey { inner, core: self.core.clone(), settings: self.settings.clone() }
    }
}

impl<R: Clone, M: Clone> Clone for IdempotencyKeyLayer<R, M> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone(), settings: self.settings.clone() }
    }
}

impl<R, M> fmt::Debug for IdempotencyKeyLayer<R, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyKeyLayer")
            .field("core", &self.core)
            .field("settings", &self.settings)
            .finish()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("methods", &self.methods)
            .field("syntax", &self.syntax)
            .field("request_cap", &self.request_cap)
            .field("response_cap", &self.response_cap)
            .finish_non_exhaustive()
    }
}
