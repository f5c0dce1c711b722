//! Sliding windows over the outcomes of calls: of the last calls, and of the last time.
//!
//! Both are exact, constant in time and memory at any rate, and lock-free. A window belongs to a
//! *generation* of its owner: outcomes that arrive with another one change nothing.

mod count;
mod streak;
mod time;

pub(crate) use count::{CountWindow, LARGEST_COUNT};
pub(crate) use streak::Streak;
pub(crate) use time::TimeWindow;

/// What one call adds to a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sample {
    pub(crate) failed: bool,
    pub(crate) slow: bool,
}

impl Sample {
    pub(crate) const fn is_good(self) -> bool {
        !self.failed && !self.slow
    }
}

/// What is in a window.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Tally {
    pub(crate) total: u64,
    pub(crate) failed: u64,
    pub(crate) slow: u64,
}

#[cfg(all(test, not(buttress_loom)))]
#[path = "window/tests.rs"]
mod tests;

#[cfg(all(test, buttress_loom))]
#[path = "window/loom_tests.rs"]
mod loom_tests;
