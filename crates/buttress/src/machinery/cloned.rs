//! [`Cloned`]: a service that many tasks call through clones.

use std::sync::{Mutex, PoisonError};

/// Makes clones of a service that need not be `Sync`. The lock is held only while cloning.
pub(crate) struct Cloned<S>(Mutex<S>);

impl<S: Clone> Cloned<S> {
    pub(crate) fn new(service: S) -> Self {
        Self(Mutex::new(service))
    }

    pub(crate) fn get(&self) -> S {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
