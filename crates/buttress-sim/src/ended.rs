//! The panic of a future that is polled after it has ended.

/// # Panics
/// Always: a caller polled `future` again after it had returned `Ready`. A future that returned
/// `Pending` here would never wake its task.
#[cold]
#[expect(clippy::panic, reason = "polled after completion, the one panic futures may have")]
pub(crate) fn polled_after_completion(future: &str) -> ! {
    panic!("`{future}` polled after completion")
}
