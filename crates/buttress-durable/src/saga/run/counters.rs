//! The counters of an executor.

use std::sync::atomic::{AtomicU64, Ordering};

/// The name of a counter.
#[derive(Clone, Copy, Debug)]
pub(in crate::saga) enum Counter {
    Started,
    Resumed,
    Woken,
    Signalled,
    Completed,
    Compensated,
    Stuck,
    Fenced,
    Executed,
    Failed,
    Undone,
    UndoFailed,
    StoreFailed,
}

/// The counters of an executor. They only grow.
#[derive(Debug, Default)]
pub(in crate::saga) struct Counters([AtomicU64; Counter::StoreFailed as usize + 1]);

impl Counters {
    pub(in crate::saga) fn add(&self, which: Counter) {
        if let Some(counter) = self.0.get(which as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(in crate::saga) fn sum(&self, which: Counter) -> u64 {
        self.0.get(which as usize).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }
}
