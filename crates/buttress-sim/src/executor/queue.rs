//! Which tasks are ready, in the order in which they became so.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Wake;

use buttress::Task;

/// What wakers and spawners share with their executor.
#[derive(Default)]
pub(super) struct Queue {
    shared: Mutex<Shared>,
}

#[derive(Default)]
pub(super) struct Shared {
    pub(super) ready: Vec<u32>,
    /// Tasks that wait to be taken over, each in a slot of its own that is in `ready`.
    pub(super) spawned: Vec<(u32, Task)>,
    free: Vec<u32>,
    slots: u32,
}

/// The waker of a slot: made once, used by every task that ever sits there. A late wake of an earlier
/// task polls the present one once too often, which futures must bear.
pub(super) struct TaskWaker {
    id: u32,
    /// Whether the slot is in `ready` already.
    woken: AtomicBool,
    queue: Arc<Queue>,
}

impl Queue {
    /// With one slot in use: that of `block_on`.
    pub(super) fn new() -> Arc<Self> {
        let queue = Self::default();
        queue.lock().slots = 1;
        Arc::new(queue)
    }

    pub(super) fn waker(self: &Arc<Self>, id: u32) -> Arc<TaskWaker> {
        // A new task is ready from the start, through `spawn`.
        Arc::new(TaskWaker { id, woken: AtomicBool::new(false), queue: self.clone() })
    }

    pub(super) fn spawn(&self, task: Task) {
        let mut shared = self.lock();
        let id = match shared.free.pop() {
            Some(id) => id,
            None => {
                shared.slots += 1;
                shared.slots - 1
            }
        };
        shared.spawned.push((id, task));
        shared.ready.push(id);
    }

    pub(super) fn wake(&self, id: u32) {
        self.lock().ready.push(id);
    }

    pub(super) fn free(&self, id: u32) {
        self.lock().free.push(id);
    }

    /// Ready tasks that were taken and not polled are first in line again.
    pub(super) fn put_back(&self, mut rest: Vec<u32>) {
        let mut shared = self.lock();
        rest.append(&mut shared.ready);
        shared.ready = rest;
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TaskWaker {
    /// From here on a wake counts for the next poll.
    #[inline]
    pub(super) fn begin_poll(&self) {
        self.woken.store(false, Ordering::Release);
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    #[inline]
    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.queue.wake(self.id);
        }
    }
}
