//! A body that fails if no frame arrives in time.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use buttress::Clock;
use http_body::{Body as _, SizeHint};

use super::{Body, PolledFrame};
use crate::headers::hop::remove_trailers;
use crate::patience::Patience;

/// The error of a body whose sender sent no frame for the idle limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Idle {
    limit: Duration,
}

impl Idle {
    /// Returns the limit that has passed.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.limit
    }
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no part of the body arrived for {:?}", self.limit)
    }
}

impl std::error::Error for Idle {}

/// The time runs only while the reader waits. A reader that does not read does not fail the body.
pub(super) struct Timed {
    body: Body,
    patience: Patience,
}

impl Timed {
    pub(super) fn new(body: Body, limit: Duration, clock: Clock) -> Self {
        Self { body, patience: Patience::new(limit, clock) }
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.patience.progress();
            return Poll::Ready(frame.map(|frame| {
                let mut frame = frame?;
                frame.trailers_mut().into_iter().for_each(remove_trailers);
                Ok(frame)
            }));
        }
        ready!(self.patience.poll(cx));
        Poll::Ready(Some(Err(Idle { limit: self.patience.limit() }.into())))
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
