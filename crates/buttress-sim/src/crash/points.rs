use std::fmt;
use std::future::{Future, pending};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use buttress::{Spawner, Task};

use super::guarded::Guarded;

/// The position of a boundary relative to the durable effect.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Side {
    /// Before the effect: nothing is durable.
    Before,
    /// After the effect: it is durable, and the reply is lost.
    After,
    /// A separate place, without an effect.
    At,
}

/// A place where a process can crash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Boundary {
    /// The number of the boundary in this run, from 1.
    pub number: u64,
    /// The name that the code gives the boundary.
    pub name: &'static str,
    /// The position relative to the effect.
    pub side: Side,
}

impl fmt::Display for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Before => "before ",
            Side::After => "after ",
            Side::At => "at ",
        };
        write!(f, "boundary {} ({side}\"{}\")", self.number, self.name)
    }
}

/// The process has crashed. Code that receives this error must stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the simulated process crashed at {0}")]
pub struct Crashed(pub Boundary);

/// The boundaries of one life of a process, and the boundary of its crash. Cheap to clone; clones
/// are the same life.
#[derive(Clone)]
pub struct CrashPoints {
    shared: Arc<Mutex<Life>>,
}

struct Life {
    /// The number of the boundary of the crash.
    dies_at: Option<u64>,
    incarnation: u32,
    forget: bool,
    reached: Vec<Boundary>,
    crashed: Option<Boundary>,
    /// Wakers of guarded futures, to wake at the crash.
    parked: Vec<(u64, Waker)>,
    guarded: u64,
}

impl Life {
    /// Counts a boundary.
    fn reach(&mut self, name: &'static str, side: Side) -> Result<Boundary, Crashed> {
        if let Some(boundary) = self.crashed {
            return Err(Crashed(boundary));
        }
        let boundary = Boundary { number: self.reached.len() as u64 + 1, name, side };
        self.reached.push(boundary);
        Ok(boundary)
    }
}

impl CrashPoints {
    fn with(dies_at: Option<u64>) -> Self {
        let life = Life {
            dies_at,
            incarnation: 1,
            forget: false,
            reached: Vec::new(),
            crashed: None,
            parked: Vec::new(),
            guarded: 0,
        };
        Self { shared: Arc::new(Mutex::new(life)) }
    }

    /// Creates a life that only counts its boundaries.
    #[must_use]
    pub fn counting() -> Self {
        Self::with(None)
    }

    /// Creates a life that crashes at the boundary with this number, from 1.
    #[must_use]
    pub fn crash_at(number: u64) -> Self {
        Self::with(Some(number))
    }

    /// Leaks the futures of a crashed process; a killed process runs no destructors either.
    /// Default: off, so futures are dropped. A leaked future would keep its connections and
    /// operating system locks, which a killed process does not.
    #[must_use]
    pub fn forgetting(self) -> Self {
        self.lock().forget = true;
        self
    }

    pub(super) fn in_incarnation(self, incarnation: u32) -> Self {
        self.lock().incarnation = incarnation;
        self
    }

    /// Returns the number of this life of the process: 1 for the first, 2 after one crash.
    #[must_use]
    pub fn incarnation(&self) -> u32 {
        self.lock().incarnation
    }

    /// Reaches a boundary.
    ///
    /// # Errors
    /// Returns an error if the process crashes here, or has crashed before.
    pub fn hit(&self, name: &'static str) -> Result<(), Crashed> {
        self.hit_side(name, Side::At)
    }

    fn hit_side(&self, name: &'static str, side: Side) -> Result<(), Crashed> {
        let mut life = self.lock();
        let boundary = life.reach(name, side)?;
        if life.dies_at != Some(boundary.number) {
            return Ok(());
        }
        Err(Self::end(life, boundary))
    }

    /// Crashes the process at a boundary with this name. Returns the boundary at which the process has
    /// crashed, which is an earlier one if it had crashed before.
    #[expect(clippy::must_use_candidate, reason = "the process has crashed in any case")]
    pub fn crash(&self, name: &'static str, side: Side) -> Crashed {
        let mut life = self.lock();
        match life.reach(name, side) {
            Ok(boundary) => Self::end(life, boundary),
            Err(crashed) => crashed,
        }
    }

    /// Ends the process at `boundary`, and wakes its guarded futures, which end too.
    fn end(mut life: MutexGuard<'_, Life>, boundary: Boundary) -> Crashed {
        life.crashed = Some(boundary);
        let parked = std::mem::take(&mut life.parked);
        drop(life);
        parked.into_iter().for_each(|(_, waker)| waker.wake());
        Crashed(boundary)
    }

    /// Reaches a boundary. Never returns if the process crashes there or has crashed.
    pub async fn reach(&self, name: &'static str) {
        self.reach_side(name, Side::At).await;
    }

    async fn reach_side(&self, name: &'static str, side: Side) {
        if self.hit_side(name, side).is_err() {
            pending::<()>().await;
        }
    }

    /// Runs `operation` between two boundaries: one before its effect, and one after its effect and
    /// before its reply.
    pub async fn around<T>(&self, name: &'static str, operation: impl Future<Output = T>) -> T {
        self.reach_side(name, Side::Before).await;
        let done = operation.await;
        self.reach_side(name, Side::After).await;
        done
    }

    /// Runs `future` until it ends. Returns `None` if the process crashes, and drops `future` at
    /// that point.
    pub fn guard<F: Future>(&self, future: F) -> Guarded<F> {
        let mut life = self.lock();
        life.guarded += 1;
        Guarded::new(self.clone(), life.guarded, future)
    }

    /// Returns a spawner whose tasks end with the process. It starts them through `spawner`.
    #[must_use]
    pub fn spawner(&self, spawner: Spawner) -> Spawner {
        let points = self.clone();
        Spawner::new(move |task: Task| {
            let guarded = points.guard(task);
            spawner.spawn(async move {
                guarded.await;
            });
        })
    }

    /// Returns the boundary of the crash, if there was one.
    #[must_use]
    pub fn crashed(&self) -> Option<Boundary> {
        self.lock().crashed
    }

    /// Returns all boundaries so far, in order.
    #[must_use]
    pub fn reached(&self) -> Vec<Boundary> {
        self.lock().reached.clone()
    }

    /// Returns `None` while the process lives, and parks the guarded future `id`. After a crash
    /// returns whether futures are leaked.
    pub(super) fn park(&self, id: u64, waker: Option<&Waker>) -> Option<bool> {
        let mut life = self.lock();
        if life.crashed.is_some() {
            return Some(life.forget);
        }
        if let Some(waker) = waker {
            match life.parked.iter_mut().find(|(known, _)| *known == id) {
                Some((_, known)) => known.clone_from(waker),
                None => life.parked.push((id, waker.clone())),
            }
        }
        None
    }

    pub(super) fn unpark(&self, id: u64) {
        self.lock().parked.retain(|(known, _)| *known != id);
    }

    fn lock(&self) -> MutexGuard<'_, Life> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for CrashPoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let life = self.lock();
        f.debug_struct("CrashPoints")
            .field("dies_at", &life.dies_at)
            .field("reached", &life.reached.len())
            .field("crashed", &life.crashed)
            .finish_non_exhaustive()
    }
}
