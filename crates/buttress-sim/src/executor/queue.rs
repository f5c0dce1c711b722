//! The ready tasks, in the order in which they became ready.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Wake;

use buttress::{Rng, Task};

/// An entry of `ready` for the next of `spawned`.
const SPAWNED: u32 = u32::MAX;

/// The slots and new tasks that have become ready.
#[derive(Default)]
pub(super) struct Ready {
    ready: VecDeque<u32>,
    spawned: VecDeque<Task>,
}

/// The next item to poll.
pub(super) enum Next {
    Slot(u32),
    New(Task),
}

impl Ready {
    fn spawn(&mut self, task: Task) {
        self.spawned.push_back(task);
        self.ready.push_back(SPAWNED);
    }

    fn next(&mut self) -> Option<Next> {
        match self.ready.pop_front()? {
            SPAWNED => self.spawned.pop_front().map(Next::New),
            id => Some(Next::Slot(id)),
        }
    }

    /// Moves the entries of `other` behind the entries here.
    fn append(&mut self, other: &mut Self) {
        self.ready.append(&mut other.ready);
        self.spawned.append(&mut other.spawned);
    }
}

thread_local! {
    /// The executor that runs on this thread, and the tasks that become ready while it runs. A
    /// simulation wakes its tasks on its own thread, and a lock would be the most expensive part of
    /// a wake.
    ///
    /// It has no destructor, because an access to a thread local with one costs twice as much.
    /// [`Running`] drops the content; when no executor runs, it is empty.
    static HERE: RefCell<ManuallyDrop<Here>> = const { RefCell::new(ManuallyDrop::new(Here::none())) };
}

/// The key of an executor, and its ready tasks.
struct Here {
    key: u64,
    ready: Ready,
}

impl Here {
    const fn none() -> Self {
        Self { key: 0, ready: Ready { ready: VecDeque::new(), spawned: VecDeque::new() } }
    }
}

/// The state that wakers and spawners share with their executor.
pub(super) struct Queue {
    /// Distinguishes executors; never 0.
    key: u64,
    /// The tasks that were woken or spawned outside of the thread of the running executor.
    elsewhere: Mutex<Ready>,
    /// Whether `elsewhere` has entries.
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
        if !self.here(|ready| ready.ready.push_back(id)) {
            self.lock().ready.push_back(id);
            self.any.store(true, Ordering::Release);
        }
    }

    /// Runs `change` if the executor runs on this thread.
    #[inline]
    fn here(&self, change: impl FnOnce(&mut Ready)) -> bool {
        HERE.with_borrow_mut(|here| {
            let is_here = here.key == self.key;
            if is_here {
                change(&mut here.ready);
            }
            is_here
        })
    }

    /// Returns the next item to poll, on the thread of the running executor. `ties` draws it, if
    /// present.
    #[inline]
    pub(super) fn next(&self, ties: Option<&Rng>) -> Option<Next> {
        if self.any.load(Ordering::Acquire) {
            self.take_over();
        }
        HERE.with_borrow_mut(|here| {
            let ready = &mut here.ready;
            if let Some(rng) = ties
                && let Some(last) = ready.ready.len().checked_sub(1)
                && last > 0
            {
                ready.ready.swap(0, rng.between(0, last as u64) as usize);
            }
            ready.next()
        })
    }

    /// Takes the entries of `elsewhere`.
    #[cold]
    fn take_over(&self) {
        self.any.store(false, Ordering::Relaxed);
        let mut came = std::mem::take(&mut *self.lock());
        self.here(|ready| ready.append(&mut came));
    }

    /// Returns the number of new tasks.
    pub(super) fn spawned(&self) -> usize {
        let mut here = 0;
        self.here(|ready| here = ready.spawned.len());
        here + self.lock().spawned.len()
    }

    /// Returns the slots that are ready.
    pub(super) fn ready(&self) -> Vec<u32> {
        HERE.with_borrow(|here| here.ready.ready.iter().copied().collect())
    }

    fn lock(&self) -> MutexGuard<'_, Ready> {
        self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A guard that makes the executor of `queue` the running executor of this thread until the guard is
/// dropped.
pub(super) struct Running {
    queue: Arc<Queue>,
    /// The executor that ran before: a task may run a simulation itself.
    before: Here,
}

impl Running {
    pub(super) fn new(queue: &Arc<Queue>) -> Self {
        let now = Here { key: queue.key, ready: Ready::default() };
        let before = ManuallyDrop::into_inner(HERE.replace(ManuallyDrop::new(now)));
        Self { queue: queue.clone(), before }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Entries that were not polled are first the next time.
        let before = std::mem::replace(&mut self.before, Here::none());
        let Here { ready: mut left, .. } =
            ManuallyDrop::into_inner(HERE.replace(ManuallyDrop::new(before)));
        let mut shared = self.queue.lock();
        left.append(&mut shared);
        *shared = left;
        self.queue.any.store(true, Ordering::Release);
    }
}

/// The waker of a slot: made once, and shared by all tasks of the slot in turn. A late wake of an
/// earlier task polls the current task one time too many, which futures must tolerate.
pub(super) struct TaskWaker {
    id: u32,
    /// Whether the slot is in the ready queue of this thread. Only the thread of the executor reads
    /// and writes this flag. Wakes from other threads always queue, which at worst polls a task
    /// once too
    /// often.
    woken: AtomicBool,
    queue: Arc<Queue>,
}

impl TaskWaker {
    /// Lets later wakes count for the next poll.
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
                ready.ready.push_back(self.id);
            }
        });
        if !here {
            self.queue.wake(self.id);
        }
    }
}
