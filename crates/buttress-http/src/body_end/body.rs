use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use buttress::Outcome;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::BoxError;

use super::held::{Guard, Held};
use super::limit::Cut;
use crate::frame::PolledFrame;

pin_project! {
    #[project = BodyProj]
    /// A body that holds open calls and guards until its end.
    ///
    /// [`HoldBodyLayer`](super::HoldBodyLayer) makes it, or [`new`](Self::new). It passes on the
    /// frames, trailers, size hint and end of the inner body, unless a time limit cuts it. Errors
    /// become `BoxError`. Everything that it holds ends once:
    ///
    /// | event | open calls end |
    /// |---|---|
    /// | the body ends, or its last frame was read | as successes; a gRPC call by the status in its trailers |
    /// | the body fails | as failures of the service |
    /// | a [`BodyTimeLimitLayer`](super::BodyTimeLimitLayer) cuts the body | of layers further out as failures, further in as abandoned |
    /// | the body panics while it is polled | as panicked |
    /// | the reader drops the body before its end | as abandoned |
    /// | the reader drops the body after all of the announced length | as successes; a gRPC call whose trailers did not come as abandoned |
    ///
    /// The last row is for servers, which stop reading at the announced length.
    ///
    /// A response without a body ends its calls with its head: 204, 304, and every body that is at
    /// its end from the start. If a service answers HEAD with a body and the server drops it, the calls
    /// end as abandoned. A 101 holds its calls, although its body is at its end:
    /// [`take_held`](Self::take_held) moves them to the task that uses the connection. If they are
    /// not taken, they end with the response, as successes.
    ///
    /// # Cancel safety
    /// Dropping the body at any time is safe. The body inside is dropped first. Every open call then
    /// ends, the innermost layer's first.
    ///
    /// # Panics
    /// After its end, `poll_frame` polls the body inside again, which may panic.
    pub struct HoldBody<B> {
        #[pin]
        body: Option<B>,
        held: Held,
        // Whether all of the announced length was read. Known while something is held.
        read: bool,
    }

    impl<B> PinnedDrop for HoldBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if !this.held.is_empty() {
                this.body.set(None);
                if *this.read { this.held.finish_read() } else { this.held.abandon() }
            }
        }
    }
}

impl<B> HoldBody<B> {
    /// Makes a body that holds nothing yet.
    #[must_use]
    pub fn new(body: B) -> Self {
        Self { body: Some(body), held: Held::default(), read: false }
    }

    /// Moves everything that is held out of the body, whose end then ends nothing.
    ///
    /// A server drops the body of a 101 immediately. Take the guards out of the response, and keep
    /// them in the task that uses the upgraded connection.
    ///
    /// ```
    /// use buttress::bulkhead::BulkheadLayer;
    /// use buttress::Outcome;
    /// use buttress_http::{BodyEnd, HoldBodyLayer};
    /// use http::{Request, Response, StatusCode};
    /// use tower::{BoxError, ServiceBuilder, ServiceExt};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), BoxError> {
    /// let bulkhead = BulkheadLayer::default();
    /// let handle = bulkhead.handle();
    /// let service = ServiceBuilder::new()
    ///     .layer(bulkhead.until(BodyEnd::new()))
    ///     .layer(HoldBodyLayer)
    ///     .service_fn(async |_: Request<String>| {
    ///         let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    ///         Ok::<_, BoxError>(response.body(String::new())?)
    ///     });
    /// let mut response = service.oneshot(Request::default()).await?;
    /// let held = response.body_mut().take_held();
    /// drop(response); // as a server does
    /// let tunnel = tokio::spawn(async move {
    ///     // Copy the bytes of both sides here.
    ///     held.end(Outcome::Success);
    /// });
    /// assert_eq!(handle.stats().active, 1, "the tunnel has not ended");
    /// tunnel.await?;
    /// assert_eq!(handle.stats().active, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn take_held(&mut self) -> Held {
        std::mem::take(&mut self.held)
    }
}

impl<B: Body> HoldBody<B> {
    /// Holds `guard` until the end of the body, and then drops it. A body that is at its end drops
    /// it immediately.
    #[must_use]
    pub fn hold(mut self, guard: impl Send + Sync + 'static) -> Self {
        let guard: Box<dyn Any + Send + Sync> = Box::new(guard);
        if !self.is_over() {
            self.push(Guard::Other(guard));
        }
        self
    }

    /// Holds the guard of a response with this status.
    pub(super) fn push_for(&mut self, status: StatusCode, guard: Guard) {
        if self.is_over_with_head(status) {
            return guard.finish(None);
        }
        self.push(guard);
        self.read |= status == StatusCode::SWITCHING_PROTOCOLS;
    }

    /// Returns `true` if a response with this status ends with its head.
    pub(super) fn is_over_with_head(&self, status: StatusCode) -> bool {
        match status {
            StatusCode::SWITCHING_PROTOCOLS => false,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => true,
            _ => self.is_over(),
        }
    }

    fn is_over(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    pub(super) fn push(&mut self, guard: Guard) {
        self.read = self.body.as_ref().is_none_or(is_read);
        self.held.push(guard);
    }
}

/// Returns `true` if a body has no data left, although trailers may come.
fn is_read(body: &impl Body) -> bool {
    body.size_hint().exact() == Some(0)
}

impl<B> Body for HoldBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame<BoxError, B::Data> {
        let mut this = self.project();
        let Some(mut body) = this.body.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        if this.held.is_empty() {
            return body.poll_frame(cx).map_err(Into::into);
        }
        // A panic ends the calls immediately, as panicked.
        let watch = EndOnPanic(this.held);
        let polled = body.as_mut().poll_frame(cx);
        std::mem::forget(watch);
        match &polled {
            Poll::Pending => {
                if let Some(limit) = this.held.poll_limits(cx) {
                    return this.cut(limit);
                }
            }
            Poll::Ready(None) => this.held.finish(None),
            Poll::Ready(Some(Err(_))) => std::mem::take(this.held).end(Outcome::Failure),
            Poll::Ready(Some(Ok(frame))) => {
                // Readers need not poll again after the last frame.
                let trailers = frame.trailers_ref();
                if trailers.is_some() || body.is_end_stream() {
                    this.held.finish(trailers);
                } else {
                    *this.read = is_read(&*body);
                    if let Some(limit) = this.held.note_frame() {
                        return this.cut(limit);
                    }
                }
            }
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<B> BodyProj<'_, B> {
    /// Drops the body inside, because a limit is over, and ends the held permits and calls.
    fn cut<D>(mut self, limit: usize) -> PolledFrame<BoxError, D> {
        self.body.set(None);
        Poll::Ready(self.held.cut(limit).map(|cut| match cut {
            Cut::Error(error) => Err(error.into()),
            Cut::Trailers(trailers) => Ok(Frame::trailers(trailers)),
        }))
    }
}

/// Ends the held permits and calls when a panic unwinds past it.
struct EndOnPanic<'a>(&'a mut Held);

impl Drop for EndOnPanic<'_> {
    #[cold]
    fn drop(&mut self) {
        drop(std::mem::take(self.0));
    }
}

/// For refusals, whose body is a problem document.
impl<B: From<String>> From<String> for HoldBody<B> {
    fn from(text: String) -> Self {
        Self::new(B::from(text))
    }
}

impl<B: Default> Default for HoldBody<B> {
    fn default() -> Self {
        Self::new(B::default())
    }
}

impl<B> fmt::Debug for HoldBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HoldBody").field("held", &self.held).finish_non_exhaustive()
    }
}
