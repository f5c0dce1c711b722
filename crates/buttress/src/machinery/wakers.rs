//! [`WakerSet`]: tasks that are woken together.

use std::collections::BTreeMap;
use std::task::{Context, Waker};

use crate::sync::{Mutex, lock};

/// A set of wakers, one per owner. Registering again replaces the owner's waker. Waking empties the
/// set.
#[derive(Debug)]
pub(crate) struct WakerSet {
    parked: Mutex<Parked>,
}

#[derive(Debug, Default)]
struct Parked {
    /// In the order of registration, so that the order of wakes is the same in every run.
    wakers: BTreeMap<u64, Waker>,
    next_owner: u64,
}

/// The registration of one owner, kept across polls. [`WakerSet::forget`] removes it.
#[derive(Debug, Default)]
pub(crate) struct Owner(Option<u64>);

impl WakerSet {
    pub(crate) fn new() -> Self {
        Self { parked: Mutex::new(Parked::default()) }
    }

    /// Registers this task for the next [`wake_all`](Self::wake_all). Returns `true` if it was not
    /// registered before. The caller must then check again, because it gets no wake for an earlier
    /// change.
    pub(crate) fn register(&self, owner: &mut Owner, cx: &Context<'_>) -> bool {
        let mut parked = lock(&self.parked);
        let id = *owner.0.get_or_insert_with(|| {
            parked.next_owner += 1;
            parked.next_owner
        });
        let known = parked.wakers.get(&id).map(|waker| waker.will_wake(cx.waker()));
        let replaced = match known {
            Some(true) => None,
            _ => parked.wakers.insert(id, cx.waker().clone()),
        };
        drop(parked);
        // Dropped outside of the lock, because it may be the last reference to a task.
        drop(replaced);
        known.is_none()
    }

    /// Removes a registration, if there is one.
    #[inline]
    pub(crate) fn forget(&self, owner: &mut Owner) {
        if owner.0.is_some() {
            self.remove(owner);
        }
    }

    #[cold]
    fn remove(&self, owner: &mut Owner) {
        if let Some(id) = owner.0.take() {
            let waker = lock(&self.parked).wakers.remove(&id);
            drop(waker);
        }
    }

    pub(crate) fn wake_all(&self) {
        let wakers = std::mem::take(&mut lock(&self.parked).wakers);
        wakers.into_values().for_each(Waker::wake);
    }
}

#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use super::*;
    use crate::sync::{AtomicU32, Ordering, beside};
    use loom::sync::Arc;

    #[derive(Default)]
    struct Woken(std::sync::atomic::AtomicBool);

    impl std::task::Wake for Woken {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }

    #[test]
    fn loom_who_registers_and_sees_no_change_is_woken_by_it() {
        loom::model(|| {
            let shared = Arc::new((AtomicU32::new(0), WakerSet::new()));
            let changer = beside(&shared, move |shared| {
                shared.0.store(1, Ordering::Release);
                shared.1.wake_all();
            });
            let woken = std::sync::Arc::new(Woken::default());
            let waker = Waker::from(woken.clone());
            let mut owner = Owner::default();
            shared.1.register(&mut owner, &Context::from_waker(&waker));
            let seen = shared.0.load(Ordering::Acquire) == 1;
            changer.join().unwrap();
            assert!(seen || woken.0.load(std::sync::atomic::Ordering::SeqCst));
        });
    }
}
