//! The panic of a future that is polled after its end.

/// Panics with the name of a future that was polled after it had returned `Ready`.
///
/// # Panics
/// Always. A future that returned `Pending` instead would never be woken.
#[cold]
#[inline(never)]
#[track_caller]
#[expect(clippy::panic, reason = "polled after completion, the one panic futures may have")]
pub(crate) fn polled_after_completion(future: &'static str) -> ! {
    panic!("`{future}` polled after completion")
}
