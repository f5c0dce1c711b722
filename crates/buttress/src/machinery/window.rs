//! Sliding windows over the outcomes of calls: the last calls, or the calls of the last time span.
//!
//! Both are exact and lock-free, with constant time and memory at any rate. A window belongs to a
//! *generation* of its owner: outcomes of another generation change nothing.

mod count;
mod streak;
mod time;

pub(crate) use count::{CountWindow, LARGEST_COUNT};
pub(crate) use streak::{LONGEST as LONGEST_STREAK, Streak};
pub(crate) use time::TimeWindow;

/// The bits of a ticket that mark a call with more than its outcome to count. No word of a window
/// has these bits set, so that such a ticket never equals the ticket of a clear window.
pub(crate) const CALLS_NOT_COUNTED: u64 = 0b11 << 30;

/// The contribution of one call to a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sample {
    pub failed: bool,
    pub slow: bool,
}

impl Sample {
    pub(crate) const fn is_good(self) -> bool {
        !self.failed && !self.slow
    }
}

/// The numbers in a window.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Tally {
    pub total: u64,
    pub failed: u64,
    pub slow: u64,
}

/// Windows with their own word, for the tests.
#[cfg(test)]
mod alone {
    use super::{CountWindow, Sample, Streak, Tally};
    use crate::sync::AtomicU64;

    pub(super) struct Calls {
        sums: AtomicU64,
        window: CountWindow,
    }

    impl Calls {
        pub(super) fn new(size: u32) -> Self {
            Self { sums: AtomicU64::new(CountWindow::empty()), window: CountWindow::new(size) }
        }

        pub(super) fn record(&self, generation: u32, sample: Sample) -> Option<Tally> {
            self.window.record(&self.sums, generation, sample)
        }

        pub(super) fn reset(&self, generation: u32) {
            self.window.reset(&self.sums, generation);
        }

        pub(super) fn snapshot(&self) -> Tally {
            self.window.snapshot(&self.sums)
        }
    }

    pub(super) struct Failures(AtomicU64);

    impl Failures {
        pub(super) fn new() -> Self {
            Self(AtomicU64::new(0))
        }

        pub(super) fn record(&self, generation: u32, failed: bool) -> Option<Tally> {
            Streak::record(&self.0, generation, failed)
        }

        #[cfg(not(buttress_loom))]
        pub(super) fn reset(&self, generation: u32) {
            Streak::reset(&self.0, generation);
        }

        pub(super) fn snapshot(&self) -> Tally {
            Streak::snapshot(&self.0)
        }
    }
}

#[cfg(all(test, not(buttress_loom)))]
#[path = "window/tests.rs"]
mod tests;

#[cfg(all(test, buttress_loom))]
#[path = "window/loom_tests.rs"]
mod loom_tests;
