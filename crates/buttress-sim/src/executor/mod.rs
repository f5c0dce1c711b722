//! The first engine: this crate's own executor, on one thread, under a virtual clock.

mod forgotten;
mod named;
mod queue;
mod stuck;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use buttress::{Rng, Spawner, Task, VirtualClock};

pub use named::{Named, named};
use queue::{Next, Queue, Running, TaskWaker};
pub use stuck::Stuck;

use crate::rng;

/// A single-threaded executor that moves a [`VirtualClock`] to the next deadline when no task is
/// ready. The same tasks run in the same order every time.
///
/// ```
/// use std::time::Duration;
/// use buttress::VirtualClock;
/// use buttress_sim::Executor;
///
/// let time = VirtualClock::new();
/// let clock = time.clock();
/// let mut executor = Executor::new(&time);
/// let hour = executor.block_on(async { clock.sleep(Duration::from_secs(3600)).await });
/// assert_eq!(hour, Ok(())); // immediately
/// assert_eq!(time.elapsed(), Duration::from_secs(3600));
/// ```
pub struct Executor {
    time: VirtualClock,
    queue: Arc<Queue>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// The wakers of this instant.
    fired: Vec<Waker>,
    ties: Option<Rng>,
    most_polls: u64,
    /// The number of polls since the time last moved, and the time at that check.
    polls: u64,
    moved: Duration,
}

struct Slot {
    future: Option<Task>,
    name: Option<String>,
    /// The task waker behind `waker`, to reset its woken flag.
    handle: Arc<TaskWaker>,
    waker: Waker,
}

/// The slot of the future of `block_on`.
const MAIN: u32 = 0;

impl Executor {
    /// Creates an executor without tasks, over `time`.
    #[must_use]
    pub fn new(time: &VirtualClock) -> Self {
        let queue = Queue::new();
        let mut executor = Self {
            time: time.clone(),
            queue,
            slots: Vec::new(),
            free: Vec::new(),
            fired: Vec::new(),
            ties: None,
            most_polls: 10_000_000,
            polls: 0,
            moved: time.elapsed(),
        };
        executor.add_slot(Some("main".to_owned()));
        executor
    }

    /// Draws the order of simultaneous events from `rng`: timers with one deadline, and tasks that
    /// are ready together. Default: the order in which they were registered or woken. Run a few
    /// seeds to test that code does not depend on that order.
    #[must_use]
    pub fn vary_ties(mut self, rng: Rng) -> Self {
        self.ties = Some(rng);
        self
    }

    /// Sets the number of polls at one instant after which the run ends as a livelock. Default: 10
    /// 000 000.
    #[must_use]
    pub const fn most_polls_an_instant(mut self, polls: u64) -> Self {
        self.most_polls = polls;
        self
    }

    /// Returns the spawner through which orchestrators start their tasks.
    #[must_use]
    pub fn spawner(&self) -> Spawner {
        let queue = self.queue.clone();
        Spawner::new(move |task| queue.spawn(task))
    }

