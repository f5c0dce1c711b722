use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::shared::Shared;
use super::state::Bound;
use crate::vocabulary::clock::{self, Sleep};
use crate::vocabulary::error::Error;

/// A running limit that its owner polls, for work that is not one future: the frames of a body.
/// [`Handle::countdown`](super::Handle::countdown) makes it.
///
/// The owner drops the work when [`poll_over`](Self::poll_over) is ready, and then calls
/// [`time_out`](Self::time_out). Dropping a countdown at any time is safe and counts nothing.
pub struct Countdown {
    started: Instant,
    bound: Bound,
    deadline: Option<Instant>,
    /// The instant to which the timer is set, with the timer. Made at the first poll.
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
    shared: Arc<Shared>,
}

impl Countdown {
    pub(super) fn new(shared: Arc<Shared>, deadline: Option<Instant>) -> Self {
        let started = shared.common.clock.now();
        let bound = shared.bound(started, deadline);
        Self { started, bound, deadline, timer: None, shared }
    }

    /// Starts again, with the limit that is now in force. The deadline stays.
    pub fn restart(&mut self) {
        self.started = self.shared.common.clock.now();
        self.bound = self.shared.bound(self.started, self.deadline);
    }

    /// Returns `true` if the limit has passed. At the instant of its end it has not.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.shared.common.clock.now() > self.ends()
    }

    /// Returns `Ready` at the end of the limit.
    ///
    /// # Panics
    /// Panics on tokio's clock, outside of a runtime that has its time driver enabled.
    pub fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let ends = self.ends();
        if self.bound.duration().is_zero() {
            return Poll::Ready(());
        }
        let clock = &self.shared.common.clock;
        let (set, timer) =
            self.timer.get_or_insert_with(|| (ends, Box::pin(clock.sleep_until(ends))));
        // A restart moves the end. A timer that is set to an earlier instant moves when it fires, so
        // that a busy stream does not move it for every frame.
        if *set > ends {
            timer.as_mut().reset(ends);
            *set = ends;
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if *set >= ends {
                return Poll::Ready(());
            }
            timer.as_mut().reset(ends);
            *set = ends;
        }
    }

    /// Counts and reports the timeout, and returns its error:
    /// [`TimedOut`](crate::ErrorKind::TimedOut), or
    /// [`DeadlineExceeded`](crate::ErrorKind::DeadlineExceeded) if the deadline came first.
    #[must_use = "the caller of the work should receive the error"]
    pub fn time_out(self) -> Error {
        self.shared.timed_out(self.bound)
    }

    fn ends(&self) -> Instant {
        clock::after(self.started, self.bound.duration())
    }
}

impl fmt::Debug for Countdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Countdown").field("limit", &self.bound.duration()).finish_non_exhaustive()
    }
}
