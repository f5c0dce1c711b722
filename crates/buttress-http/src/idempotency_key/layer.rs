use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use buttress::InvalidConfig;
use buttress::idempotency::{Config, Handle, IdempotencyLayer, Store};
use http::header::{SET_COOKIE, WWW_AUTHENTICATE};
use http::request::Parts as RequestHead;
use http::response::Parts as ResponseHead;
use http::{HeaderName, HeaderValue, Method, Response};
use tower::Layer;

use super::header::Syntax;
use super::identity::Known;
use super::scope::Scope;
use super::service::IdempotencyKey;
use super::stored::StoredResponse;
use super::tape::{ResponseTape, kept_by_default};
use super::unusable::UnusableRequest;
use crate::respond::{BEARER, Respond, RespondChallenge};

/// How much is read of a body, and kept of one, unless said otherwise.
const CAP: usize = 1024 * 1024;

/// Fields that belong to one caller, and are not replayed unless that is asked for.
const OF_ONE_CALLER: [HeaderName; 5] = [
    SET_COOKIE,
    HeaderName::from_static("set-cookie2"),
    WWW_AUTHENTICATE,
    HeaderName::from_static("authentication-info"),
    HeaderName::from_static("proxy-authentication-info"),
];

/// The layer of the core that does the work.
pub(super) type Core<R> = IdempotencyLayer<Known, StoredResponse, ResponseTape, R>;

/// The `Retry-After` of a key in flight, unless said otherwise: a lease is long, and most handlers are short.
const IN_FLIGHT_HINT: Duration = Duration::from_secs(1);

type Closure<A, T> = Arc<dyn Fn(&A) -> T + Send + Sync>;

/// What every service of a layer goes by.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) methods: Vec<Method>,
    pub(super) syntax: Syntax,
    pub(super) scope: Closure<RequestHead, Scope>,
    /// Whether the fingerprint is of the body too.
    pub(super) payload: bool,
    pub(super) request_cap: usize,
    pub(super) response_cap: usize,
    pub(super) keep: Closure<ResponseHead, bool>,
    pub(super) marker: Option<HeaderName>,
    /// Fields that are not replayed.
    pub(super) left_out: Vec<HeaderName>,
    /// `None`: as [`UnusableRequest::response`] does, with the challenge.
    pub(super) unusable: Option<Closure<UnusableRequest, Response<String>>>,
    /// The challenge of a 401.
    pub(super) challenge: HeaderValue,
}

/// Does what a request with an `Idempotency-Key` asks for once, and answers every repetition with the
/// same response. See the [module](super).
#[must_use]
pub struct IdempotencyKeyLayer<R = Respond> {
    core: Core<R>,
    settings: Arc<Settings>,
}

impl IdempotencyKeyLayer {
    /// The defaults of the core for HTTP: those of [`Config::new`], but a call whose key is in flight is
    /// refused immediately, as the draft has it, with a hint of 1 s ([`Config::in_flight_hint`]). With `refuse_in_flight(false)` it waits for the one answer.
    pub fn config() -> Config {
        Config::new().refuse_in_flight(true).in_flight_hint(IN_FLIGHT_HINT)
    }

    /// Keeps responses in `store`, by the key of a request inside of its `scope`: **who is asking**.
    ///
    /// `scope` gets the head of the request, where an authentication further out has put the user into
    /// the extensions, say. It returns a [`Scope`], or the name of the user or tenant as a `String` or
    /// `&str`; an `Option` is not taken, because the closure has to say what happens without a user. Two
    /// requests with one key and one scope are the same request, and get the same response, with the data of
    /// the first caller in it. A scope that does not tell users apart lets each of them read the responses of
    /// all others whose keys they know or guess.
    ///
    /// A scope should be as stable as the user, not as a token or session, or a retry after a new login is
    /// another request. Together with the key it may have 510 bytes, without control characters; beyond
    /// that the request is refused as one with an invalid key.
    ///
    /// # Errors
    /// Those of [`IdempotencyLayer::new`].
    pub fn new<St, F, O>(config: Config, store: St, scope: F) -> Result<Self, InvalidConfig>
    where
        St: Store<StoredResponse>,
        F: Fn(&RequestHead) -> O + Send + Sync + 'static,
        O: Into<Scope>,
    {
        let settings = Arc::new(Settings {
            methods: vec![Method::POST, Method::PATCH],
            syntax: Syntax { strict: false, longest: 255 },
            scope: Arc::new(move |head| scope(head).into()),
            payload: true,
            request_cap: CAP,
            response_cap: CAP,
            keep: Arc::new(kept_by_default),
            marker: Some(HeaderName::from_static("idempotency-replayed")),
            left_out: OF_ONE_CALLER.to_vec(),
            unusable: None,
            challenge: BEARER,
        });
        let tape = ResponseTape { settings: settings.clone() };
        let config = config.default_in_flight_hint(IN_FLIGHT_HINT);
        let core = IdempotencyLayer::identified_by(config, store, Known)?;
        Ok(Self { core: core.tape(tape).reject(Respond), settings })
    }

    /// Keeps responses in one scope for all requests, [`Scope::Shared`]. **Only where all callers are one user, or may read each other's
    /// responses**: whoever sends the key and the request of another gets that other's response. Keys
    /// that count up (`1`, `2`, ...) are guessed.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn unscoped<St: Store<StoredResponse>>(
        config: Config,
        store: St,
    ) -> Result<Self, InvalidConfig> {
        Self::new(config, store, |_| Scope::Shared(""))
    }
}

