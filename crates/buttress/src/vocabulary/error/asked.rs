//! How our error is found in a boxed error that may borrow, and so has no type to ask for.
//!
//! Only `source` leads from such a box to an error with a type. It is asked while a flag of this thread is
//! set; while it is, our error is its own source. So a box with our error in it answers with that error,
//! and so does a transparent wrapper, whose source is that of what it wraps.

use std::cell::Cell;
use std::error::Error as StdError;
use std::ptr;

use super::Error;

thread_local! {
    /// `None` unless a box is being asked. The error that answered, or null if none did yet.
    static ASKED: Cell<Option<*const Error>> = const { Cell::new(None) };
}

/// Sets the flag back to what it was, also when a foreign `source` panics.
struct Reset(Option<*const Error>);

impl Drop for Reset {
    fn drop(&mut self) {
        // Without the flag, which a thread that ends has no more, there is nothing to set back.
        let _ = ASKED.try_with(|asked| asked.set(self.0));
    }
}

/// The error of ours that `source` returns because it answered. One that is returned without having been
/// asked is the source of some other error, which is no refusal.
pub(crate) fn find<'e>(
    source: impl FnOnce() -> Option<&'e (dyn StdError + 'static)>,
) -> Option<&'e Error> {
    let reset = Reset(ASKED.try_with(|asked| asked.replace(Some(ptr::null()))).ok()?);
    let found = source()?.downcast_ref::<Error>();
    let answered = ASKED.try_with(Cell::get).ok()??;
    drop(reset);
    found.filter(|found| ptr::eq(*found, answered))
}

/// What our error says when it is asked for its source: itself, while a box is being asked.
pub(super) fn answer(error: &Error) -> Option<&(dyn StdError + 'static)> {
    let asked = ASKED.try_with(|asked| asked.get().map(|_| asked.set(Some(error))));
    asked.ok()??;
    Some(error)
}
