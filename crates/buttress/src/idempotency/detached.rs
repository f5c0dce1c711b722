//! Handlers on separate tasks: their number, and waiting for their end.

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::Notify;

use super::shared::Shared;
use crate::context::Context as RequestContext;
use crate::sync::{Mutex, lock};
use crate::vocabulary::error::{Error, ErrorKind};

/// The handlers of a layer that run detached.
pub(super) struct Detached {
    /// `None` if handlers run with their callers.
    pub(super) max: Option<u32>,
    running: Mutex<Running>,
    idle: Notify,
}

struct Running {
    handlers: u32,
    draining: bool,
}

impl Detached {
    pub(super) fn new(max: Option<u32>) -> Self {
        let running = Mutex::new(Running { handlers: 0, draining: false });
        Self { max, running, idle: Notify::new() }
    }

    pub(super) fn running(&self) -> u32 {
        lock(&self.running).handlers
    }

    /// Returns a place for one more handler, or the reason why there is none.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Entered, ErrorKind> {
        let mut running = lock(&self.running);
        if running.draining {
            return Err(ErrorKind::ShuttingDown);
        }
        if running.handlers >= self.max.unwrap_or(u32::MAX) {
            return Err(ErrorKind::DetachedFull);
        }
        running.handlers += 1;
        Ok(Entered { detached: self.clone() })
    }

    /// Admits no further handler, and waits for the running ones.
    pub(super) async fn drain(&self) {
        lock(&self.running).draining = true;
        loop {
            let mut idle = pin!(self.idle.notified());
            // Registered before the check, so that an end in between is not missed.
            idle.as_mut().enable();
            if self.running() == 0 {
                return;
            }
            idle.await;
        }
    }
}

impl fmt::Debug for Detached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detached").field("max", &self.max).finish_non_exhaustive()
    }
}

/// A handler that runs detached. Dropping it releases its place.
pub(super) struct Entered {
    detached: Arc<Detached>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let handlers = {
            let mut running = lock(&self.detached.running);
            running.handlers -= 1;
            running.handlers
        };
        if handlers == 0 {
            self.detached.idle.notify_waiters();
        }
    }
}

/// Runs a handler on a separate task, and waits for it. The task has the context of the caller, but not its deadline: the
/// handler must end although the caller has left.
pub(super) async fn detach<V, A: Send + 'static>(
    shared: &Shared<V>,
    entered: Entered,
    running: impl Future<Output = Result<A, Error>> + Send + 'static,
) -> Result<A, Error> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let context = RequestContext::current().without_deadline();
    let spawned = shared.spawn(context.scope(async move {
        let ended = caught(running).await;
        drop(entered);
        // The caller may have dropped the call.
        drop(sender.send(ended));
    }));
    match receiver.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        // The task was dropped together with its runtime, or never began.
        Err(_) => {
            let refused = shared.refuse(ErrorKind::ShuttingDown, None);
            Err(if spawned { refused.after_an_attempt() } else { refused })
        }
    }
}

/// Returns the output of `future`, or its panic.
async fn caught<F: Future>(future: F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}
