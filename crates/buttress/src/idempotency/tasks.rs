//! The tasks of detached handlers: their number, and waiting for their end.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::sync::{Mutex, lock};
use crate::vocabulary::error::ErrorKind;

/// The tasks of a layer's detached handlers.
pub(super) struct Tasks {
    max: u32,
    running: Mutex<Running>,
    idle: Notify,
}

struct Running {
    handlers: u32,
    draining: bool,
}

impl Tasks {
    pub(super) fn new(max: u32) -> Self {
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
        if running.handlers >= self.max {
            return Err(ErrorKind::DetachedFull);
        }
        running.handlers += 1;
        Ok(Entered { tasks: self.clone() })
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

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("max", &self.max).finish_non_exhaustive()
    }
}

/// A handler that runs detached. Dropping it releases its place.
pub(super) struct Entered {
    tasks: Arc<Tasks>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let handlers = {
            let mut running = lock(&self.tasks.running);
            running.handlers -= 1;
            running.handlers
        };
        if handlers == 0 {
            self.tasks.idle.notify_waiters();
        }
    }
}
