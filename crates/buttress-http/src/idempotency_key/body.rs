use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::frame::PolledFrame;
use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

/// A body that the layer has read in part or to its end. Every response from an
/// [`IdempotencyKeyLayer`](super::IdempotencyKeyLayer) has this body.
///
/// It yields the part that was read, then the rest of the original body, or the error that ended
/// it. It passes an unread body on frame by frame. Data is [`Bytes`], copied only if the original
/// data has another type. Errors pass unchanged.
///
/// Bytes and a `String` convert into it, which refusals need. It also wraps a request body that
/// bytes cannot convert into: see the [module](super#bodies).
pub struct BufferedBody<B: Body> {
    /// The parts that were read. An empty part is finished.
    front: Bytes,
    beyond: Bytes,
    rest: Rest<B>,
}

pub(super) enum Rest<B: Body> {
    End,
    Trailers(HeaderMap),
    Stream(B),
    Broken(B::Error),
}

impl<B: Body> BufferedBody<B> {
    /// Wraps `body`, which is unread.
    pub const fn new(body: B) -> Self {
        Self::partly(Bytes::new(), Bytes::new(), Rest::Stream(body))
    }

    /// A whole body.
    pub(super) fn whole(data: Bytes, trailers: Option<HeaderMap>) -> Self {
        Self::partly(data, Bytes::new(), trailers.map_or(Rest::End, Rest::Trailers))
    }

    pub(super) const fn partly(front: Bytes, beyond: Bytes, rest: Rest<B>) -> Self {
        Self { front, beyond, rest }
    }

    /// Returns the original body if it is unread.
    pub(super) fn into_unread(self) -> Result<B, Box<Self>> {
        match self.rest {
            Rest::Stream(body) if self.front.is_empty() && self.beyond.is_empty() => Ok(body),
            rest => Err(Box::new(Self { rest, ..self })),
        }
    }

    fn read(&mut self) -> Option<Bytes> {
        let read = if self.front.is_empty() { &mut self.beyond } else { &mut self.front };
        (!read.is_empty()).then(|| std::mem::take(read))
    }
}

// Errors are only moved.
impl<B: Body + Unpin> Unpin for BufferedBody<B> {}

impl<B: Body> From<Bytes> for BufferedBody<B> {
    fn from(data: Bytes) -> Self {
        Self::whole(data, None)
    }
}

impl<B: Body> From<String> for BufferedBody<B> {
    fn from(text: String) -> Self {
        Self::from(Bytes::from(text))
    }
}

impl<B: Body> Default for BufferedBody<B> {
    /// Returns an empty body.
    fn default() -> Self {
        Self::from(Bytes::new())
    }
}

impl<B> Body for BufferedBody<B>
where
    B: Body + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame<B::Error> {
        let this = self.get_mut();
        if let Some(data) = this.read() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if let Rest::Stream(body) = &mut this.rest {
            let frame = ready!(Pin::new(body).poll_frame(cx));
            if !matches!(frame, Some(Ok(_))) {
                this.rest = Rest::End;
            }
            return Poll::Ready(frame.map(|frame| frame.map(with_bytes)));
        }
        Poll::Ready(match std::mem::replace(&mut this.rest, Rest::End) {
            Rest::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
            Rest::Broken(error) => Some(Err(error)),
            Rest::End | Rest::Stream(_) => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        let read = self.front.is_empty() && self.beyond.is_empty();
        read && match &self.rest {
            Rest::End => true,
            Rest::Stream(body) => body.is_end_stream(),
            Rest::Trailers(_) | Rest::Broken(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let read = (self.front.len() + self.beyond.len()) as u64;
        let mut hint = SizeHint::new();
        match &self.rest {
            Rest::End => hint.set_exact(read),
            Rest::Stream(body) => {
                let rest = body.size_hint();
                hint.set_lower(rest.lower().saturating_add(read));
                if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(read)) {
                    hint.set_upper(upper);
                }
            }
            // The exact length is known but not reported: HTTP/1.1 sends trailers only after
            // chunks.
            Rest::Trailers(_) | Rest::Broken(_) => hint.set_lower(read),
        }
        hint
    }
}

/// Returns `frame` with its data as [`Bytes`].
pub(super) fn with_bytes<D: Buf>(frame: Frame<D>) -> Frame<Bytes> {
    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
}

impl<B: Body> fmt::Debug for BufferedBody<B> {
    /// Omits the data: bodies hold secrets, and debug output reaches logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let read = self.front.len() + self.beyond.len();
        f.debug_struct("BufferedBody").field("read", &read).finish_non_exhaustive()
    }
}
