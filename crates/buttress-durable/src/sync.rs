//! Atomics and locks: std's, or loom's when the crate is model-checked.

#[cfg(not(buttress_loom))]
mod imp {
    pub(crate) use std::sync::atomic::{AtomicBool, Ordering};
    pub(crate) use std::sync::{Mutex, MutexGuard};
}

#[cfg(buttress_loom)]
mod imp {
    #[cfg(test)]
    pub(crate) use loom::sync::atomic::AtomicUsize;
    pub(crate) use loom::sync::atomic::{AtomicBool, Ordering};
    pub(crate) use loom::sync::{Mutex, MutexGuard};
}

pub(crate) use imp::*;

/// Locks a mutex, ignoring poison. Every critical section leaves its data valid at each step and
/// runs no user code.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
