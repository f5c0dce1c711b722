//! [`StatusButtons`]: the page with buttons, for operators who are admitted.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Buf;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use serde_json::{Value, json};
use tower::Service;

use super::act::{Begun, Command, NotDone};
use super::board::StatusBoard;
use super::guard::{check_content_type, check_origin};
use super::page::{JSON, answer, elsewhere, not_allowed, refusal, show};
use super::row::{Custom, Outcome};

/// The largest body of a change, in bytes.
const MOST: usize = 4096;

type Admit = dyn Fn(&Parts) -> Option<String> + Send + Sync;

/// A service that shows a [`StatusBoard`] with buttons. Operators force circuits, change limits and run the
/// application's actions.
///
/// It cannot be made without a closure that admits operators. See the [module](super) for what a change must
/// look like.
#[derive(Clone)]
pub struct StatusButtons {
    status: Arc<StatusBoard>,
    admit: Arc<Admit>,
    origins: Arc<[String]>,
}

impl StatusButtons {
    /// Creates a page of `status` with buttons, for the operators that `admit` names.
    ///
    /// `admit` sees the head of every request, also of requests that change nothing. It returns the name of the
    /// operator, which is logged with each change. After `None` the answer is 403. If `admit` panics, the service
    /// responds with 500. It must not block: check a session or a token in a layer in front of this service, and read
    /// here what that layer put into the request's extensions.
    ///
    /// ```
    /// use buttress_http::status::{StatusBoard, StatusButtons};
    /// #[derive(Clone)]
    /// struct Operator(String); // An extension that the layer of the login sets.
    ///
    /// let buttons = StatusButtons::new(StatusBoard::new("shop"), |head| {
    ///     head.extensions.get::<Operator>().map(|operator| operator.0.clone())
    /// });
    /// # let _ = buttons;
    /// ```
    pub fn new(
        status: impl Into<Arc<StatusBoard>>,
        admit: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self { status: status.into(), admit: Arc::new(admit), origins: Arc::new([]) }
    }

    /// Takes changes also from pages of `origins`, for example `https://ops.example`. Default: only from the
    /// address in the header `Host`. A proxy that changes `Host` needs this.
    #[must_use]
    pub fn origins(mut self, origins: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.origins = origins.into_iter().map(Into::into).collect();
        self
    }

    fn admitted(&self, head: &Parts) -> Result<String, NotDone> {
        match catch_unwind(AssertUnwindSafe(|| (self.admit)(head))) {
            Ok(Some(operator)) => Ok(operator),
            Ok(None) => Err(NotDone::new(StatusCode::FORBIDDEN, "you are not admitted")),
            Err(_) => {
                let why = "your identity could not be checked";
                Err(NotDone::new(StatusCode::INTERNAL_SERVER_ERROR, why))
            }
        }
    }
}

impl<B> Service<Request<B>> for StatusButtons
where
    B: Body + Unpin + Send + 'static,
    B::Data: Send,
{
    type Response = Response<String>;
    type Error = Infallible;
    type Future = ButtonsFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        ButtonsFuture { inner: Box::pin(async move { this.answer(request).await }) }
    }
}

impl StatusButtons {
    async fn answer<B: Body + Unpin>(&self, request: Request<B>) -> Response<String> {
        let (head, body) = request.into_parts();
        if !self.status.is_at(head.uri.path()) {
            return elsewhere(&head, &self.status);
        }
        let is_change = match head.method {
            Method::GET | Method::HEAD => false,
            Method::POST => true,
            _ => return not_allowed("GET, HEAD, POST"),
        };
        let operator = match self.admitted(&head) {
            Ok(operator) => operator,
            Err(refused) => return refusal(&head, &refused),
        };
        if !is_change {
            return show(&self.status, &head, Some(&operator));
        }
        match self.command(&head, body, &operator).await {
            Ok(answered) => answer(&head, StatusCode::OK, JSON, answered.to_string()),
            Err(refused) => refusal(&head, &refused),
        }
    }

    /// Does what the body says. Returns the body of the answer.
    async fn command<B: Body + Unpin>(
        &self,
        head: &Parts,
        body: B,
        operator: &str,
    ) -> Result<Value, NotDone> {
        check_origin(head, &self.origins)?;
        check_content_type(head)?;
        let body = read(body).await?;
        let command: Command = serde_json::from_slice(&body).map_err(|error| {
            NotDone::new(StatusCode::BAD_REQUEST, format!("the body is not a change: {error}"))
        })?;
        let done = match self.status.begin(&command) {
            Ok(Begun::Custom(lookup)) if lookup.is_lookup => {
                return run(&lookup, &command).await.map(|found| json!({ "shown": found }));
            }
            Ok(Begun::Custom(action)) => run(&action, &command).await,
            Ok(Begun::Done(done)) => Ok(done),
            Err(refused) => Err(refused),
        };
        let Command { section, name, action, value } = &command;
        match &done {
            Ok(_) => tracing::info!(
                target: "buttress", operator, section, name, action, value,
                "an operator made a change"
            ),
            Err(NotDone { why, .. }) => tracing::warn!(
                target: "buttress", operator, section, name, action, value, why,
                "a change of an operator failed"
            ),
        }
        done.map(|done| json!({ "done": done }))
    }
}

/// Runs an action or a look-up of the application.
async fn run(custom: &Custom, command: &Command) -> Result<String, NotDone> {
    let begun = catch_unwind(AssertUnwindSafe(|| (custom.run)(command.value.clone())));
    let ended = match begun {
        Ok(running) => caught(running).await.unwrap_or_else(|| Err(PANICKED.into())),
        Err(_) => Err(PANICKED.into()),
    };
    ended.map_err(|why| NotDone::new(StatusCode::UNPROCESSABLE_ENTITY, why))
}

const PANICKED: &str = "the action panicked";

/// Drives an action of the application; `None` if it panics.
async fn caught(mut running: Outcome) -> Option<Result<String, String>> {
    let ended = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await;
    // A panic of its drop does not undo what the action has done.
    let _drop = catch_unwind(AssertUnwindSafe(|| drop(running)));
    ended
}

/// Reads a small body.
async fn read<B: Body + Unpin>(mut body: B) -> Result<Vec<u8>, NotDone> {
    let too_large = || {
        let why = format!("a change has at most {MOST} bytes");
        NotDone::new(StatusCode::PAYLOAD_TOO_LARGE, why)
    };
    if body.size_hint().lower() > MOST as u64 {
        return Err(too_large());
    }
    let mut read = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let broken = |_| NotDone::new(StatusCode::BAD_REQUEST, "the body broke off");
        let Ok(mut data) = frame.map_err(broken)?.into_data() else { continue };
        if data.remaining() > MOST - read.len() {
            return Err(too_large());
        }
        while data.has_remaining() {
            let chunk = data.chunk();
            read.extend_from_slice(chunk);
            let length = chunk.len();
            data.advance(length);
        }
    }
    Ok(read)
}

/// The response of a [`StatusButtons`]. Dropping it before the body of a change has arrived changes nothing.
/// Dropping it later may leave an action of the application unfinished.
#[must_use = "futures do nothing unless polled"]
pub struct ButtonsFuture {
    inner: Pin<Box<dyn Future<Output = Response<String>> + Send>>,
}

impl Future for ButtonsFuture {
    type Output = Result<Response<String>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx).map(Ok)
    }
}

impl fmt::Debug for StatusButtons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusButtons").field("status", &self.status).finish_non_exhaustive()
    }
}

impl fmt::Debug for ButtonsFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ButtonsFuture").finish_non_exhaustive()
    }
}
