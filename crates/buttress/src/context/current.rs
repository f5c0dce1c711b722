//! The context of the running task, and its exchange for another.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use super::Context;

thread_local! {
    static CURRENT: RefCell<Context> = const { RefCell::new(Context::new()) };
    /// The deadline of `CURRENT`, in a separate value without a destructor, so that a call reads it in a few
    /// instructions.
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The deadline of the running task.
#[inline]
pub(crate) fn deadline() -> Option<Instant> {
    DEADLINE.with(Cell::get)
}

/// How long a call may wait that begins to wait now: the shorter of `longest` and the time to the deadline.
pub(crate) fn wait_until_deadline(
    longest: Option<Duration>,
    now: impl FnOnce() -> Instant,
) -> Option<Duration> {
    let Some(deadline) = deadline() else { return longest };
    let left = deadline.saturating_duration_since(now());
    Some(longest.map_or(left, |longest| longest.min(left)))
}

/// Calls `f` with the context of the running task, or with an empty one while the thread ends.
pub(super) fn peek<T>(f: impl FnOnce(&Context) -> T) -> T {
    let is_there = CURRENT.try_with(|current| current.try_borrow().is_ok()).unwrap_or(false);
    if is_there { CURRENT.with(|current| f(&current.borrow())) } else { f(&Context::new()) }
}

/// Exchanges the context of the running task and `other`. Returns `false`, and changes nothing, while the thread ends
/// and inside of `peek`.
fn exchange(other: &mut Context) -> bool {
    let exchanged = CURRENT.try_with(|current| {
        let Ok(mut current) = current.try_borrow_mut() else { return false };
        DEADLINE.set(other.deadline);
        std::mem::swap(&mut *current, other);
        true
    });
    exchanged.unwrap_or(false)
}

/// Sets a context as the current one until it is dropped.
pub(super) struct Entered<'a> {
    /// The context from before, which becomes current again after the drop. The thread holds the context that is
    /// current until then.
    before: &'a mut Context,
    exchanged: bool,
}

impl<'a> Entered<'a> {
    /// `context` gets its value back when the result is dropped.
    pub(super) fn new(context: &'a mut Context) -> Self {
        let exchanged = exchange(context);
        Self { before: context, exchanged }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if self.exchanged {
            exchange(self.before);
        }
    }
}
