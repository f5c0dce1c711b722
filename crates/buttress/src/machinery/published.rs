//! [`Published`]: a value that is replaced as a whole, and that readers keep without a lock.

use std::fmt;
use std::sync::Arc;
use std::task::Context;

use super::wakers::{Owner, WakerSet};
use crate::sync::{AtomicU64, Mutex, Ordering, lock};

/// A value behind a lock, and its generation in a separate word. A reader keeps the value that it has [`Seen`], and
/// compares the word.
pub(crate) struct Published<T> {
    generation: AtomicU64,
    current: Mutex<Seen<T>>,
    wakers: WakerSet,
}

/// A value with its generation, as one reader has seen it.
pub(crate) struct Seen<T> {
    generation: u64,
    value: Arc<T>,
}

impl<T> Published<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            generation: AtomicU64::new(0),
            current: Mutex::new(Seen { generation: 0, value: Arc::new(value) }),
            wakers: WakerSet::new(),
        }
    }

    /// Replaces the value, and returns the old one, which the caller drops after it has released its locks. The
    /// caller calls [`wake`](Self::wake) then.
    #[must_use = "the old value is dropped outside of every lock"]
    pub(crate) fn publish(&self, value: T) -> Arc<T> {
        let mut current = lock(&self.current);
        let old = std::mem::replace(&mut current.value, Arc::new(value));
        current.generation += 1;
        // Inside the lock, so that the word never names a value that cannot be read. Release pairs with the Acquire
        // in `is_current`.
        self.generation.store(current.generation, Ordering::Release);
        old
    }

    /// Wakes the readers that wait for a new value.
    pub(crate) fn wake(&self) {
        self.wakers.wake_all();
    }

    /// Returns `true` if `seen` is the current value.
    #[inline(always)]
    pub(crate) fn is_current(&self, seen: &Seen<T>) -> bool {
        self.generation.load(Ordering::Acquire) == seen.generation
    }

    /// Returns the current value.
    pub(crate) fn see(&self) -> Seen<T> {
        lock(&self.current).clone()
    }

    /// Registers this task for the next [`wake`](Self::wake), and then returns `true` if `seen` is still the present
    /// value. A change after the comparison finds the waker, and a change before it is seen.
    pub(crate) fn wait(&self, owner: &mut Owner, cx: &Context<'_>, seen: &Seen<T>) -> bool {
        self.wakers.register(owner, cx);
        self.is_current(seen)
    }

    /// Removes the registration of a task that no longer waits.
    pub(crate) fn forget(&self, owner: &mut Owner) {
        self.wakers.forget(owner);
    }
}

impl<T> Seen<T> {
    #[inline(always)]
    pub(crate) fn value(&self) -> &Arc<T> {
        &self.value
    }
}

impl<T> Clone for Seen<T> {
    fn clone(&self) -> Self {
        Self { generation: self.generation, value: self.value.clone() }
    }
}

impl<T> fmt::Debug for Published<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Published").field("generation", &self.generation).finish_non_exhaustive()
    }
}

#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use std::task::{Wake, Waker};

    use super::*;
    use crate::sync::beside;
    use loom::sync::Arc as LoomArc;

    #[derive(Default)]
    struct Woken(std::sync::atomic::AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }

    #[test]
    fn loom_edge_5_13_who_waits_and_sees_no_change_is_woken_by_it() {
        loom::model(|| {
            let published = LoomArc::new(Published::new(0));
            let changer = beside(&published, move |published| {
                drop(published.publish(1));
                published.wake();
            });
            let seen = published.see();
            let woken = Arc::new(Woken::default());
            let waker = Waker::from(woken.clone());
            let waits = published.wait(&mut Owner::default(), &Context::from_waker(&waker), &seen);
            changer.join().unwrap();
            let changed = **seen.value() == 1 || !waits;
            assert!(changed || woken.0.load(std::sync::atomic::Ordering::SeqCst));
        });
    }

    #[test]
    fn loom_a_generation_and_its_value_are_seen_together() {
        loom::model(|| {
            let published = LoomArc::new(Published::new(0));
            let changer = beside(&published, move |published| drop(published.publish(1)));
            let seen = published.see();
            assert_eq!(seen.generation, **seen.value());
            if !published.is_current(&seen) {
                assert_eq!(**published.see().value(), 1);
            }
            changer.join().unwrap();
            assert!(!published.is_current(&seen) || **seen.value() == 1);
        });
    }
}
