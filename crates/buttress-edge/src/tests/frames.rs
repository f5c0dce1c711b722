//! [`Frames`]: a body of frames that are ready.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tower::BoxError;

type Item = Result<Frame<Bytes>, BoxError>;

/// A body of frames that are ready.
pub(crate) struct Frames {
    frames: VecDeque<Item>,
    /// The part of the announced length that is left.
    left: Option<u64>,
    ends: bool,
}

impl Frames {
    /// Returns a body that ends after `frames`, and announces no length.
    pub(crate) fn ending(frames: impl IntoIterator<Item = Item>) -> Self {
        Self { frames: frames.into_iter().collect(), left: None, ends: true }
    }

    /// Returns a body that announces `length`. Nothing follows `frames`, and the end of the body is unknown.
    pub(crate) fn open(
        frames: impl IntoIterator<Item = Frame<Bytes>>,
        length: Option<u64>,
    ) -> Self {
        Self { frames: frames.into_iter().map(Ok).collect(), left: length, ends: false }
    }
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Item>> {
        let Some(frame) = self.frames.pop_front() else {
            return if self.ends { Poll::Ready(None) } else { Poll::Pending };
        };
        let data = frame.as_ref().ok().and_then(Frame::data_ref);
        let length = data.map_or(0, |data| data.len() as u64);
        self.left = self.left.map(|left| left - length);
        Poll::Ready(Some(frame))
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map(SizeHint::with_exact).unwrap_or_default()
    }
}
