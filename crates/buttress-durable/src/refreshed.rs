//! [`Refreshed`]: the last numbers that a monitor has read from a store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::answer::Answer;

/// The last numbers that a monitor has read, and how many refreshes failed.
#[derive(Debug)]
pub(crate) struct Refreshed<T> {
    /// `None` before the first refresh that succeeds.
    last: Mutex<Option<T>>,
    failed: AtomicU64,
}

impl<T> Default for Refreshed<T> {
    fn default() -> Self {
        Self { last: Mutex::new(None), failed: AtomicU64::new(0) }
    }
}

impl<T: Copy> Refreshed<T> {
    /// Takes in the answer of a store. A failure keeps the last numbers.
    pub(crate) fn take_in(&self, answer: Answer<T>) -> Result<(), String> {
        let numbers = answer.map_err(|error| {
            self.failed.fetch_add(1, Ordering::Relaxed);
            error.to_string()
        })?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(numbers);
        Ok(())
    }

    pub(crate) fn last(&self) -> Option<T> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}
