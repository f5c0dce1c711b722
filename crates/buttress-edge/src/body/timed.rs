//! A body that fails if no frame arrives in time.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use buttress::{Clock, Sleep};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tower::BoxError;

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

/// The timer runs only while the reader waits. A reader that does not read does not fail the body.
pub(super) struct Timed {
    body: Incoming,
    limit: Duration,
    clock: Clock,
    /// The timer, from the first wait on.
    sleep: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
}

impl Timed {
    pub(super) fn new(body: Incoming, limit: Duration, clock: Clock) -> Self {
        Self { body, limit, clock, sleep: None, is_waiting: false }
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.is_waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let sleep = match &mut self.sleep {
            Some(sleep) => sleep,
            None => self.sleep.insert(Box::pin(self.clock.sleep(self.limit))),
        };
        if !self.is_waiting {
            self.is_waiting = true;
            if let Some(due) = self.clock.now().checked_add(self.limit) {
                sleep.as_mut().reset(due);
            }
        }
        match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Some(Err(Idle { limit: self.limit }.into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
