//! Time limits of store operations.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::vocabulary::clock::Clock;
use crate::vocabulary::store_error::StoreError;

/// Waits for `asking` up to `limit`. Returns `None` if no answer comes by then. The store may still
/// perform the operation.
pub(super) async fn within<T>(
    clock: &Clock,
    limit: Duration,
    asking: impl Future<Output = T>,
) -> Option<T> {
    let mut asking = pin!(asking);
    // Boxed and made only if the store does not answer immediately.
    let mut timer = None;
    poll_fn(|cx| {
        if let Poll::Ready(answer) = asking.as_mut().poll(cx) {
            return Poll::Ready(Some(answer));
        }
        let timer = timer.get_or_insert_with(|| Box::pin(clock.sleep(limit)));
        timer.as_mut().poll(cx).map(|()| None)
    })
    .await
}

/// Returns the error of an operation without an answer within `limit`. The operation may have taken
/// effect.
#[cold]
pub(super) fn no_answer(limit: Duration) -> StoreError {
    StoreError::transient(format!("no answer within {limit:?}"))
}

/// Waits like [`within`]. A missing answer becomes the error of [`no_answer`].
pub(super) async fn bounded<T>(
    clock: &Clock,
    limit: Duration,
    asking: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    within(clock, limit, asking).await.unwrap_or_else(|| Err(no_answer(limit)))
}
