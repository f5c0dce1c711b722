use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::core::Core;
use super::failure::{Failure, ServerError};
use super::service::Served;
use super::state::Arrival;
use crate::ended::polled_after_completion;

/// The response of a [`Station`](super::Station). Dropping it disconnects the caller:
/// [`Leave`](super::Leave) sets the effect on the job.
#[must_use = "futures do nothing unless polled"]
pub struct StationFuture {
    call: Call,
}

enum Call {
    Refused(ServerError),
    /// The call is never answered.
    Swallowed,
    Job {
        core: Arc<Core>,
        slot: u32,
    },
    Over,
}

impl StationFuture {
    pub(super) fn new(core: &Arc<Core>, arrival: Arrival) -> Self {
        let call = match arrival {
            Arrival::Refused(error) => Call::Refused(error),
            Arrival::Swallowed => Call::Swallowed,
            Arrival::Job { slot } => Call::Job { core: core.clone(), slot },
        };
        Self { call }
    }
}

impl Future for StationFuture {
    type Output = Result<Served, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = match &self.call {
            Call::Refused(error) => Err(*error),
            // The answer to a swallowed request never arrives.
            Call::Swallowed => return Poll::Pending,
            Call::Over => polled_after_completion("StationFuture"),
            Call::Job { core, slot } => match core.poll(*slot, cx.waker()) {
                Some(result) => result,
                None => return Poll::Pending,
            },
        };
        self.call = Call::Over;
        Poll::Ready(result.map_err(Failure::Server))
    }
}

impl Drop for StationFuture {
    fn drop(&mut self) {
        if let Call::Job { core, slot } = &self.call {
            core.leave(*slot);
        }
    }
}

impl fmt::Debug for StationFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.call {
            Call::Refused(_) => "refused",
            Call::Swallowed => "swallowed",
            Call::Job { .. } => "under way",
            Call::Over => "over",
        };
        f.debug_tuple("StationFuture").field(&state).finish()
    }
}
