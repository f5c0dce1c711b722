//! [`Passes`]: the positions of workers that met unreadable sagas.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use buttress_durable::saga::{TakenOver, WorkerId};

/// The identity of a pass: a worker, a definition and its version.
pub(crate) type Pass = (WorkerId, String, u32);

/// For each pass that met an unreadable saga, the number of the last saga seen. The next call
/// continues after this number, and begins again from the start once the end was reached. Otherwise
/// a few damaged sagas, older than the others, would be returned repeatedly in place of the others.
#[derive(Debug, Default)]
pub(crate) struct Passes {
    /// Guards the map for a single read or change.
    seen: Mutex<BTreeMap<Pass, i64>>,
}

impl Passes {
    /// Returns the number after which the pass continues.
    pub(crate) fn position(&self, pass: &Pass) -> i64 {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(pass).copied().unwrap_or(i64::MIN)
    }

    /// Records that a call which began after `began` has `taken` sagas, up to the number `last` if
    /// it saw any. `is_full` says that more sagas may follow. Unreadable sagas stay where they are:
    /// the next call continues after them, until a call has seen the end.
    pub(crate) fn note<P>(
        &self,
        pass: Pass,
        (began, last): (i64, Option<i64>),
        is_full: bool,
        taken: &TakenOver<P>,
    ) {
        let (last, met_damage) = (last.unwrap_or(began), !taken.corrupt.is_empty());
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if is_full && (began != i64::MIN || met_damage) {
            seen.insert(pass, last);
        } else {
            seen.remove(&pass);
        }
    }
}
