//! The log lines, counters and hook at the end of a run.

use buttress::{Codec, StoreErrorKind};

use super::Run;
use crate::caught::caught;
use crate::causes::WithCauses;
use crate::saga::error::SagaError;
use crate::saga::model::entry::Status;
use crate::saga::report::Report;
use crate::saga::run::counters::Counter;
use crate::saga::store::Store;

impl<I, F, St> Run<I, F, St>
where
    I: Send + Sync + 'static,
    F: Codec<I>,
    St: Store<F::Encoded>,
{
    /// Counts and logs the end of the run, and calls the hook of the user.
    pub(super) fn log_end(&self, result: &Result<Report, SagaError>) {
        let core = &self.core;
        match result {
            Ok(report) => {
                core.counters.add(match report.status() {
                    Status::Completed => Counter::Completed,
                    Status::Compensated => Counter::Compensated,
                    _ => Counter::Stuck,
                });
                if report.status() == Status::Stuck {
                    tracing::error!(
                        target: "buttress", layer = core.config.layer().as_str(), saga = %self.id,
                        reason = report.reason(), "a saga is stuck"
                    );
                }
                if let Some(Err(why)) =
                    core.config.on_end.as_ref().map(|hook| caught(|| hook(report)))
                {
                    tracing::error!(
                        target: "buttress", layer = core.config.layer().as_str(), saga = %self.id, why,
                        "the hook for the end of sagas failed"
                    );
                }
            }
            Err(error) => {
                if matches!(error, SagaError::Fenced { .. }) {
                    core.counters.add(Counter::Fenced);
                }
                let layer = core.config.layer().as_str();
                match error {
                    // The log has the outage already, and the caller gets the error.
                    SagaError::Store { error: store, .. } if store.may_pass() => {
                        tracing::debug!(target: "buttress", layer, error = %WithCauses(error), "the executor left a saga unfinished");
                    }
                    // The caller of the start gets the error. Often it only repeats a start.
                    SagaError::Store { error: store, .. }
                        if store.kind() == StoreErrorKind::Conflict && self.position == 0 =>
                    {
                        tracing::debug!(target: "buttress", layer, error = %WithCauses(error), "the executor did not start a saga");
                    }
                    _ => {
                        tracing::warn!(target: "buttress", layer, error = %WithCauses(error), "the executor left a saga unfinished");
                    }
                }
            }
        }
    }
}
