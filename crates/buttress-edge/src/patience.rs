//! [`Patience`]: a limit for a wait without progress.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use buttress::{Clock, Sleep};

/// The longest time that something waits without progress. The timer is made by the first wait.
pub(crate) struct Patience {
    limit: Duration,
    clock: Clock,
    sleep: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
}

impl Patience {
    pub(crate) fn new(limit: Duration, clock: Clock) -> Self {
        Self { limit, clock, sleep: None, is_waiting: false }
    }

    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// Notes progress. The time of the next wait begins with its first poll.
    pub(crate) fn progress(&mut self) {
        self.is_waiting = false;
    }

    /// Ready when the wait has taken the limit.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
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
        sleep.as_mut().poll(cx)
    }
}
