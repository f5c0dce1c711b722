//! [`Rules`]: the limits and retries of one step.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use buttress::{AsRefusal, Name};
use tower::BoxError;

use crate::caught::caught;
use crate::saga::model::invalid::InvalidDefinition;
use crate::saga::model::plan::{Kind, OnCrash, StepPlan};
use crate::saga::model::retry::Retry;

/// The limits and retries of one step. `None` leaves them to the executor.
#[derive(Clone, Debug, Default)]
pub(in crate::saga) struct Rules {
    pub timeout: Option<Duration>,
    pub undo_timeout: Option<Duration>,
    pub undo_retry: Option<Retry>,
    pub run_again: Option<Retry>,
    pub hint: Option<Hint>,
}

impl Rules {
    /// Checks the rules of the step `plan` of a saga called `saga`.
    pub(in crate::saga) fn check(
        &self,
        saga: Name,
        plan: &StepPlan,
    ) -> Result<(), InvalidDefinition> {
        let step = plan.name;
        if plan.waits.is_some() || plan.runs_child {
            let waits = plan.waits.is_some();
            let settings = [
                ("timeout", self.timeout.is_some()),
                ("undo_timeout", self.undo_timeout.is_some()),
                ("undo_retry", self.undo_retry.is_some()),
                ("run_again", self.run_again.is_some()),
                ("hint", self.hint.is_some()),
                ("kind", waits && plan.kind != Kind::default()),
                ("on_crash", plan.on_crash != OnCrash::default()),
            ];
            let why = if waits { "waits" } else { "runs a child saga" };
            let set = settings.into_iter().find(|(_, is_set)| *is_set);
            return set.map_or(Ok(()), |(setting, _)| {
                Err(InvalidDefinition::UselessSetting { saga, step, setting, why })
            });
        }
        for (setting, limit) in [("timeout", self.timeout), ("undo_timeout", self.undo_timeout)] {
            if limit.is_some_and(|limit| limit.is_zero()) {
                return Err(InvalidDefinition::ZeroTimeout { saga, step, setting });
            }
        }
        let retries = [
            ("undo_retry", self.undo_retry, plan.has_undo, "has no undo"),
            ("run_again", self.run_again, plan.kind != Kind::Compensatable, "is compensatable"),
        ];
        for (setting, retry, has_effect, why) in retries {
            let Some(retry) = retry else { continue };
            if !has_effect {
                return Err(InvalidDefinition::UselessSetting { saga, step, setting, why });
            }
            retry.check("attempts").map_err(|error| InvalidDefinition::InvalidRetry {
                saga,
                step,
                setting,
                error,
            })?;
        }
        Ok(())
    }
}

/// A function of the user's that reads from an error how long the service asks callers to wait.
#[derive(Clone)]
pub(in crate::saga) struct Hint(Arc<Read>);

type Read = dyn Fn(&(dyn Error + 'static)) -> Option<Duration> + Send + Sync;

impl Hint {
    pub(in crate::saga) fn new(
        read: impl Fn(&(dyn Error + 'static)) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(read))
    }

    /// Returns how long `error` asks callers to wait. Without a function of the user's, only refusals of layers do.
    pub(in crate::saga) fn read(hint: Option<&Self>, error: &BoxError) -> Option<Duration> {
        match hint {
            // A function that panics has no hint.
            Some(Self(read)) => caught(|| read(&**error)).ok().flatten(),
            // It asks for the source of the error, which is user code.
            None => {
                caught(|| error.as_refusal().and_then(|error| error.retry_after())).ok().flatten()
            }
        }
    }
}

impl fmt::Debug for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hint").finish_non_exhaustive()
    }
}
