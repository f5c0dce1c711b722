use std::collections::BTreeSet;
use std::fmt;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use buttress::{Clock, Sleep, Spawner, StoreError, Task, VirtualClock};
use tokio::sync::oneshot;

use super::points::Side;
use super::trouble::{Schedule, Strike, Trouble};
use crate::ended::polled_after_completion;

/// One of several processes that share a store, with the troubles that a [`Schedule`] has for it.
/// Cheap to clone; clones are the same process.
///
/// The hook of a [`Hooked`](crate::hooked::Hooked) store passes each operation through
/// [`operation`](Self::operation). Start the tasks of the process through
/// [`spawner`](Self::spawner), and use [`clock`](Self::clock) as its clock. The tasks then freeze
/// together and end together.
#[derive(Clone)]
pub struct Process {
    shared: Arc<Shared>,
}

struct Shared {
    number: u32,
    node: VirtualClock,
    outside: Spawner,
    life: Mutex<Life>,
}

struct Life {
    strikes: Vec<Strike>,
    operations: Vec<&'static str>,
    /// The end of the freeze.
    thaw: Option<Instant>,
    crashed: bool,
    skew: i64,
    calls: u64,
    /// The call that is being polled.
    polled: Option<u64>,
    dropped: BTreeSet<u64>,
}

impl Process {
    /// Creates the process `number` of a run, on a node of `time` with its own wall clock.
    /// `outside` starts the tasks that continue while the process is frozen.
    #[must_use]
    pub fn new(number: u32, time: &VirtualClock, outside: Spawner, schedule: &Schedule) -> Self {
        let own = |strike: &&Strike| strike.process == number;
        let life = Life {
            strikes: schedule.0.iter().filter(own).copied().collect(),
            operations: Vec::new(),
            thaw: None,
            crashed: false,
            skew: 0,
            calls: 0,
            polled: None,
            dropped: BTreeSet::new(),
        };
        let shared = Shared { number, node: time.node(), outside, life: Mutex::new(life) };
        Self { shared: Arc::new(shared) }
    }

