//! [`Guarded`]: the body of a service of this process, whose panics are failures.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, SizeHint};
use tower::BoxError;

use super::PolledFrame;
use crate::caught::{caught, discard};

type Inner = Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>;

/// A body that fails if its code panics. `None` after that.
pub(super) struct Guarded(pub(super) Option<Inner>);

impl Body for Guarded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        caught(|| body.as_mut().poll_frame(cx)).unwrap_or_else(|panicked| {
            discard(self.0.take());
            Poll::Ready(Some(Err(panicked.into())))
        })
    }

    fn is_end_stream(&self) -> bool {
        // A body that panics here is polled, and fails then.
        self.0.as_ref().is_none_or(|body| caught(|| body.is_end_stream()).unwrap_or_default())
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.0.as_ref().map(|body| caught(|| body.size_hint()).unwrap_or_default());
        hint.unwrap_or_else(|| SizeHint::with_exact(0))
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        discard(self.0.take());
    }
}
