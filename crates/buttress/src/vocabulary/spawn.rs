//! [`Spawner`]: starts the tasks of orchestrators. No other part of this crate spawns.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::task::JoinHandle;

/// A task without a result.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An executor that starts tasks. Closures `Fn(Task)` implement it.
pub trait Spawn: Send + Sync {
    /// Starts `task`, and returns without waiting for it.
    fn spawn(&self, task: Task);
}

impl<F: Fn(Task) + Send + Sync> Spawn for F {
    fn spawn(&self, task: Task) {
        self(task);
    }
}

/// Starts a task of tokio whose output can be awaited.
pub(crate) fn joined<F>(task: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(task)
}

/// Runs `work`, which may block, on a thread for such work. Without a runtime it runs here. Returns `None` if the
/// runtime shuts down before `work` has begun, or if it panicked.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await.ok(),
        Err(_) => Some(work()),
    }
}

/// An executor of sagas, relays and detached handlers. Cheap to clone; passed in their `Config`.
///
/// The default is `tokio::spawn`. A simulator passes its own executor.
#[derive(Clone, Default)]
pub struct Spawner {
    /// `None` for tokio.
    spawn: Option<Arc<dyn Spawn>>,
}

impl Spawner {
    /// Creates a spawner that starts tasks through `spawn`.
    pub fn new(spawn: impl Spawn + 'static) -> Self {
        Self { spawn: Some(Arc::new(spawn)) }
    }

    /// Starts `task`.
    ///
    /// # Panics
    /// Panics on the default spawner, outside of a tokio runtime.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match &self.spawn {
            Some(spawn) => spawn.spawn(Box::pin(task)),
            None => drop(tokio::spawn(task)),
        }
    }

    /// Starts `task` and returns `true`, or returns `false` if there is no runtime. Used where a
    /// panic would be worse than a task that does not start.
    pub(crate) fn try_spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> bool {
        if self.spawn.is_none() && tokio::runtime::Handle::try_current().is_err() {
            return false;
        }
        self.spawn(task);
        true
    }
}

impl fmt::Debug for Spawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.spawn.is_some() { "custom" } else { "tokio" };
        f.debug_tuple("Spawner").field(&name).finish()
    }
}
