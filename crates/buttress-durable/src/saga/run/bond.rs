//! [`Bond`]: the facts about a parent that the steps with child sagas need.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use buttress::Name;

/// The facts about a parent that the steps with child sagas need. The task of the parent sets them and polls the steps.
#[derive(Debug, Default)]
pub(in crate::saga) struct Bond {
    /// Whether the log of the parent has recorded that it unwinds.
    unwinding: AtomicBool,
    /// Whether the parent is cancelled, past its deadline or unwinding.
    cancelled: AtomicBool,
    /// When the action of each step was started for the first time, as wall time since 1970.
    began: Mutex<HashMap<Name, Duration>>,
}

impl Bond {
    pub(in crate::saga) fn set(&self, unwinding: bool, cancelled: bool) {
        // One task sets and reads them.
        self.unwinding.store(unwinding, Ordering::Relaxed);
        self.cancelled.store(cancelled || unwinding, Ordering::Relaxed);
    }

    /// Whether a child in progress is to be cancelled.
    ///
    /// A child that its parent holds is cancelled once the log of the parent has recorded that the parent unwinds.
    /// Before that, another worker could take the parent over, find the child held, and complete the parent. A child
    /// that its parent does not hold decides by itself how it ends.
    pub(in crate::saga) fn cancels(&self, holds: bool) -> bool {
        let flag = if holds { &self.unwinding } else { &self.cancelled };
        flag.load(Ordering::Relaxed)
    }

    pub(in crate::saga) fn set_began(&self, step: Name, at: Option<Duration>) {
        if let Some(at) = at {
            self.began.lock().unwrap_or_else(PoisonError::into_inner).insert(step, at);
        }
    }

    /// Returns when the action of a step was started for the first time.
    pub(in crate::saga) fn began(&self, step: Name) -> Option<Duration> {
        self.began.lock().unwrap_or_else(PoisonError::into_inner).get(&step).copied()
    }
}