    /// Returns the number of the process.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.shared.number
    }

    /// Returns the clock of the process.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.shared.node.clock()
    }

    /// Returns a spawner whose tasks freeze and end with the process.
    #[must_use]
    pub fn spawner(&self) -> Spawner {
        let process = self.clone();
        Spawner::new(move |task: Task| {
            let alive = Alive::new(process.clone(), None, task);
            process.shared.outside.spawn(async move {
                alive.await;
            });
        })
    }

    /// Runs a future that its caller may drop. Returns `None` if a [`Trouble::Drop`] dropped it, or
    /// if the process has crashed.
    pub fn call<F: Future>(&self, future: F) -> Alive<F> {
        let mut life = self.lock();
        life.calls += 1;
        Alive::new(self.clone(), Some(life.calls), future)
    }

    /// Returns whether the process has crashed.
    #[must_use]
    pub fn has_crashed(&self) -> bool {
        self.lock().crashed
    }

    /// Returns the names of all operations so far, in order.
    #[must_use]
    pub fn operations(&self) -> Vec<&'static str> {
        self.lock().operations.clone()
    }

    /// Runs an operation on the store, called `name`, with the troubles that the schedule has for
    /// it.
    ///
    /// # Errors
    /// Returns the errors of `operation`, and a transient error if its request or its answer is
    /// lost.
    pub async fn operation<T: Send + 'static>(
        &self,
        name: &'static str,
        operation: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (before, after) = self.begin(name);
        let mut request = Duration::ZERO;
        let mut dropped = false;
        for trouble in before {
            match trouble {
                Trouble::Late(time) => request = time,
                Trouble::Lost(time) => return self.lost(time).await,
                Trouble::Drop => dropped = self.drop_polled(),
                other => self.suffer(other).await,
            }
        }
        let done = if request.is_zero() && !dropped {
            operation.await
        } else {
            // The request is sent, whatever happens to the process.
            let (reply, replied) = oneshot::channel();
            let clock = self.shared.node.clock();
            self.shared.outside.spawn(async move {
                clock.sleep(request).await;
                drop(reply.send(operation.await));
            });
            if dropped {
                pending::<()>().await;
            }
            replied.await.unwrap_or_else(|_| Err(StoreError::transient("the run is over")))
        };
        for trouble in after {
            match trouble {
                Trouble::Late(time) => self.clock().sleep(time).await,
                Trouble::Lost(time) => return self.lost(time).await,
                Trouble::Drop if self.drop_polled() => pending::<()>().await,
                other => self.suffer(other).await,
            }
        }
        done
    }

    fn begin(&self, name: &'static str) -> (Vec<Trouble>, Vec<Trouble>) {
        let mut life = self.lock();
        life.operations.push(name);
        let number = life.operations.len() as u64;
        let here = life.strikes.iter().filter(|strike| strike.operation == number);
        let (before, after): (Vec<&Strike>, Vec<&Strike>) =
            here.partition(|strike| strike.side == Side::Before);
        let troubles =
            |strikes: Vec<&Strike>| strikes.iter().map(|strike| strike.trouble).collect();
        (troubles(before), troubles(after))
    }

    async fn lost<T>(&self, time: Duration) -> Result<T, StoreError> {
        if time == Duration::MAX {
            pending::<()>().await;
        }
        self.clock().sleep(time).await;
        Err(StoreError::transient("no answer"))
    }

    async fn suffer(&self, trouble: Trouble) {
        match trouble {
            Trouble::Freeze(time) => {
                let thaw = self.clock().now() + time;
                self.freeze_until(thaw);
                self.clock().sleep_until(thaw).await;
            }
            Trouble::Jump(seconds) => self.jump(seconds),
            Trouble::Crash => {
                self.lock().crashed = true;
                pending::<()>().await;
            }
            Trouble::Late(_) | Trouble::Lost(_) | Trouble::Drop => {}
        }
    }

    fn freeze_until(&self, thaw: Instant) {
        let mut life = self.lock();
        life.thaw = Some(life.thaw.map_or(thaw, |other| other.max(thaw)));
    }

    fn jump(&self, seconds: i64) {
        let mut life = self.lock();
        life.skew = life.skew.saturating_add(seconds.saturating_mul(1_000_000_000));
        self.shared.node.set_skew(life.skew);
    }

    /// Marks the call that is being polled as dropped. Returns `false` if a task is being polled.
    fn drop_polled(&self) -> bool {
        let mut life = self.lock();
        let polled = life.polled;
        life.dropped.extend(polled);
        polled.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Life> {
        self.shared.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let life = self.lock();
        f.debug_struct("Process")
            .field("number", &self.shared.number)
            .field("operations", &life.operations.len())
            .field("crashed", &life.crashed)
            .finish_non_exhaustive()
    }
}

/// A future of a [`Process`]. Made by [`Process::call`].
#[must_use = "futures do nothing unless polled"]
pub struct Alive<F> {
    process: Process,
    /// The number of the call; `None` for a task.
    call: Option<u64>,
    future: Option<Pin<Box<F>>>,
    thaw: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<F> Alive<F> {
    fn new(process: Process, call: Option<u64>, future: F) -> Self {
        Self { process, call, future: Some(Box::pin(future)), thaw: None }
    }

    /// Whether the process is frozen. `cx` is woken when it continues.
    fn is_frozen(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(until) = self.process.lock().thaw else { return false };
        let clock = self.process.clock();
        if clock.now() >= until {
            return false;
        }
        let sleep = match &mut self.thaw {
            Some((at, sleep)) if *at == until => sleep,
            thaw => &mut thaw.insert((until, Box::pin(clock.sleep_until(until)))).1,
        };
        sleep.as_mut().poll(cx).is_pending()
    }

    fn is_over(&self) -> bool {
        let life = self.process.lock();
        life.crashed || self.call.is_some_and(|call| life.dropped.contains(&call))
    }
}

impl<F: Future> Future for Alive<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.is_over() {
            this.future = None;
            return Poll::Ready(None);
        }
        if this.is_frozen(cx) {
            return Poll::Pending;
        }
        let Some(future) = &mut this.future else { polled_after_completion("Alive") };
        let outer = std::mem::replace(&mut this.process.lock().polled, this.call);
        let polled = future.as_mut().poll(cx);
        this.process.lock().polled = outer;
        if this.is_over() {
            this.future = None;
            return Poll::Ready(None);
        }
        if let Poll::Ready(output) = polled {
            this.future = None;
            return Poll::Ready(Some(output));
        }
        this.is_frozen(cx);
        Poll::Pending
    }
}

impl<F> fmt::Debug for Alive<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alive").field("process", &self.process).finish_non_exhaustive()
    }
}
