use std::fmt;
use std::sync::Arc;

use buttress::InvalidConfig;
use buttress::idempotency::{Config, Handle, IdempotencyLayer, Store};
use http::request::Parts as RequestHead;
use http::response::Parts as ResponseHead;
use http::{HeaderName, Method, Response};
use tower::Layer;

use super::header::Syntax;
use super::identity::Known;
use super::service::IdempotencyKey;
use super::stored::StoredResponse;
use super::tape::{ResponseTape, kept_by_default};
use super::unusable::UnusableRequest;
use crate::respond::Respond;

/// How much is read of a body, and kept of one, unless said otherwise.
const CAP: usize = 1024 * 1024;

/// The layer of the core that does the work.
pub(super) type Core<R> = IdempotencyLayer<Known, StoredResponse, ResponseTape, R>;

type Closure<A, T> = Arc<dyn Fn(&A) -> T + Send + Sync>;

/// What every service of a layer goes by.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) methods: Vec<Method>,
    pub(super) syntax: Syntax,
    pub(super) scope: Closure<RequestHead, String>,
    /// Whether the fingerprint is of the body too.
    pub(super) payload: bool,
    pub(super) request_cap: usize,
    pub(super) response_cap: usize,
    pub(super) keep: Closure<ResponseHead, bool>,
    pub(super) marker: Option<HeaderName>,
    pub(super) unusable: Closure<UnusableRequest, Response<String>>,
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
    /// refused at once, as the draft has it. With `refuse_in_flight(false)` it waits for the one answer.
    pub fn config() -> Config {
        Config::new().refuse_in_flight(true)
    }

    /// Keeps responses in `store`, by the key of a request inside of its `scope`: **who is asking**.
    ///
    /// `scope` gets the head of the request, where an authentication further out has put the user into
    /// the extensions, say. Two requests with one key and one scope are the same request, and get the
    /// same response, with everything in it: cookies, tokens, the data of whoever asked first. A scope
    /// that does not tell users apart lets each of them read the responses of all others whose keys
    /// they know or guess.
    ///
    /// It should be as stable as the user, not as a token or session, or a retry after a new login is
    /// another request. Together with the key it may have 511 bytes, without control characters; beyond
    /// that the request is refused as one with an invalid key.
    ///
    /// # Errors
    /// Those of [`IdempotencyLayer::new`].
    pub fn new<St, F, O>(config: Config, store: St, scope: F) -> Result<Self, InvalidConfig>
    where
        St: Store<StoredResponse>,
        F: Fn(&RequestHead) -> O + Send + Sync + 'static,
        O: Into<String>,
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
            unusable: Arc::new(UnusableRequest::response),
        });
        let tape = ResponseTape { settings: settings.clone() };
        let core = IdempotencyLayer::identified_by(config, store, Known)?;
        Ok(Self { core: core.tape(tape).reject(Respond), settings })
    }

    /// The same with one scope for all. **Only where all callers are one user, or may read each other's
    /// responses**: whoever sends the key and the request of another gets that other's response. Keys
    /// that count up (`1`, `2`, ...) are guessed.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn unscoped<St: Store<StoredResponse>>(
        config: Config,
        store: St,
    ) -> Result<Self, InvalidConfig> {
        Self::new(config, store, |_| String::new())
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

    /// How many bytes a key may have, without quotes. Defaults to 255, which leaves 256 of the 512 that
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

    /// How many bytes the body of a response may have to be stored. A longer one goes to the client all
    /// the same and **is not stored**, so that a retry has no answer to find: by default its key is
    /// free and the work is done again. See [`Config::failed_calls`]. Defaults to 1 MiB. Each response
    /// in the store may hold as much.
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

    /// Answers requests that cannot be used, malformed keys and bodies, through `answer`. Defaults to
    /// [`UnusableRequest::response`].
    pub fn unusable(
        self,
        answer: impl Fn(&UnusableRequest) -> Response<String> + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.unusable = Arc::new(answer))
    }

    /// Answers refusals through `reject` instead of by [`Respond`].
    pub fn reject<R2>(self, reject: R2) -> IdempotencyKeyLayer<R2> {
        let Self { core, settings } = self;
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
