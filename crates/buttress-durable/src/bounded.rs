//! [`bounded`] and [`asking`]: a store that does not answer, and a store that panics, are transient errors.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use buttress::{Clock, StoreError};

use crate::caught::{catching, caught};

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

/// Asks a store, whose code is user code.
///
/// # Errors
/// Returns the errors of the store, and a transient error if it panics.
pub(crate) async fn asking<T, F>(what: &str, ask: impl FnOnce() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let asking = caught(ask).map_err(|panic| panicked(what, &panic))?;
    catching(pin!(asking)).await.unwrap_or_else(|panic| Err(panicked(what, &panic)))
}

/// Returns the error of a store that panicked.
fn panicked(what: &str, panic: &str) -> StoreError {
    StoreError::transient(format!("{what}: the store {panic}"))
}
