//! The parts that a body holds until its end.

use std::any::Any;
use std::fmt;
use std::task::Context;

use buttress::{OpenCall, Outcome};
use http::HeaderMap;

use super::limit::{Cut, Running};
use crate::grpc;

/// The parts that a [`HoldBody`](super::HoldBody) holds until its end: open calls of layers, and guards of
/// yours.
///
/// [`HoldBody::take_held`](super::HoldBody::take_held) returns it, for a response whose body is not
/// its end: an upgrade. Dropping it ends every open call as abandoned, and drops every guard.
#[derive(Default)]
#[must_use = "dropping it ends the calls that it holds"]
pub struct Held {
    /// The guard of the innermost layer is the first.
    guards: Vec<Guard>,
}

pub(super) enum Guard {
    Call {
        call: OpenCall,
        /// The codes that are failures, if the gRPC status of the call is still to come.
        grpc: Option<fn(i32) -> bool>,
    },
    /// A limit on the time of the body.
    Limit(Running),
    /// A guard of the user. Dropping it is all that happens to it.
    Other(#[expect(dead_code, reason = "held to be dropped")] Box<dyn Any + Send + Sync>),
}

impl Guard {
    /// Ends the call of a body that ended cleanly, with these trailers.
    pub(super) fn finish(self, trailers: Option<&HeaderMap>) {
        if let Self::Call { call, grpc } = self {
            let failed = grpc.is_some_and(|failures| {
                failures(trailers.map_or(grpc::UNKNOWN, grpc::code_in_trailers))
            });
            call.end(if failed { Outcome::Failure } else { Outcome::Success });
        }
    }

    fn end(self, outcome: Outcome) {
        if let Self::Call { call, .. } = self {
            call.end(outcome);
        }
    }

    fn abandon(self) {
        if let Self::Call { call, .. } = self {
            call.abandon();
        }
    }
}

impl Held {
    /// Returns `true` if nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.guards.is_empty()
    }

    /// Ends every open call with `outcome`, and drops every guard. The innermost layer is the first.
    pub fn end(mut self, outcome: Outcome) {
        self.guards.drain(..).for_each(|guard| guard.end(outcome));
    }

    /// Ends every open call as abandoned, although a panic of the caller may unwind.
    pub(super) fn abandon(&mut self) {
        self.guards.drain(..).for_each(Guard::abandon);
    }

    /// Polls the limits, while the body is pending. Returns the place of one that is over, the
    /// innermost first.
    pub(super) fn poll_limits(&mut self, cx: &mut Context<'_>) -> Option<usize> {
        self.limits_over(|limit| limit.poll_over(cx))
    }

    /// Notes a frame. Returns the place of a limit that was over before it.
    pub(super) fn note_frame(&mut self) -> Option<usize> {
        self.limits_over(Running::is_over_at_frame)
    }

    fn limits_over(&mut self, mut is_over: impl FnMut(&mut Running) -> bool) -> Option<usize> {
        self.guards.iter_mut().position(|guard| match guard {
            Guard::Limit(limit) => is_over(limit),
            _ => false,
        })
    }

    /// Ends everything, because the limit at `place` is over: the guards further in are abandoned,
    /// as the limit drops their body; for those further out, the body failed. The body must have
    /// been dropped.
    pub(super) fn cut(&mut self, place: usize) -> Option<Cut> {
        let mut outer = self.guards.split_off(place).into_iter();
        let limit = outer.next();
        self.abandon();
        let Some(Guard::Limit(limit)) = limit else { return None };
        let cut = limit.time_out();
        outer.for_each(|guard| guard.end(Outcome::Failure));
        Some(cut)
    }

    pub(super) fn push(&mut self, guard: Guard) {
        self.guards.push(guard);
    }

    /// Ends every call of a body that ended cleanly.
    pub(super) fn finish(&mut self, trailers: Option<&HeaderMap>) {
        self.guards.drain(..).for_each(|guard| guard.finish(trailers));
    }

    /// Ends every call of a body that was dropped after all of its data was read. A call whose gRPC
    /// status did not come is abandoned.
    pub(super) fn finish_read(&mut self) {
        for guard in self.guards.drain(..) {
            match guard {
                Guard::Call { grpc: Some(_), .. } => guard.abandon(),
                _ => guard.finish(None),
            }
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("guards", &self.guards.len()).finish()
    }
}
