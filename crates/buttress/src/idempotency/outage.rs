//! [`Outage`]: limits the log lines about a failing store.

use crate::sync::{AtomicU32, Ordering};
use crate::vocabulary::observe::Say;
use crate::vocabulary::store_error::{StoreError, StoreErrorKind};

/// One outage is one log line at its start and one at its end, however many operations fail. A
/// fault that a person must fix is one line until the operation succeeds. Each decision uses a
/// single word, so the order with other memory does not matter.
#[derive(Debug)]
pub(super) struct Outage {
    /// 1 after the log reported that the store does not answer.
    away: AtomicU32,
    /// One bit per operation that only a person can make possible.
    broken: AtomicU32,
    /// Sweeps that failed in a row.
    sweeps: AtomicU32,
}

impl Outage {
    pub(super) fn new() -> Self {
        Self { away: AtomicU32::new(0), broken: AtomicU32::new(0), sweeps: AtomicU32::new(0) }
    }

    pub(super) fn failed(&self, doing: &str, error: &StoreError) -> Say {
        match error.kind() {
            StoreErrorKind::Transient if self.away.swap(1, Ordering::Relaxed) == 0 => Say::Began,
            StoreErrorKind::Misconfigured
                if self.broken.fetch_or(bit(doing), Ordering::Relaxed) == 0 =>
            {
                Say::Mend
            }
            StoreErrorKind::Transient | StoreErrorKind::Misconfigured => Say::Again,
            // The failure is about one key, so each is logged.
            _ => Say::Began,
        }
    }

    /// Returns `true` if a success ends an outage. A cheap check, for the path of successful calls.
    pub(super) fn is_on(&self) -> bool {
        self.away.load(Ordering::Relaxed) | self.broken.load(Ordering::Relaxed) != 0
    }

    /// Records a success of the store. Returns `true` if it ends an outage.
    pub(super) fn worked(&self, doing: &str) -> bool {
        let away = self.away.swap(0, Ordering::Relaxed) != 0;
        let bit = bit(doing);
        let broken = self.broken.fetch_and(!bit, Ordering::Relaxed);
        away || (broken & bit != 0 && broken & !bit == 0)
    }

    /// Records the end of a sweep. Returns how many sweeps have failed in a row.
    pub(super) fn swept(&self, done: bool) -> u32 {
        if done {
            self.sweeps.store(0, Ordering::Relaxed);
            return 0;
        }
        self.sweeps.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }
}

fn bit(doing: &str) -> u32 {
    match doing {
        "claim" => 1,
        "complete" => 2,
        "renew" => 4,
        "sweep" => 8,
        _ => 16,
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_said_at_its_start_and_its_end() {
        let outage = Outage::new();
        let away = StoreError::transient("away");
        assert_eq!(outage.failed("claim", &away), Say::Began);
        assert_eq!(outage.failed("renew", &away), Say::Again);
        assert!(outage.is_on() && outage.worked("sweep"));
        assert!(!outage.is_on() && !outage.worked("claim"));
        assert_eq!(outage.failed("claim", &away), Say::Began);
    }

    #[test]
    fn what_a_person_must_mend_is_said_until_it_works() {
        let outage = Outage::new();
        let right = StoreError::misconfigured("permission denied");
        assert_eq!(outage.failed("sweep", &right), Say::Mend);
        assert_eq!(outage.failed("sweep", &right), Say::Again);
        assert!(!outage.worked("claim"), "another operation works");
        assert_eq!(outage.failed("sweep", &right), Say::Again);
        // An outage beside the fault that a person must fix.
        assert_eq!(outage.failed("sweep", &StoreError::transient("away")), Say::Began);
        assert!(outage.worked("claim"));
        assert!(outage.worked("sweep"));
        assert_eq!(outage.failed("sweep", &right), Say::Mend);
    }
}
