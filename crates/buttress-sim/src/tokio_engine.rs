//! The second engine: tokio's current-thread runtime, over the same virtual clock.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use buttress::VirtualClock;

use crate::executor::Stuck;

/// A current-thread runtime that moves a [`VirtualClock`] to its next deadline instead of parking.
/// Code that calls `tokio::spawn` runs unchanged.
///
/// ```
/// use std::time::Duration;
/// use buttress::VirtualClock;
/// use buttress_sim::tokio_engine::Runtime;
///
/// let time = VirtualClock::new();
/// let clock = time.clock();
/// let runtime = Runtime::new(&time)?;
/// let answer = runtime.block_on(async move {
///     let task = tokio::spawn(async move {
///         clock.sleep(Duration::from_micros(1200)).await;
///         7
///     });
///     task.await.ok()
/// });
/// assert_eq!(answer, Ok(Some(7)));
/// assert_eq!(time.elapsed(), Duration::from_micros(1200));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Limits
/// - The runtime sees only tasks that wait on the clock. The time passes over work on other threads
///   (`spawn_blocking`), sockets and files. Do such work outside of a simulation, or replace it by
///   a scripted service.
/// - tokio's own timers are off: `tokio::time::sleep` panics, so that code cannot wait for real time unnoticed. tokio's
///   clock reads the real time here, so a layer needs the clock of the [`VirtualClock`]. A
///   [`Scenario`](crate::Scenario) refuses a layer without it.
/// - tokio decides the order of tasks. It is the same every time for the same program and version
///   of tokio. The order of simultaneous events cannot be varied, and a livelock is not detected.
/// - A deadlock is detected when the runtime has nothing left to do. Its report has no names of
///   tasks.
pub struct Runtime {
    runtime: tokio::runtime::Runtime,
    time: VirtualClock,
    parked: Arc<Parked>,
}

/// The state that the hook before parking and the outermost future share.
#[derive(Default)]
struct Parked {
    /// Kept to reuse its memory.
    fired: Mutex<Vec<Waker>>,
    /// Wakes the outermost future, and so keeps the runtime from parking.
    root: Mutex<Option<Waker>>,
    /// Whether no timer was left.
    idle: AtomicBool,
    /// Whether `main` was woken. Every timer wakes the outermost future, which need not poll `main`
    /// then.
    main: AtomicBool,
}

impl Runtime {
    /// Creates a runtime over `time`.
    ///
    /// # Errors
    /// Returns an error if the operating system refuses the resources of a runtime.
    pub fn new(time: &VirtualClock) -> io::Result<Self> {
        let parked = Arc::new(Parked::default());
        let (clock, hook) = (time.clone(), parked.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .on_thread_park(move || hook.move_time(&clock))
            .build()?;
        Ok(Self { runtime, time: time.clone(), parked })
    }

    /// Runs `main` to its end. Unfinished tasks continue in the next call.
    ///
    /// # Errors
    /// Returns [`Stuck::Deadlock`] if no further event is possible.
    ///
    /// # Panics
    /// If `main` panics, or if it is called from within a runtime. A panic in a task ends that task
    /// only, as always in tokio.
    pub fn block_on<F: Future>(&self, main: F) -> Result<F::Output, Stuck> {
        self.parked.idle.store(false, Ordering::Relaxed);
        self.parked.main.store(true, Ordering::Relaxed);
        let waker = Waker::from(self.parked.clone());
        self.runtime.block_on(async {
            let mut main = pin!(main);
            poll_fn(|cx| {
                match &mut *self.parked.root() {
                    Some(root) => root.clone_from(cx.waker()),
                    empty => *empty = Some(cx.waker().clone()),
                }
                if self.parked.main.swap(false, Ordering::AcqRel)
                    && let Poll::Ready(output) =
                        main.as_mut().poll(&mut Context::from_waker(&waker))
                {
                    return Poll::Ready(Ok(output));
                }
                if self.parked.idle.load(Ordering::Acquire) {
                    let parked = vec!["main".to_owned()];
                    return Poll::Ready(Err(Stuck::Deadlock { at: self.time.elapsed(), parked }));
                }
                Poll::Pending
            })
            .await
        })
    }
}

impl Parked {
    /// Called when no task is ready. tokio looks for ready tasks again afterwards.
    fn move_time(&self, time: &VirtualClock) {
        let mut fired =
            std::mem::take(&mut *self.fired.lock().unwrap_or_else(PoisonError::into_inner));
        if time.fire_next(&mut fired) {
            fired.drain(..).for_each(Waker::wake);
            *self.fired.lock().unwrap_or_else(PoisonError::into_inner) = fired;
        } else {
            self.idle.store(true, Ordering::Release);
        }
        // Always: otherwise a timer that wakes no task, e.g. the timer of a station, would be the
        // last event.
        if let Some(root) = &*self.root() {
            root.wake_by_ref();
        }
    }

    fn root(&self) -> MutexGuard<'_, Option<Waker>> {
        self.root.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.main.store(true, Ordering::Release);
        let root = self.root().clone();
        root.into_iter().for_each(Waker::wake);
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("time", &self.time).finish_non_exhaustive()
    }
}
