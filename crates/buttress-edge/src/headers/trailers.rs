//! [`Trailers`]: a request body without the trailers that a backend could believe.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::SizeHint;
use tower::BoxError;

use super::named::{OfCallers, remove_where};
use crate::Body;
use crate::body::PolledFrame;

/// A request body. Some backends add trailers to the fields of a request. So the trailers lose what the fields lose:
/// the identity and the credentials of the caller, and what frames, routes or traces a message.
pub(crate) struct Trailers {
    body: Body,
    of_callers: Arc<OfCallers>,
}

impl Trailers {
    /// Returns `body` without these trailers.
    pub(crate) fn checked(body: Body, of_callers: &Arc<OfCallers>) -> Body {
        if body.is_empty() {
            return body;
        }
        Body::new(Self { body, of_callers: Arc::clone(of_callers) })
    }
}

impl http_body::Body for Trailers {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame {
        let mut frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(trailers) = frame.as_mut().and_then(|frame| frame.as_mut().ok()?.trailers_mut())
        {
            remove_where(trailers, |name| self.of_callers.is_no_trailer(name));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
