//! Calls code of a user that may panic.

use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A service of the program panicked. The hook of the process has reported where.
#[derive(Debug)]
pub(crate) struct Panicked;

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the service panicked")
    }
}

impl Error for Panicked {}

/// Turns a panic of `run` into an error. What `run` works on must not be used after that, except to drop it.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        // The payload is a value of the service too.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
            std::mem::forget(again);
        }
        Panicked
    })
}

/// Drops a value. A panic of its destructor ends here.
pub(crate) fn discard<T>(value: T) {
    let _panicked = caught(|| drop(value));
}
