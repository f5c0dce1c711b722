//! [`Unordered`]: many futures polled by one task, each only when it was woken.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Futures that run beside each other on one task. Each wake-up polls those that were woken, not all.
pub(crate) struct Unordered<F> {
    slots: Vec<Slot<F>>,
    free: Vec<usize>,
    woken: Arc<Woken>,
}

struct Slot<F> {
    future: Option<Pin<Box<F>>>,
    /// Kept for the next future of the slot.
    waker: Waker,
    place: Arc<Place>,
}

/// Wakes one slot.
struct Place {
    index: usize,
    /// Whether it stands in the list of the woken.
    queued: AtomicBool,
    woken: Arc<Woken>,
}

#[derive(Default)]
struct Woken {
    /// Guards the list and the waker of the task. Nothing is woken or dropped under it.
    list: Mutex<(Vec<usize>, Option<Waker>)>,
}

impl Woken {
    fn lock(&self) -> MutexGuard<'_, (Vec<usize>, Option<Waker>)> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Place {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Acquire and release with the poll that clears it: what was done before the wake is seen then.
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut list = self.woken.lock();
        list.0.push(self.index);
        let waker = list.1.take();
        drop(list);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<F> Unordered<F> {
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), woken: Arc::default() }
    }

    /// Adds a future. It is polled for the first time by the next [`poll_next`](Self::poll_next).
    pub(crate) fn push(&mut self, future: F) {
        let index = self.free.pop().unwrap_or(self.slots.len());
        if index == self.slots.len() {
            let woken = self.woken.clone();
            let place = Arc::new(Place { index, queued: AtomicBool::new(false), woken });
            self.slots.push(Slot { future: None, waker: place.clone().into(), place });
        }
        if let Some(slot) = self.slots.get_mut(index) {
            slot.future = Some(Box::pin(future));
            slot.place.wake_by_ref();
        }
    }
}

impl<F: Future> Unordered<F> {
    /// The next one that is done: to be called until it is pending, also when there are none at all. At most one
    /// poll for each future that was woken before the call, so that one that wakes itself does not keep
    /// the task for itself.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut list = self.woken.lock();
        match &mut list.1 {
            Some(waker) => waker.clone_from(cx.waker()),
            waker => *waker = Some(cx.waker().clone()),
        }
        let woken = std::mem::take(&mut list.0);
        drop(list);
        let mut woken = woken.into_iter();
        while let Some(index) = woken.next() {
            let Some(slot) = self.slots.get_mut(index) else { continue };
            slot.place.queued.store(false, Ordering::Release);
            let Some(future) = slot.future.as_mut() else { continue };
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&slot.waker))
            {
                slot.future = None;
                self.free.push(index);
                self.woken.lock().0.extend(woken);
                return Poll::Ready(output);
            }
        }
        Poll::Pending
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use tokio::sync::oneshot;

    fn poll<F: Future>(set: &mut Unordered<F>) -> Poll<F::Output> {
        set.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn only_what_was_woken_is_polled() {
        let polls = Arc::new(AtomicUsize::new(0));
        let mut set = Unordered::new();
        let senders: Vec<_> = (0..100)
            .map(|number| {
                let (sender, mut receiver) = oneshot::channel::<()>();
                let polls = polls.clone();
                set.push(async move {
                    std::future::poll_fn(|cx| {
                        polls.fetch_add(1, Ordering::Relaxed);
                        Pin::new(&mut receiver).poll(cx)
                    })
                    .await
                    .map(|()| number)
                });
                sender
            })
            .collect();
        assert!(poll(&mut set).is_pending());
        assert_eq!(polls.load(Ordering::Relaxed), 100);
        for (number, sender) in senders.into_iter().enumerate().rev() {
            sender.send(()).unwrap();
            assert_eq!(poll(&mut set), Poll::Ready(Ok(number)));
        }
        assert_eq!(polls.load(Ordering::Relaxed), 200);
        assert!(poll(&mut set).is_pending());
    }

    #[test]
    fn several_that_are_done_at_once_all_come_out() {
        let mut set = Unordered::new();
        (0..3).for_each(|number| set.push(std::future::ready(number)));
        let mut done = Vec::new();
        while let Poll::Ready(number) = poll(&mut set) {
            done.push(number);
        }
        assert_eq!(done, [0, 1, 2]);
    }

    #[test]
    fn one_that_wakes_itself_gives_the_others_their_turn() {
        let mut set = Unordered::new();
        set.push(std::future::poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        assert!(poll(&mut set).is_pending());
        assert!(poll(&mut set).is_pending());
    }
}
