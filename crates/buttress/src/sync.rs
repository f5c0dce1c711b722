//! Atomics and locks of std, or of loom when the crate is model-checked.
//!
//! The cfg is `buttress_loom` because plain `loom` also switches dependencies such as hyper-util.

pub(crate) mod seqlock;

#[cfg(not(buttress_loom))]
mod imp {
    pub(crate) use std::hint::spin_loop;
    pub(crate) use std::sync::Mutex;
    pub(crate) use std::sync::MutexGuard;
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
}

#[cfg(buttress_loom)]
mod imp {
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
    pub(crate) use loom::sync::{Mutex, MutexGuard};
    // A spinning thread must let the other threads run, or the model never ends.
    pub(crate) use loom::thread::yield_now as spin_loop;
}

pub(crate) use imp::*;

/// Locks, ignoring poison. Every critical section in this crate leaves its data valid at each step,
/// and runs no user code that could panic inside it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Locks if no other thread holds the lock. Ignores poison, as [`lock`] does.
#[cfg(feature = "fast-clock")]
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(std::sync::TryLockError::WouldBlock) => None,
    }
}

/// Runs `work` with a clone of `shared` on another thread of a model.
#[cfg(all(test, buttress_loom))]
pub(crate) fn beside<A: Clone + 'static, R: 'static>(
    shared: &A,
    work: impl FnOnce(A) -> R + 'static,
) -> loom::thread::JoinHandle<R> {
    let shared = shared.clone();
    loom::thread::spawn(move || work(shared))
}
