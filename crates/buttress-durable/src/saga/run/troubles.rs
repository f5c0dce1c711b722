//! Failures of an executor's store: the first wait after a failure, and log lines. `outage.rs` decides how the waits
//! grow, and which failures are logged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use buttress::StoreError;

use crate::causes::WithCauses;
use crate::outage::{Outage, Say};

/// An operation that executors repeat after a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::saga) enum Operation {
    Renew,
    Recover,
    Write,
    Wake,
    Signals,
    Child,
}

impl Operation {
    const COUNT: usize = 6;

    const fn doing(self) -> &'static str {
        match self {
            Self::Renew => "renewing the lease",
            Self::Recover => "looking for sagas to recover",
            Self::Write => "writing to the log of a saga",
            Self::Wake => "looking for sagas whose wait is over",
            Self::Signals => "reading the signals of a saga",
            Self::Child => "asking for a child saga",
        }
    }
}

/// The failures of all sagas of an executor. One outage makes one line at its start and one at its
/// end.
#[derive(Debug, Default)]
pub(in crate::saga) struct Troubles {
    /// Whether anything has failed since it last worked. Operations that succeed read only this
    /// flag.
    on: AtomicBool,
    outage: Mutex<Outage<{ Operation::COUNT }>>,
}

impl Troubles {
    /// Whether anything has failed since it last worked.
    pub(in crate::saga) fn are_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Records that the store failed to do `operation`. Returns how long to wait before the
    /// operation is repeated; `first` is the wait after the first failure.
    pub(in crate::saga) fn failed(
        &self,
        layer: &str,
        operation: Operation,
        error: &StoreError,
        first: Duration,
        now: Instant,
    ) -> Duration {
        let (say, wait) = {
            let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
            self.on.store(true, Ordering::Relaxed);
            outage.failed(operation as usize, error, first, now)
        };
        let doing = operation.doing();
        match say {
            Say::Began => tracing::warn!(
                target: "buttress", layer, doing, error = %WithCauses(error),
                "the executor's store does not answer; the executor repeats the operation after growing waits"
            ),
            Say::Mend => tracing::error!(
                target: "buttress", layer, doing, error = %WithCauses(error),
                "an operator must fix the executor's store; the executor repeats the operation once a minute"
            ),
            Say::Nothing => {
                tracing::debug!(target: "buttress", layer, doing, error = %WithCauses(error), ?wait, "the store failed");
            }
        }
        wait
    }

    /// Records that the store did `operation`.
    pub(in crate::saga) fn worked(&self, layer: &str, operation: Operation, now: Instant) {
        let lasted = {
            let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
            let lasted = outage.worked(operation as usize, now);
            self.on.store(outage.is_on(), Ordering::Relaxed);
            lasted
        };
        if let Some(lasted) = lasted {
            let doing = operation.doing();
            tracing::info!(
                target: "buttress", layer, doing, ?lasted, "the executor's store works again"
            );
        }
    }
}
