//! Which tasks are ready, in the order in which they became so.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Wake;

use buttress::Task;

/// An entry of `ready` that stands for the next of `spawned`.
pub(super) const SPAWNED: u32 = u32::MAX;

/// What has become ready: slots, and new tasks.
#[derive(Default)]
pub(super) struct Ready {
    pub(super) ready: Vec<u32>,
    pub(super) spawned: Vec<Task>,
}

impl Ready {
    fn spawn(&mut self, task: Task) {
        self.spawned.push(task);
        self.ready.push(SPAWNED);
    }

    /// Puts what `other` has behind what is here, and leaves it empty.
    pub(super) fn append(&mut self, other: &mut Self) {
        self.ready.append(&mut other.ready);
        self.spawned.append(&mut other.spawned);
    }
}

thread_local! {
    /// The executor that runs on this thread, and what becomes ready while it runs. A simulation wakes its
    /// tasks on its own thread, and the most expensive part of that would be a lock.
    static HERE: RefCell<(u64, Ready)> =
        const { RefCell::new((0, Ready { ready: Vec::new(), spawned: Vec::new() })) };
}

/// What wakers and spawners share with their executor.
pub(super) struct Queue {
    /// Tells executors apart; never 0.
    key: u64,
    /// What was woken or spawned elsewhere than on the thread of the running executor.
    elsewhere: Mutex<Ready>,
    /// Whether there is anything in it.
    any: AtomicBool,
}

impl Queue {
    pub(super) fn new() -> Arc<Self> {
        static KEYS: AtomicU64 = AtomicU64::new(1);
        let key = KEYS.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { key, elsewhere: Mutex::default(), any: AtomicBool::new(false) })
    }

    pub(super) fn waker(self: &Arc<Self>, id: u32) -> Arc<TaskWaker> {
        Arc::new(TaskWaker { id, woken: AtomicBool::new(false), queue: self.clone() })
    }

    pub(super) fn spawn(&self, task: Task) {
        let mut task = Some(task);
        self.here(|ready| task.take().into_iter().for_each(|task| ready.spawn(task)));
        if let Some(task) = task {
            self.lock().spawn(task);
            self.any.store(true, Ordering::Release);
        }
    }

    pub(super) fn wake(&self, id: u32) {
        if !self.here(|ready| ready.ready.push(id)) {
            self.lock().ready.push(id);
            self.any.store(true, Ordering::Release);
        }
    }

    /// Does `change` if the executor runs on this thread.
    #[inline]
    fn here(&self, change: impl FnOnce(&mut Ready)) -> bool {
        HERE.with_borrow_mut(|(key, ready)| {
            if *key == self.key {
                change(ready);
            }
            *key == self.key
        })
    }

    /// Takes everything that is ready, into an empty `into`.
    pub(super) fn take(&self, into: &mut Ready) {
        self.here(|ready| std::mem::swap(ready, into));
        if self.any.load(Ordering::Acquire) {
            self.any.store(false, Ordering::Relaxed);
            into.append(&mut self.lock());
        }
    }

    /// How many tasks wait to be taken over.
    pub(super) fn spawned(&self) -> usize {
        let mut here = 0;
        self.here(|ready| here = ready.spawned.len());
        here + self.lock().spawned.len()
    }

    /// Those come before everything else that is ready.
    pub(super) fn put_back(&self, rest: Vec<u32>) {
        let mut shared = self.lock();
        let mut rest = Ready { ready: rest, spawned: Vec::new() };
        rest.append(&mut shared);
        *shared = rest;
        self.any.store(true, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Ready> {
        self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While it lives, the executor of `queue` is the one that runs on this thread.
pub(super) struct Running {
    queue: Arc<Queue>,
    /// The one that ran before: a task may run a simulation of its own.
    before: (u64, Ready),
}

impl Running {
    pub(super) fn new(queue: &Arc<Queue>) -> Self {
        let before = HERE.replace((queue.key, Ready::default()));
        Self { queue: queue.clone(), before }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (_, mut left) = HERE.replace(std::mem::take(&mut self.before));
        let mut shared = self.queue.lock();
        // What is in there was put back, or came from another thread: first in line either way.
        shared.append(&mut left);
        self.queue.any.store(true, Ordering::Release);
    }
}

/// The waker of a slot: made once, used by every task that ever sits there. A late wake of an earlier task
/// polls the present one once too often, which futures must bear.
pub(super) struct TaskWaker {
    id: u32,
    /// Whether the slot is in the ready queue of this thread already. Only the thread of the executor reads or
    /// writes it: wakes from elsewhere always queue, which at worst polls a task once too often.
    woken: AtomicBool,
    queue: Arc<Queue>,
}

impl TaskWaker {
    /// From here on a wake counts for the next poll.
    #[inline]
    pub(super) fn begin_poll(&self) {
        self.woken.store(false, Ordering::Relaxed);
    }
}

impl Wake for TaskWaker {
    #[inline]
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    #[inline]
    fn wake_by_ref(self: &Arc<Self>) {
        let here = self.queue.here(|ready| {
            if !self.woken.load(Ordering::Relaxed) {
                self.woken.store(true, Ordering::Relaxed);
                ready.ready.push(self.id);
            }
        });
        if !here {
            self.queue.wake(self.id);
        }
    }
}
