//! [`Body`]: the one body type of requests and responses.

mod guarded;
mod held;
mod size_limit;
mod timed;

use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use buttress::Clock;
use bytes::Bytes;
use http::StatusCode;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tower::BoxError;

use guarded::Guarded;
pub use held::Held;
pub(crate) use held::{End, Watch};
pub(crate) use size_limit::SizeLimit;
pub use timed::Idle;
use timed::Timed;

/// The next frame of a body whose errors are `E`.
pub(crate) type PolledFrame<E = BoxError> = Poll<Option<Result<Frame<Bytes>, E>>>;

/// A streaming body of a request or a response.
///
/// It can hold values until its end: see [`hold`](Self::hold). Data is never collected.
#[derive(Default)]
pub struct Body {
    kind: Kind,
    held: Held,
}

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Full(Bytes),
    Incoming(Incoming),
    Timed(Box<Timed>),
    Boxed(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError> + Send>>),
}

impl Body {
    /// Creates a body without data.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Creates a body that streams `body`. A body that is at its end becomes an empty one.
    pub fn new<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let is_at_end = body.is_end_stream();
        let mut body = Some(body);
        let any: &mut dyn Any = &mut body;
        if let Some(own) = any.downcast_mut::<Option<Self>>() {
            return own.take().unwrap_or_default();
        }
        if is_at_end {
            return Self::default();
        }
        if let Some(incoming) = any.downcast_mut::<Option<Incoming>>() {
            return incoming.take().map_or_else(Self::default, |body| Kind::Incoming(body).into());
        }
        match body {
            Some(body) => Kind::Boxed(Box::pin(Errors { body })).into(),
            None => Self::default(),
        }
    }

    /// Creates the body of an answer, which fails if no frame arrives for `idle`.
    pub(crate) fn timed(body: Self, idle: Duration, clock: &Clock) -> Self {
        if http_body::Body::is_end_stream(&body) {
            return Self::default();
        }
        Kind::Timed(Box::new(Timed::new(body, idle, clock.clone()))).into()
    }

    /// Keeps `guard` until the body has ended, has failed or is dropped. A permit in a response
    /// body counts until the client has the whole response.
    #[must_use]
    pub fn hold(mut self, guard: impl Send + Sync + 'static) -> Self {
        self.held.add(held::Plain(guard));
        self
    }

    /// Keeps `watch` as [`hold`](Self::hold) does, and notifies it of the end.
    pub(crate) fn watched(mut self, watch: impl Watch) -> Self {
        self.held.add(watch);
        self
    }

    /// Removes the values that the body holds. The caller keeps them for as long as they count.
    pub fn take_held(&mut self) -> Held {
        std::mem::take(&mut self.held)
    }

    /// Turns a panic of the body's code into a failure of the body.
    pub(crate) fn guarded(mut self) -> Self {
        self.kind = match std::mem::take(&mut self.kind) {
            Kind::Boxed(body) => Kind::Boxed(Box::pin(Guarded(Some(body)))),
            kind => kind,
        };
        self
    }

    /// Whether the body has no data and no trailers.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.kind, Kind::Empty)
    }
}

/// Whether a body has no more data. A connection of HTTP/1.1 reads nothing after the announced length. A stream of HTTP/2
/// can end later, and can have trailers.
pub(crate) fn is_read(body: &impl http_body::Body) -> bool {
    body.is_end_stream() || body.size_hint().exact() == Some(0)
}

/// Whether an answer has no body, whatever its fields say (RFC 9110, section 6.4.1).
pub(crate) fn has_no_body(is_head: bool, status: StatusCode) -> bool {
    is_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

impl From<Kind> for Body {
    fn from(kind: Kind) -> Self {
        Self { kind, held: Held::default() }
    }
}

impl From<Bytes> for Body {
    fn from(data: Bytes) -> Self {
        if data.is_empty() { Self::default() } else { Kind::Full(data).into() }
    }
}

impl From<String> for Body {
    fn from(data: String) -> Self {
        Bytes::from(data).into()
    }
}

impl From<Vec<u8>> for Body {
    fn from(data: Vec<u8>) -> Self {
        Bytes::from(data).into()
    }
}

impl From<&'static str> for Body {
    fn from(data: &'static str) -> Self {
        Bytes::from_static(data.as_bytes()).into()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame {
        let this = self.get_mut();
        let frame = match &mut this.kind {
            Kind::Empty => None,
            Kind::Full(data) => {
                let data = std::mem::take(data);
                this.kind = Kind::Empty;
                Some(Ok(Frame::data(data)))
            }
            Kind::Incoming(body) => {
                ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map_err(Into::into))
            }
            Kind::Timed(body) => ready!(body.poll_frame(cx)),
            Kind::Boxed(body) => ready!(body.as_mut().poll_frame(cx)),
        };
        match &frame {
            None => {
                this.kind = Kind::Empty;
                this.held.release(End::Whole);
            }
            Some(Err(_)) => {
                this.kind = Kind::Empty;
                this.held.release(End::Failed);
            }
            // A connection of HTTP/1.1 reads nothing after the trailers.
            Some(Ok(frame)) if frame.is_trailers() => {
                this.kind = Kind::Empty;
                this.held.release(End::Whole);
            }
            Some(Ok(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(_) => false,
            Kind::Incoming(body) => body.is_end_stream(),
            Kind::Timed(body) => body.is_end_stream(),
            Kind::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(data) => SizeHint::with_exact(data.len() as u64),
            Kind::Incoming(body) => body.size_hint(),
            Kind::Timed(body) => body.size_hint(),
            Kind::Boxed(body) => body.size_hint(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if !self.held.is_empty() {
            self.held.release(if is_read(self) { End::Whole } else { End::Dropped });
        }
    }
}

impl fmt::Debug for Body {
    /// Omits the data: bodies hold secrets, and debug output reaches logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("held", &self.held).finish_non_exhaustive()
    }
}

pin_project_lite::pin_project! {
    /// A body whose errors are boxed.
    struct Errors<B> {
        #[pin]
        body: B,
    }
}

impl<B> http_body::Body for Errors<B>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame {
        let frame = ready!(self.project().body.poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
