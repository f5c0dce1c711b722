//! [`Passes`]: how far workers have come that met sagas they could not read.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use buttress_durable::saga::WorkerId;

/// Who takes over what: a worker, a definition, its version.
pub(crate) type Pass = (WorkerId, String, u32);

/// For each pass that met a saga it could not read, the number of the last saga seen. The next call
/// goes on behind it, and begins anew once the end was reached; without this a handful of damaged
/// sagas, older than the rest, would be found again and again in place of the rest.
#[derive(Debug, Default)]
pub(crate) struct Passes {
    /// Guards the map, for a look or a change.
    seen: Mutex<BTreeMap<Pass, i64>>,
}

impl Passes {
    /// Begin with sagas after this number.
    pub(crate) fn position(&self, pass: &Pass) -> i64 {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(pass).copied().unwrap_or(i64::MIN)
    }

    /// Come to this number; `None` for the end.
    pub(crate) fn note(&self, pass: Pass, number: Option<i64>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match number {
            Some(number) => drop(seen.insert(pass, number)),
            None => drop(seen.remove(&pass)),
        }
    }
}
