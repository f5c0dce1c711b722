use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::shared::Shared;
use crate::machinery::wakers::Owner;
use crate::vocabulary::observe::CircuitState;

/// A future that completes with the new state when a circuit changes.
/// [`Handle::changed`](super::Handle::changed) makes it.
///
/// # Cancel safety
/// Dropping it stops the notification. A change between two of these futures is missed. Compare
/// [`Handle::generation`](super::Handle::generation) to detect it.
#[must_use = "futures do nothing unless polled"]
pub struct Changed {
    shared: Arc<Shared>,
    changes: u32,
    owner: Owner,
}

impl Changed {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let changes = shared.state.changes();
        Self { shared, changes, owner: Owner::default() }
    }
}

impl Future for Changed {
    type Output = CircuitState;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CircuitState> {
        let this = &mut *self;
        // Register first and check afterwards: a change in between is not missed.
        this.shared.wakers.register(&mut this.owner, cx);
        if this.shared.state.changes() == this.changes {
            return Poll::Pending;
        }
        Poll::Ready(this.shared.state.state())
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        self.shared.wakers.forget(&mut self.owner);
    }
}

impl fmt::Debug for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changed").field("state", &self.shared.state.state()).finish_non_exhaustive()
    }
}
