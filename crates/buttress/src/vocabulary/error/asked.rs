//! Finds our error in a boxed error that may borrow. Such a box has no type for a downcast.
//!
//! Only `source` leads from such a box to an error with a type. `find` calls it while a flag of
//! this thread is set. While the flag is set, our error returns itself as its source. A box with
//! our error in it therefore returns that error. So does a transparent wrapper, which returns the
//! source of the wrapped error.

use std::cell::Cell;
use std::error::Error as StdError;
use std::ptr;

use super::Error;

thread_local! {
    /// `None` unless `find` runs on this thread. Then the error that answered, or null if none has
    /// answered yet.
    static ASKED: Cell<Option<*const Error>> = const { Cell::new(None) };
}

/// Restores the flag, also when a foreign `source` panics.
struct Reset(Option<*const Error>);

impl Drop for Reset {
    fn drop(&mut self) {
        // A thread that ends has no flag any more, and nothing to restore.
        let _ = ASKED.try_with(|asked| asked.set(self.0));
    }
}

/// Returns the error of ours that answered for its own source. An error that `source` returns
/// without having answered is the source of some other error, which is not a refusal.
pub(crate) fn find<'e>(
    source: impl FnOnce() -> Option<&'e (dyn StdError + 'static)>,
) -> Option<&'e Error> {
    let reset = Reset(ASKED.try_with(|asked| asked.replace(Some(ptr::null()))).ok()?);
    let found = source()?.downcast_ref::<Error>();
    let answered = ASKED.try_with(Cell::get).ok()??;
    drop(reset);
    found.filter(|found| ptr::eq(*found, answered))
}

/// Returns our error as its own source while `find` runs, and `None` otherwise.
pub(super) fn answer(error: &Error) -> Option<&(dyn StdError + 'static)> {
    let asked = ASKED.try_with(|asked| asked.get().map(|_| asked.set(Some(error))));
    asked.ok()??;
    Some(error)
}
