use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::shared::Shared;
use crate::machinery::wakers::Owner;
use crate::vocabulary::observe::CircuitState;

/// Completes with the new state when a circuit changes. Made by [`Handle::changed`](super::Handle::changed).
///
/// # Cancel safety
/// Dropping it stops listening. A change between two of these futures is missed; compare
/// [`Handle::generation`](super::Handle::generation) to notice.
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
        // First listen, then look: a change in between is heard.
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