    /// Starts a task. The executor polls it when it runs. [`named`] gives a task a name for
    /// reports.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.queue.spawn(Box::pin(task));
    }

    /// Returns the number of unfinished tasks.
    #[must_use]
    pub fn tasks(&self) -> usize {
        let started = self.slots.iter().filter(|slot| slot.future.is_some()).count();
        started + self.queue.spawned()
    }

    /// Runs all tasks until `main` has ended, and returns its output. Unfinished tasks stay, and
    /// continue in the next call.
    ///
    /// # Errors
    /// Returns [`Stuck`] if no further event is possible, or if the time does not move.
    ///
    /// # Panics
    /// If a task panics. If a task waits on tokio's clock, or starts a task of tokio, the panic says which setters are
    /// missing. A task that only reads tokio's clock is not found.
    pub fn block_on<F: Future>(&mut self, main: F) -> Result<F::Output, Stuck> {
        let mut main = pin!(main);
        self.polls = 0;
        self.queue.wake(MAIN);
        let _running = Running::new(&self.queue);
        loop {
            let id = match self.queue.next(self.ties.as_ref()) {
                Some(Next::Slot(id)) => id,
                Some(Next::New(task)) => self.take_over(task),
                None => {
                    self.move_time()?;
                    continue;
                }
            };
            let Some(slot) = self.slots.get_mut(id as usize) else { continue };
            slot.handle.begin_poll();
            if id == MAIN {
                let cx = &mut Context::from_waker(&slot.waker);
                if let Poll::Ready(output) = forgotten::named(|| main.as_mut().poll(cx)) {
                    return Ok(output);
                }
            } else if slot.poll() {
                self.free.push(id);
            }
            self.polls += 1;
            if self.polls > self.most_polls {
                self.check_moved(id)?;
            }
        }
    }

    /// Gives a new task a slot.
    fn take_over(&mut self, task: Task) -> u32 {
        let id = self.free.pop().unwrap_or(self.slots.len() as u32);
        if id as usize == self.slots.len() {
            self.add_slot(None);
        }
        if let Some(slot) = self.slots.get_mut(id as usize) {
            slot.future = Some(task);
            slot.name = None;
        }
        id
    }

    fn add_slot(&mut self, name: Option<String>) {
        let handle = self.queue.waker(self.slots.len() as u32);
        let waker = Waker::from(handle.clone());
        self.slots.push(Slot { future: None, name, handle, waker });
    }

    fn move_time(&mut self) -> Result<(), Stuck> {
        // With drawn ties, timers that fired together are woken one by one, each with all its
        // consequences. Otherwise wakers that run code immediately would always precede tasks.
        if let (Some(_), Some(waker)) = (&self.ties, self.fired.pop()) {
            waker.wake();
            return Ok(());
        }
        if !self.time.fire_next(&mut self.fired) {
            return Err(Stuck::Deadlock { at: self.time.elapsed(), parked: self.names(|_| true) });
        }
        if let Some(rng) = &self.ties {
            rng::shuffle(&mut self.fired, rng);
            return Ok(());
        }
        // Popping from the end is cheaper than draining from the front.
        if self.fired.len() > 1 {
            self.fired.reverse();
        }
        while let Some(waker) = self.fired.pop() {
            waker.wake();
        }
        Ok(())
    }

    /// Restarts the count of polls if the time has moved since the last check.
    fn check_moved(&mut self, last: u32) -> Result<(), Stuck> {
        let now = self.time.elapsed();
        self.polls = 0;
        if now == self.moved {
            let busy = self.queue.ready();
            let spinning = self.names(|id| id == last || busy.contains(&id));
            return Err(Stuck::Livelock { at: now, spinning });
        }
        self.moved = now;
        Ok(())
    }

    fn names(&self, which: impl Fn(u32) -> bool) -> Vec<String> {
        let ids = (0u32..).zip(&self.slots);
        let live = ids.filter(|(id, slot)| which(*id) && (*id == MAIN || slot.future.is_some()));
        let name = |(id, slot): (u32, &Slot)| match &slot.name {
            Some(name) => name.clone(),
            None => format!("task {id}"),
        };
        live.map(name).collect()
    }
}

impl Slot {
    /// Whether the task has ended.
    #[inline]
    fn poll(&mut self) -> bool {
        let Some(future) = &mut self.future else { return false };
        let cx = &mut Context::from_waker(&self.waker);
        let polled = forgotten::named(|| Pin::new(future).poll(cx));
        if let Some(name) = named::take() {
            self.name = Some(name);
        }
        if polled.is_ready() {
            self.future = None;
        }
        polled.is_ready()
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor")
            .field("time", &self.time)
            .field("tasks", &self.tasks())
            .finish_non_exhaustive()
    }
}
