/// # Panics
/// Always: `future` was polled again after it had returned `Ready`. A future that returned `Pending` here would
/// never be woken.
#[cold]
#[expect(clippy::panic, reason = "polled after completion, the one panic futures may have")]
pub(super) fn polled_after_completion(future: &'static str) -> ! {
    panic!("`{future}` polled after completion")
}
