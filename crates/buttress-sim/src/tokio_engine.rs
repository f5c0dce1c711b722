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

/// A current-thread runtime that moves a [`VirtualClock`] to its next deadline whenever it would park: code
/// that calls `tokio::spawn` runs in it unchanged.
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
/// # What is coarse here
/// - Only what waits on the clock is seen. Work on other threads (`spawn_blocking`), sockets and files is not:
///   time leaps past it. Such work belongs outside of a simulation, or behind a scripted service.
/// - tokio's own timers are not there: `tokio::time::sleep` panics, so that real time cannot come in unseen.
///   Wait through a [`Clock`](buttress::Clock).
/// - Order is tokio's: the same every time for the same program and the same version of tokio, but not under
///   our control. Ties cannot be varied, and a livelock is not noticed.
/// - A deadlock is noticed when the runtime has nothing left to do, and tasks have no names to report.
pub struct Runtime {
    runtime: tokio::runtime::Runtime,
    time: VirtualClock,
    parked: Arc<Parked>,
}

/// What the hook before parking and the future that runs the runtime tell each other.
#[derive(Default)]
struct Parked {
    /// Kept for its memory.
    fired: Mutex<Vec<Waker>>,
    /// Wakes the outermost future, and so keeps the runtime from parking.
    root: Mutex<Option<Waker>>,
    /// No timer was left.
    idle: AtomicBool,
    /// `main` was woken. The outermost future is woken for every timer, and `main` need not be polled then.
    main: AtomicBool,
}

impl Runtime {
    /// A runtime over `time`.
    ///
    /// # Errors
    /// The operating system has no room for one.
    pub fn new(time: &VirtualClock) -> io::Result<Self> {
        let parked = Arc::new(Parked::default());
        let (clock, hook) = (time.clone(), parked.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .on_thread_park(move || hook.move_time(&clock))
            .build()?;
        Ok(Self { runtime, time: time.clone(), parked })
    }

    /// Runs `main` to its end. Tasks that have not ended go on in the next call.
    ///
    /// # Errors
    /// [`Stuck::Deadlock`] if nothing can ever happen again.
    ///
    /// # Panics
    /// If `main` does, or if called from within a runtime. A task that panics ends alone, as always in tokio.
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
    /// Called when no task is ready. tokio looks for ready tasks again after it.
    fn move_time(&self, time: &VirtualClock) {
        let mut fired =
            std::mem::take(&mut *self.fired.lock().unwrap_or_else(PoisonError::into_inner));
        if time.fire_next(&mut fired) {
            fired.drain(..).for_each(Waker::wake);
            *self.fired.lock().unwrap_or_else(PoisonError::into_inner) = fired;
        } else {
            self.idle.store(true, Ordering::Release);
        }
        // Always: a timer that wakes no task (that of a station) would otherwise be the last thing to happen.
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
