//! Recording a response for the store, and replaying it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use buttress::idempotency::{Kept, Recorded, Tape};
use http::header::CONTENT_TYPE;
use http::response::Parts;
use http::{HeaderValue, Response};
use http_body::Body;

use super::body::BufferedBody;
use super::collect::{Collect, Collected};
use super::layer::Settings;
use super::stored::StoredResponse;
use crate::ended::polled_after_completion;
use crate::refusal_mark::Refusal;

/// Returns whether the layer keeps and replays the response with this head. It is the default of
/// [`keep`](super::IdempotencyKeyLayer::keep): every response except
///
/// - 408, 425, 429 and 5xx, after which another attempt may succeed,
/// - 1xx, an interim response or the start of another protocol,
/// - refusals of buttress layers further in ([`Refusal`]),
/// - `text/event-stream`, a stream without an end.
///
/// A 400 or 422 is kept, also of an extractor: a client that corrects its request needs a new key.
///
/// ```
/// use buttress_http::idempotency_key::kept_by_default;
/// use http::Response;
///
/// let kept = |status: u16| {
///     let (head, ()) = Response::builder().status(status).body(()).unwrap().into_parts();
///     kept_by_default(&head)
/// };
/// assert!(kept(201) && kept(303) && kept(404) && kept(422));
/// assert!(!kept(101) && !kept(408) && !kept(429) && !kept(500));
/// ```
#[must_use]
pub fn kept_by_default(head: &Parts) -> bool {
    let events = || {
        let kind = head.headers.get(CONTENT_TYPE).map_or(b"".as_slice(), HeaderValue::as_bytes);
        let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default();
        kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
    };
    !matches!(head.status.as_u16(), 100..200 | 408 | 425 | 429 | 500..)
        && head.extensions.get::<Refusal>().is_none()
        && !events()
}

/// A tape that records responses, and replays them with a mark.
#[derive(Clone)]
pub struct ResponseTape {
    pub(super) settings: Arc<Settings>,
}

impl<B, E> Tape<Response<BufferedBody<B>>, E> for ResponseTape
where
    B: Body + Unpin,
{
    type Value = StoredResponse;
    type Recording = Recording<B, E>;

    fn record(&self, answer: Result<Response<BufferedBody<B>>, E>) -> Recording<B, E> {
        let is_not_kept = |answer| Recording { stage: Stage::NotKept(answer) };
        let response = match answer {
            Ok(response) => response,
            Err(error) => return is_not_kept(Err(error)),
        };
        let (head, body) = response.into_parts();
        if !(self.settings.keep)(&head) {
            return is_not_kept(Ok(Response::from_parts(head, body)));
        }
        match body.into_unread() {
            Ok(body) => {
                let collect = Collect::new(body, self.settings.response_cap);
                let settings = self.settings.clone();
                Recording { stage: Stage::Collecting(Box::new(Head { head, settings }), collect) }
            }
            // A response is recorded before a client can read it, so this is unreachable.
            Err(body) => is_not_kept(Ok(Response::from_parts(head, *body))),
        }
    }

    fn replay(&self, value: StoredResponse) -> Result<Response<BufferedBody<B>>, E> {
        // Filters again: a layer with other settings may have stored more fields.
        let mut response = value.without(&self.settings.left_out).into_response();
        if let Some(marker) = &self.settings.marker {
            response.headers_mut().insert(marker, HeaderValue::from_static("true"));
        }
        Ok(response)
    }
}

impl fmt::Debug for ResponseTape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseTape").finish_non_exhaustive()
    }
}

/// A response whose body is read up to its end or the cap.
pub struct Recording<B: Body, E> {
    stage: Stage<B, E>,
}

enum Stage<B: Body, E> {
    NotKept(Result<Response<BufferedBody<B>>, E>),
    Collecting(Box<Head>, Collect<B>),
    Over,
}

/// The head of a response whose body is being read.
struct Head {
    head: Parts,
    settings: Arc<Settings>,
}

// Nothing in it is pinned: the body is `Unpin`, and the other parts are only moved.
impl<B: Body + Unpin, E> Unpin for Recording<B, E> {}

impl<B, E> Future for Recording<B, E>
where
    B: Body + Unpin,
{
    type Output = Recorded<Response<BufferedBody<B>>, E, StoredResponse>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let collected = match &mut self.stage {
            Stage::Collecting(_, collect) => Some(ready!(Pin::new(collect).poll(cx))),
            Stage::NotKept(_) | Stage::Over => None,
        };
        let (head, body, value) = match (std::mem::replace(&mut self.stage, Stage::Over), collected)
        {
            (Stage::NotKept(answer), _) => {
                return Poll::Ready(Recorded { answer, value: Kept::Failed });
            }
            (Stage::Collecting(head, _), Some(Collected::Whole { data, trailers })) => {
                let stored = StoredResponse::of(&head.head, data.clone(), trailers.clone())
                    .without(&head.settings.left_out);
                (head, BufferedBody::whole(data, trailers), Kept::Value(stored))
            }
            (
                Stage::Collecting(head, _),
                Some(Collected::TooLarge(body) | Collected::BrokenOff(body)),
                // The handler has run: a free key would let it run again.
            ) => (head, body, Kept::Lost),
            (Stage::Collecting(..), None) | (Stage::Over, _) => {
                polled_after_completion("idempotency_key::ResponseFuture")
            }
        };
        let answer = Ok(Response::from_parts(head.head, body));
        Poll::Ready(Recorded { answer, value })
    }
}

impl<B: Body, E> fmt::Debug for Recording<B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording").finish_non_exhaustive()
    }
}
