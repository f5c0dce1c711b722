//! The second engine: tokio's current-thread runtime, over the same virtual clock.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

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

/// What the hook before parking found.
#[derive(Default)]
struct Parked {
    fired: Mutex<Vec<Waker>>,
    /// Set when no timer was left; woken is who runs the runtime.
    idle: Mutex<(bool, Option<Waker>)>,
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
        *self.parked.idle() = (false, None);
        self.runtime.block_on(async {
            let mut main = pin!(main);
            poll_fn(|cx| {
                if let Poll::Ready(output) = main.as_mut().poll(cx) {
                    return Poll::Ready(Ok(output));
                }
                let mut idle = self.parked.idle();
                if idle.0 {
                    let parked = vec!["main".to_owned()];
                    return Poll::Ready(Err(Stuck::Deadlock { at: self.time.elapsed(), parked }));
                }
                idle.1 = Some(cx.waker().clone());
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
            return;
        }
        let mut idle = self.idle();
        idle.0 = true;
        let main = idle.1.take();
        drop(idle);
        main.into_iter().for_each(Waker::wake);
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, (bool, Option<Waker>)> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("time", &self.time).finish_non_exhaustive()
    }
}