impl<R> IdempotencyKeyLayer<R> {
    /// The methods whose requests are looked at; all others pass untouched. Defaults to `POST` and
    /// `PATCH`, which are the ones that are not idempotent by themselves.
    pub fn methods(self, methods: impl IntoIterator<Item = Method>) -> Self {
        let methods = methods.into_iter().collect();
        self.with(|settings| settings.methods = methods)
    }

    /// Takes strings in double quotes only, as the draft asks for. Defaults to taking a bare
    /// `Idempotency-Key: 8e03978e-...` too, as many clients send it; it is then the same key with and
    /// without quotes.
    pub fn strict(self) -> Self {
        self.with(|settings| settings.syntax.strict = true)
    }

    /// How many bytes a key may have, without quotes. Defaults to 255, which leaves 255 of the 512 that
    /// stores take for its scope.
    pub fn longest_key(self, bytes: usize) -> Self {
        self.with(|settings| settings.syntax.longest = bytes)
    }

    /// How many bytes the body of a request with a key may have. It is read as a whole before anything
    /// else is done; a longer one is answered with 413. Defaults to 1 MiB. Each request under way may
    /// hold as much, and its SHA-256 takes some milliseconds of the thread for a MiB where the processor
    /// has no instructions for it.
    pub fn request_cap(self, bytes: usize) -> Self {
        self.with(|settings| settings.request_cap = bytes)
    }

    /// Leaves the bodies of requests alone: they stream, whatever their length, and the fingerprint is
    /// of method, path and query only. The same key with another body is then not refused: it is
    /// answered with the stored response. Defaults to reading them.
    pub fn ignore_payload(self) -> Self {
        self.with(|settings| settings.payload = false)
    }

    /// How many bytes the body of a response may have to be stored. Default: 1 MiB. Each response in the store
    /// may hold as much. A longer one goes to the client all the same and is **not stored**. The key
    /// stays done: a retry is answered 422, kind `result-not-kept`, and the work is not done again, unless
    /// [`Config::rerun_if_not_kept`] is set.
    pub fn response_cap(self, bytes: usize) -> Self {
        self.with(|settings| settings.response_cap = bytes)
    }

    /// Stores the responses for whose head `keep` is true; after any other the key is free, or left as
    /// [`Config::failed_calls`] says. Defaults to [`kept_by_default`].
    ///
    /// The body of a response that is kept is read to its end before the client gets any of it.
    pub fn keep(self, keep: impl Fn(&ResponseHead) -> bool + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.keep = Arc::new(keep))
    }

    /// The header field that marks a replayed response, with the value `true`; `None` for no mark.
    /// Defaults to `Idempotency-Replayed`.
    pub fn marker(self, name: impl Into<Option<HeaderName>>) -> Self {
        let name = name.into();
        self.with(|settings| settings.marker = name)
    }

    /// Leaves the header fields `names` out of replays, besides those that are left out by default:
    /// `Set-Cookie`, `Set-Cookie2`, `WWW-Authenticate`, `Authentication-Info` and
    /// `Proxy-Authentication-Info`. They belong to the one caller, session or connection that the first
    /// response was for: add the fields in which your service gives tokens. The first caller gets them.
    /// They are neither stored nor replayed, in the header or in the trailers.
    pub fn leave_out(self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        let names: Vec<HeaderName> = names.into_iter().collect();
        self.with(|settings| settings.left_out.extend(names))
    }

    /// Replays the header fields `names` although they are left out by default. A replay of `Set-Cookie` gives
    /// the session of the first call to whoever sends its key again in the same scope.
    pub fn replay_fields(self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        let names: Vec<HeaderName> = names.into_iter().collect();
        self.with(|settings| settings.left_out.retain(|name| !names.contains(name)))
    }

    /// Answers requests that cannot be used, malformed keys and bodies, through `answer`. Defaults to
    /// [`UnusableRequest::response`].
    pub fn unusable(
        self,
        answer: impl Fn(&UnusableRequest) -> Response<String> + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.unusable = Some(Arc::new(answer)))
    }

    /// Answers refusals through `reject` instead of by [`Respond`]. A [challenge](Respond::challenge) of
    /// `reject` is also the challenge of a caller that is [unauthenticated](Scope::Unauthenticated), unless
    /// [`unusable`](Self::unusable) answers for it.
    pub fn reject<R2: 'static>(self, reject: R2) -> IdempotencyKeyLayer<R2> {
        let known = (&reject as &dyn Any).downcast_ref::<RespondChallenge>();
        let challenge = known.map_or(BEARER, |known| known.challenge().clone());
        let Self { core, settings } = self.with(|settings| settings.challenge = challenge);
        IdempotencyKeyLayer { core: core.reject(reject), settings }
    }

    /// The operator's view. Requests that [cannot be used](UnusableRequest) and those of other methods
    /// are not in its numbers.
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

impl<S, R: Clone> Layer<S> for IdempotencyKeyLayer<R> {
    type Service = IdempotencyKey<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        IdempotencyKey { inner, core: self.core.clone(), settings: self.settings.clone() }
    }
}

impl<R: Clone> Clone for IdempotencyKeyLayer<R> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone(), settings: self.settings.clone() }
    }
}

impl<R> fmt::Debug for IdempotencyKeyLayer<R> {
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
