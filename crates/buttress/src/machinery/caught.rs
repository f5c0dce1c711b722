//! Calls of user code whose panic is a result.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll};

/// The value of a panic.
pub(crate) type Panic = Box<dyn Any + Send>;

/// Runs user code. Returns `None` if it panics.
pub(crate) fn caught<T>(code: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(code)).map_err(discard).ok()
}

/// Drops the value of a panic. It is a value of user code too: if its drop panics, the second value is forgotten.
#[cold]
pub(crate) fn discard(panic: Panic) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
}

/// Waits for `future`, which is user code, or for `end`. Returns `None` if `end` is ready first, and the panic of
/// `future` in place of its output. Then drops `future`. A panic of the drop changes nothing.
pub(crate) async fn catching<F: Future>(
    future: F,
    mut end: impl FnMut(&mut Context<'_>) -> Poll<()>,
) -> Option<Result<F::Output, Panic>> {
    let mut slot = pin!(Some(future));
    let ended = poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| {
            slot.as_mut().as_pin_mut().map_or(Poll::Pending, |future| future.poll(cx))
        }));
        match polled {
            Ok(Poll::Ready(output)) => Poll::Ready(Some(Ok(output))),
            Ok(Poll::Pending) => end(cx).map(|()| None),
            Err(panic) => Poll::Ready(Some(Err(panic))),
        }
    })
    .await;
    let _drop = caught(|| slot.set(None));
    ended
}
