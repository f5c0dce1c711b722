//! [`Alive`]: what a handle sees of the task that it belongs to.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use buttress::StoreError;
use tokio::sync::{oneshot, watch};

use crate::Answer;

/// Sees the end of a task. The task holds the sender, and drops it last.
#[derive(Clone)]
pub(crate) struct Alive(watch::Receiver<()>);

impl Alive {
    pub(crate) fn of(task: &watch::Sender<()>) -> Self {
        Self(task.subscribe())
    }

    /// Returns `true` once the task has ended, or was dropped.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.has_changed().is_err()
    }

    /// Waits until the task has ended, or was dropped.
    pub(crate) async fn ended(&self) {
        let mut alive = self.0.clone();
        while alive.changed().await.is_ok() {}
    }

    /// Sends a request to the task with `ask`, and waits for the answer.
    ///
    /// # Errors
    /// Returns the error of the answer, and `ended` if the task ends before it answers.
    pub(crate) async fn answer<T>(
        &self,
        ask: impl FnOnce(oneshot::Sender<Answer<T>>),
        ended: impl Fn() -> StoreError,
    ) -> Answer<T> {
        if self.has_ended() {
            return Err(ended());
        }
        let (answer, answered) = oneshot::channel();
        ask(answer);
        let (mut answered, mut gone) = (pin!(answered), pin!(self.ended()));
        poll_fn(|cx| {
            if let Poll::Ready(answer) = answered.as_mut().poll(cx) {
                return Poll::Ready(answer.unwrap_or_else(|_| Err(ended())));
            }
            gone.as_mut().poll(cx).map(|()| Err(ended()))
        })
        .await
    }
}
