//! Waits for the first of two futures.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Poll, ready};

/// Returns the output of `future`, or `None` if `limit` ends first.
pub(crate) async fn first<F: Future>(
    mut future: Pin<&mut F>,
    mut limit: Pin<&mut (impl Future<Output = ()> + ?Sized)>,
) -> Option<F::Output> {
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        ready!(limit.as_mut().poll(cx));
        Poll::Ready(None)
    })
    .await
}
