//! Detects a layer that waits on tokio's clock without a tokio runtime.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};

/// Runs `poll`. If it panics because code waits on tokio's clock, panics with a message that names
/// the missing clock.
#[inline]
pub(super) fn named<T>(poll: impl FnOnce() -> T) -> T {
    // The panic continues in any case, so the unfinished state cannot be observed.
    match catch_unwind(AssertUnwindSafe(poll)) {
        Ok(polled) => polled,
        Err(panic) => fail(panic),
    }
}

#[cold]
fn fail(panic: Box<dyn Any + Send>) -> ! {
    let words = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(words), _) => words,
        (None, Some(words)) => words.as_str(),
        (None, None) => "",
    };
    if !words.contains("there is no reactor running") {
        resume_unwind(panic);
    }
    #[expect(clippy::panic, reason = "the panic of the code under test, in other words")]
    panic_any(
        "a part of the stack waits on tokio's clock or starts a task of tokio, and neither runs in a \
         simulation: give its Config the clock of the run, .clock(world.clock()), and if it starts \
         tasks its spawner, .spawner(world.spawner())"
            .to_owned(),
    )
}
