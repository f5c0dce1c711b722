//! The turn of sagas that were taken over: a limited number runs concurrently, the oldest first.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use buttress::{Codec, Format};
use tokio::sync::OwnedSemaphorePermit;

use crate::caught::caught;
use crate::saga::error::SagaError;
use crate::saga::model::entry::Entry;
use crate::saga::run::drive::{Control, Run};
use crate::saga::run::shared::Core;
use crate::saga::store::Store;

/// When a saga begins to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::saga) enum Turn {
    /// Immediately: an operator waits for it.
    Now,
    /// When fewer than [`max_resumed`](crate::saga::Config::max_resumed) taken-over sagas run.
    Later,
}

/// The place of a saga that was taken over among those that run concurrently. The run holds it until its end.
#[derive(Debug, Default)]
pub(in crate::saga) struct Place {
    /// Counts the saga, also while it waits for its slot.
    pub counted: Option<Arc<()>>,
    pub slot: Option<OwnedSemaphorePermit>,
}

impl<I, F, St> Run<I, F, St>
where
    I: Send + Sync + 'static,
    F: Codec<I>,
    St: Store<F::Encoded>,
{
    /// Calls [`drive`](Self::drive) when it is the turn of the saga.
    pub(in crate::saga) async fn drive_in_turn(
        mut self,
        first: Vec<Entry<F::Encoded>>,
        turn: Turn,
    ) {
        if turn == Turn::Now {
            return self.drive(first).await;
        }
        let (core, control) = (self.core.clone(), self.control.clone());
        match slot(&core, &control).await {
            Some(slot) => {
                self.turn.slot = Some(slot);
                self.drive(first).await;
            }
            // Nothing of the saga has begun here: another worker resumes it.
            None => {
                if let Some(reply) = self.reply.take() {
                    let _ = reply.send(Err(SagaError::ShutDown { saga: self.id }));
                }
                // It holds values of user code. Their panic must not end the task before the saga
                // is unregistered.
                let _ = caught(|| drop(self));
            }
        }
    }
}

/// Returns a slot to run in; `None` if the executor shuts down before.
async fn slot<I, F: Format, St>(
    core: &Core<I, F, St>,
    control: &Control,
) -> Option<OwnedSemaphorePermit> {
    let mut acquiring = pin!(core.slots.clone().acquire_owned());
    loop {
        let mut notified = pin!(control.notify.notified());
        if core.is_shutting_down() {
            return None;
        }
        let acquired = poll_fn(|cx| match acquiring.as_mut().poll(cx) {
            Poll::Ready(slot) => Poll::Ready(Some(slot)),
            Poll::Pending => notified.as_mut().poll(cx).map(|()| None),
        });
        // Notified of a shutdown or a cancel. The saga sees a cancel when it runs.
        if let Some(slot) = acquired.await {
            return slot.ok();
        }
    }
}
