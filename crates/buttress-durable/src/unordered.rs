//! [`Unordered`]: many futures that one task polls, each only after a wake-up.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use crate::caught::caught;
use crate::sync::{AtomicBool, Mutex, Ordering, lock};

/// Futures that run concurrently on one task. A wake-up polls only the futures that were woken.
pub(crate) struct Unordered<F: ?Sized> {
    slots: Vec<Slot<F>>,
    free: Vec<usize>,
    /// Slots that are polled next: they are new, or were taken out of the list of woken slots.
    turn: VecDeque<usize>,
    woken: Arc<Woken>,
}

struct Slot<F: ?Sized> {
    future: Option<Pin<Box<F>>>,
    /// Kept for the next future of the slot.
    waker: Waker,
    place: Arc<Place>,
}

/// Wakes one slot.
struct Place {
    index: usize,
    /// Whether the slot is in the list of woken slots, or has its turn.
    queued: AtomicBool,
    woken: Arc<Woken>,
}

/// The list of woken slots, and the waker of the task. No waker is called or dropped under this
/// lock.
type Woken = Mutex<(VecDeque<usize>, Option<Waker>)>;

impl Wake for Place {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Acquire and release, like the poll that clears the flag: the poll then sees the work
        // before the wake-up.
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut list = lock(&self.woken);
        list.0.push_back(self.index);
        let waker = list.1.take();
        drop(list);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<F: ?Sized> Unordered<F> {
    pub(crate) fn new() -> Self {
        let woken = Arc::new(Mutex::new((VecDeque::new(), None)));
        Self { slots: Vec::new(), free: Vec::new(), turn: VecDeque::new(), woken }
    }

    /// Adds a future. The caller calls [`poll_next`](Self::poll_next) before it waits: a new future wakes no task.
    pub(crate) fn push(&mut self, future: Pin<Box<F>>) {
        let index = self.free.pop().unwrap_or(self.slots.len());
        if index == self.slots.len() {
            let woken = self.woken.clone();
            let place = Arc::new(Place { index, queued: AtomicBool::new(false), woken });
            self.slots.push(Slot { future: None, waker: place.clone().into(), place });
        }
        if let Some(slot) = self.slots.get_mut(index) {
            slot.future = Some(future);
            // The waker of an earlier future of the slot may have queued it already.
            if !slot.place.queued.swap(true, Ordering::AcqRel) {
                self.turn.push_back(index);
            }
        }
    }

    /// Drops all futures. Their drops are user code: a panic gets no further, and stops the drop of no other future.
    pub(crate) fn clear(&mut self) {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if let Some(future) = slot.future.take() {
                let _panic = caught(|| drop(future));
                self.free.push(index);
            }
        }
    }

    /// Makes the next [`poll_next`](Self::poll_next) poll every future.
    pub(crate) fn wake_all(&self) {
        for slot in self.slots.iter().filter(|slot| slot.future.is_some()) {
            slot.place.wake_by_ref();
        }
    }
}

impl<F: ?Sized> Drop for Unordered<F> {
    fn drop(&mut self) {
        self.clear();
    }
}

impl<F: Future + ?Sized> Unordered<F> {
    /// Polls the woken futures, and returns the output of one that is done. The caller repeats the
    /// call until it is pending, also for an empty set. Polls each future at most once per call, so
    /// that a future that wakes itself does not occupy the task.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut list = lock(&self.woken);
        match &mut list.1 {
            Some(waker) => waker.clone_from(cx.waker()),
            waker => *waker = Some(cx.waker().clone()),
        }
        self.turn.append(&mut list.0);
        drop(list);
        while let Some(index) = self.turn.pop_front() {
            let Some(slot) = self.slots.get_mut(index) else { continue };
            // A swap, because a waker that finds the flag set relies on this poll to see its work.
            slot.place.queued.swap(false, Ordering::AcqRel);
            let Some(future) = slot.future.as_mut() else { continue };
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&slot.waker))
            {
                let future = slot.future.take();
                let _panic = caught(|| drop(future));
                self.free.push(index);
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

    fn poll<F: Future + ?Sized>(set: &mut Unordered<F>) -> Poll<F::Output> {
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
                set.push(Box::pin(async move {
                    std::future::poll_fn(|cx| {
                        polls.fetch_add(1, Ordering::Relaxed);
                        Pin::new(&mut receiver).poll(cx)
                    })
                    .await
                    .map(|()| number)
                }));
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
        (0..3).for_each(|number| set.push(Box::pin(std::future::ready(number))));
        let mut done = Vec::new();
        while let Poll::Ready(number) = poll(&mut set) {
            done.push(number);
        }
        assert_eq!(done, [0, 1, 2]);
    }

    #[test]
    fn a_wake_up_beside_a_new_future_is_not_lost() {
        let mut set = Unordered::<dyn Future<Output = u32>>::new();
        let (sender, receiver) = oneshot::channel();
        set.push(Box::pin(async { receiver.await.unwrap() }));
        assert!(poll(&mut set).is_pending());
        sender.send(1).unwrap();
        set.push(Box::pin(std::future::pending()));
        assert_eq!(poll(&mut set), Poll::Ready(1));
        assert!(poll(&mut set).is_pending());
        set.push(Box::pin(std::future::ready(2)));
        assert_eq!(poll(&mut set), Poll::Ready(2));
    }

    #[test]
    fn one_that_wakes_itself_gives_the_others_their_turn() {
        let mut set = Unordered::new();
        set.push(Box::pin(std::future::poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        })));
        assert!(poll(&mut set).is_pending());
        assert!(poll(&mut set).is_pending());
    }
}

#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use super::*;
    use crate::sync::AtomicUsize;

    #[derive(Default)]
    struct Task(std::sync::atomic::AtomicBool);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }

    /// The poll once cleared the flag with a plain store. It could then miss the work of a waker
    /// that found the flag set.
    #[test]
    fn loom_a_wake_during_the_poll_is_not_lost() {
        loom::model(|| {
            let done = loom::sync::Arc::new(AtomicUsize::new(0));
            let wakers = Arc::new(std::sync::Mutex::new(None));
            let mut set = Unordered::new();
            set.push({
                let (done, wakers) = (done.clone(), wakers.clone());
                Box::pin(std::future::poll_fn(move |cx| {
                    *wakers.lock().unwrap() = Some(cx.waker().clone());
                    if done.load(Ordering::Acquire) == 1 { Poll::Ready(()) } else { Poll::Pending }
                }))
            });
            let task = Arc::new(Task::default());
            let waker = Waker::from(task.clone());
            let mut cx = Context::from_waker(&waker);
            assert!(set.poll_next(&mut cx).is_pending());
            let slot: Waker = wakers.lock().unwrap().clone().unwrap();
            // A first wake-up without a change, so that the future is polled while the change
            // happens.
            slot.wake_by_ref();
            task.0.store(false, std::sync::atomic::Ordering::SeqCst);
            let thread = loom::thread::spawn(move || {
                done.store(1, Ordering::Release);
                slot.wake_by_ref();
            });
            if set.poll_next(&mut cx).is_ready() {
                thread.join().unwrap();
                return;
            }
            thread.join().unwrap();
            assert!(task.0.load(std::sync::atomic::Ordering::SeqCst), "the task is woken again");
            assert!(set.poll_next(&mut cx).is_ready());
        });
    }
}
