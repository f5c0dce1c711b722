//! [`Spawner`]: where orchestrators start tasks. Nothing else in this crate spawns.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// A task without a result.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Starts tasks. A closure `Fn(Task)` will do.
pub trait Spawn: Send + Sync {
    /// Starts `task`, and returns without waiting for it.
    fn spawn(&self, task: Task);
}

impl<F: Fn(Task) + Send + Sync> Spawn for F {
    fn spawn(&self, task: Task) {
        self(task);
    }
}

/// Where a saga, a relay or a detached handler runs: a cheap handle, passed in its `Config`.
///
/// The default is `tokio::spawn`. A simulator passes its own executor.
#[derive(Clone, Default)]
pub struct Spawner {
    /// `None` for tokio.
    spawn: Option<Arc<dyn Spawn>>,
}

impl Spawner {
    /// Starts tasks through `spawn`.
    pub fn new(spawn: impl Spawn + 'static) -> Self {
        Self { spawn: Some(Arc::new(spawn)) }
    }

    /// Starts `task`.
    ///
    /// # Panics
    /// On the default spawner, outside of a tokio runtime.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match &self.spawn {
            Some(spawn) => spawn.spawn(Box::pin(task)),
            None => drop(tokio::spawn(task)),
        }
    }

    /// Starts `task`, from where a panic would be worse than a task that is not started; false if it was
    /// not, because there is no runtime.
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
