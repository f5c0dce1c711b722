//! The wait for the head of an answer.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Instant;

use buttress::context::Context;

use super::Forwarder;
use super::outgoing::Outgoing;
use crate::answer::Failed;

/// An answer that did not come in time.
pub(super) struct Late {
    /// Which side was waited for.
    pub failed: Failed,
    /// Whether the deadline of the request has ended the wait, and no limit of the proxy.
    pub is_overdue: bool,
}

impl Forwarder {
    /// Waits for the head of an answer, within the limits of the proxy and the deadline of the context.
    pub(super) async fn in_time<F: Future + ?Sized>(
        &self,
        mut answer: Pin<&mut F>,
        start: Instant,
        progress: &Outgoing,
    ) -> Result<F::Output, Late> {
        let deadline = Context::deadline();
        let mut sleep = pin!(None);
        // When `sleep` ends.
        let mut end = start;
        poll_fn(|cx| {
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(Ok(answer));
            }
            loop {
                let own = progress.due(start, self.head, self.idle, cx.waker());
                // A limit beyond the end of time is none.
                let Some(due) = [own, deadline].into_iter().flatten().min() else {
                    return Poll::Pending;
                };
                match sleep.as_mut().as_pin_mut() {
                    None => sleep.set(Some(self.clock.sleep_until(due))),
                    // The body has made progress since the timer was set.
                    Some(timer) if due != end => buttress::Sleep::reset(timer, due),
                    Some(timer) => {
                        if timer.poll(cx).is_pending() {
                            return Poll::Pending;
                        }
                        let is_overdue = own.is_none_or(|own| due < own);
                        return Poll::Ready(Err(Late { failed: progress.late(), is_overdue }));
                    }
                }
                end = due;
            }
        })
        .await
    }
}
