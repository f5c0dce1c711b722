//! Calls of user code: their panics are caught, and an event may cut them short.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

/// Runs user code. Turns its panic into an error with the panic's message.
pub(crate) fn caught<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let text = format!("panicked: {}", text.unwrap_or("no message"));
        // The payload of the panic is a value of user code too.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
            std::mem::forget(again);
        }
        text
    })
}

/// Waits for `call`, whose polls are user code. Turns a panic into an error, as [`caught`] does. `call` must not
/// be polled after that.
///
/// Takes `call` by reference, as [`unless`] does, because a future that holds another one needs the room of both.
pub(crate) fn catching<F: Future>(
    mut call: Pin<&mut F>,
) -> impl Future<Output = Result<F::Output, String>> {
    poll_fn(move |cx| match caught(|| call.as_mut().poll(cx)) {
        Ok(polled) => polled.map(Ok),
        Err(why) => Poll::Ready(Err(why)),
    })
}

/// Waits for `call`, unless `end` is ready first. Each poll asks `call` first, so an answer that is there at the
/// same moment wins. `end` may also let other work progress while `call` is pending.
pub(crate) fn unless<F: Future, E>(
    mut call: Pin<&mut F>,
    mut end: impl FnMut(&mut Context<'_>) -> Poll<E>,
) -> impl Future<Output = Result<F::Output, E>> {
    poll_fn(move |cx| match call.as_mut().poll(cx) {
        Poll::Ready(answer) => Poll::Ready(Ok(answer)),
        Poll::Pending => end(cx).map(Err),
    })
}

/// Waits for `call` as [`catching`] does, and drops it. The drop is user code: its panic does not replace the output.
pub(crate) async fn finishing<F: Future>(call: F) -> Result<F::Output, String> {
    let mut call = pin!(Some(call));
    let output = poll_fn(|cx| match call.as_mut().as_pin_mut() {
        Some(call) => match caught(|| call.poll(cx)) {
            Ok(polled) => polled.map(Ok),
            Err(why) => Poll::Ready(Err(why)),
        },
        None => unreachable!("`finishing` polled after completion"),
    });
    let output = output.await;
    let _panic = caught(|| call.set(None));
    output
}
