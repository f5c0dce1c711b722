//! A signal to a saga that waits for it, sent by two workers, and whether it counted as it should.

use std::time::Duration;

use buttress::{InMemoryValue, StoreErrorKind};
use buttress_durable::saga::{Builder, Entry, Record, SagaError, SagaId, SignalId};
use buttress_sim::crash::Process;

use super::store::History;
use super::workers::Worker;

/// The name of the signal.
const GO: &str = "go";
const PAYLOAD: u32 = 5;
/// The time until a sender repeats a signal that failed.
const AGAIN: Duration = Duration::from_secs(1);

/// The signal for which every saga waits after its first step.
#[derive(Clone, Copy)]
pub(super) struct Signal {
    /// When the first sender sends it.
    pub at: Duration,
    /// How long a saga waits for it.
    pub limit: Duration,
    /// Whether the saga continues without it.
    pub is_optional: bool,
}

impl Signal {
    pub(super) fn add_step(self, saga: &mut Builder<u32>) {
        let limit = Some(self.limit);
        match self.is_optional {
            true => drop(saga.step(GO).signal_or_none::<u32>(move |_, ()| limit)),
            false => drop(saga.step(GO).signal::<u32>(move |_, ()| limit)),
        }
    }

    /// Sends the signal to the first `sagas` sagas from `at` on, until the store has answered.
    pub(super) fn send(self, process: &Process, worker: &Worker, at: Duration, sagas: u128) {
        for id in (1..=sagas).map(SagaId::new) {
            let (process, worker) = (process.clone(), worker.clone());
            process.spawner().spawn(async move {
                process.clock().sleep(at).await;
                loop {
                    let sending = worker.signal(id, GO, PAYLOAD, SignalId::new(id.get()));
                    match process.call(sending).await {
                        Some(Err(SagaError::Unknown { .. })) => {}
                        Some(Err(SagaError::Store { error, .. }))
                            if error.kind() == StoreErrorKind::Transient => {}
                        // It is recorded, the saga has ended or unwinds, or this process has crashed.
                        _ => return,
                    }
                    process.clock().sleep(AGAIN).await;
                }
            });
        }
    }

    /// Returns the faults in the log of a saga.
    pub(super) fn fault(record: &Record<InMemoryValue>, history: &History) -> Option<String> {
        let taken = record.entries.iter().filter(|entry| matches!(entry, Entry::Signalled { .. }));
        let taken = taken.count();
        let recorded = history.signalled(record.id);
        match (taken, recorded) {
            (0 | 1, Some(_)) | (0, None) => {}
            _ => return Some(format!("{taken} signals in the log, recorded at {recorded:?}")),
        }
        // The store compares both in one step, so the wait has no end without a signal that was there.
        let without = record.entries.iter().zip(&record.times).find_map(|(entry, at)| {
            let is_end = match entry {
                Entry::WaitEnded { .. } => true,
                Entry::ActionFailed { why, .. } => {
                    why.as_deref().is_some_and(|why| why.starts_with("no signal"))
                }
                _ => false,
            };
            at.filter(|_| is_end)
        });
        match (without, recorded) {
            (Some(ended), Some(recorded)) if taken == 0 && recorded < ended => {
                Some(format!("the wait ended at {ended:?} without the signal of {recorded:?}"))
            }
            _ => None,
        }
    }
}
