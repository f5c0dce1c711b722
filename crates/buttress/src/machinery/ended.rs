//! The panic of a future that is polled after it has ended.

/// # Panics
/// Always: `future` was polled again after it had returned `Ready`. A future that returned `Pending` here would
/// never be woken.
#[cold]
#[inline(never)]
#[track_caller]
#[expect(clippy::panic, reason = "polled after completion, the one panic futures may have")]
pub(crate) fn polled_after_completion(future: &'static str) -> ! {
    panic!("`{future}` polled after completion")
}
