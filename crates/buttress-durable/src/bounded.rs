//! [`bounded`]: waits for a store up to a time limit.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use buttress::{Clock, StoreError};

/// Waits for `asking` up to `limit`. After that the store may still carry out the operation.
///
/// # Errors
/// Returns the errors of `asking`, and a transient error after `limit`.
pub(crate) async fn bounded<T>(
    clock: &Clock,
    limit: Duration,
    what: &str,
    asking: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let mut asking = pin!(asking);
    // Boxed, and created when the store is first pending: many stores answer immediately.
    let mut timer = None;
    poll_fn(|cx| {
        if let Poll::Ready(answer) = asking.as_mut().poll(cx) {
            return Poll::Ready(answer);
        }
        let timer = timer.get_or_insert_with(|| Box::pin(clock.sleep(limit)));
        timer.as_mut().poll(cx).map(|()| {
            let millis = limit.as_millis();
            Err(StoreError::transient(format!("{what}: no answer within {millis} ms")))
        })
    })
    .await
}
