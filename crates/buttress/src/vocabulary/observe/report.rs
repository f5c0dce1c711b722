//! Reports of a layer: each is one log line, one count and one event.

use std::sync::Arc;
use std::time::Duration;

use super::common::Common;
use super::event::{Absence, CircuitState, Event, GaveUp};
use crate::vocabulary::causes::with_causes;
use crate::vocabulary::error::Error;
#[cfg(feature = "metrics")]
use crate::vocabulary::event_counters::{Metric, Plain};
use crate::vocabulary::name::Name;
use crate::vocabulary::store_error::StoreError;

/// The log line for a failure of a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Say {
    /// The store has begun to fail.
    Began,
    /// A person must fix the store.
    Mend,
    /// The failure was logged before.
    Again,
}

impl Common {
    /// Reports a refusal. The error is made only if a reader needs it.
    #[inline(always)]
    pub(crate) fn refused(&self, error: impl Fn() -> Error) {
        // Not skipped by tracing's level: with tracing's feature `log`, a logger receives the line
        // too.
        tracing::debug!(
            target: "buttress",
            layer = self.layer().as_str(),
            kind = error().kind().as_str(),
            retry_after = error().retry_after().map(tracing::field::debug),
            "the layer refused a call"
        );
        if self.observer.is_some() || cfg!(feature = "metrics") {
            self.report_refused(error());
        }
    }

    #[cold]
    #[inline(never)]
    fn report_refused(&self, error: Error) {
        #[cfg(feature = "metrics")]
        self.count(Metric::Refused(error.kind()));
        self.report(|| Event::Refused(error));
    }

    pub(crate) fn timed_out(&self, error: &Error) {
        tracing::debug!(
            target: "buttress",
            layer = self.layer().as_str(),
            limit = error.time_limit().map(tracing::field::debug),
            "the time limit of a call passed"
        );
        #[cfg(feature = "metrics")]
        self.count(Metric::Refused(error.kind()));
        self.report(|| Event::TimedOut(error.clone()));
    }

    pub(crate) fn circuit_changed(&self, from: CircuitState, to: CircuitState, circuit: u64) {
        let (layer, from_text, to_text) = (self.layer().as_str(), from.as_str(), to.as_str());
        if matches!(to, CircuitState::Open | CircuitState::ForcedOpen) {
            tracing::warn!(target: "buttress", layer, from = from_text, to = to_text, "the circuit opened");
        } else {
            tracing::info!(target: "buttress", layer, from = from_text, to = to_text, "the circuit changed its state");
        }
        #[cfg(feature = "metrics")]
        self.count(Metric::CircuitChanged(to));
        self.report(|| Event::CircuitChanged { from, to, circuit });
    }

    pub(crate) fn retrying(&self, attempt: u32, delay: Duration) {
        tracing::debug!(target: "buttress", layer = self.layer().as_str(), attempt, ?delay, "the retry attempts a call again");
        self.report(|| Event::Retrying { attempt, delay });
    }

    /// Counts an attempt after the first.
    pub(crate) fn retried(&self) {
        #[cfg(feature = "metrics")]
        self.count(Metric::Plain(Plain::Retried));
    }

    pub(crate) fn gave_up(&self, attempts: u32, reason: GaveUp) {
        tracing::debug!(target: "buttress", layer = self.layer().as_str(), attempts, reason = reason.as_str(), "the retry stops attempting a call");
        #[cfg(feature = "metrics")]
        self.count(Metric::Plain(Plain::Exhausted));
        self.report(|| Event::RetriesExhausted { attempts, reason });
    }

    pub(crate) fn fell_back(&self, failed: bool) {
        tracing::debug!(target: "buttress", layer = self.layer().as_str(), failed, "the layer used the fallback");
        #[cfg(feature = "metrics")]
        self.count(Metric::Plain(if failed { Plain::FallbackFailed } else { Plain::FellBack }));
        self.report(|| if failed { Event::FallbackFailed } else { Event::FellBack });
    }

    #[inline]
    pub(crate) fn replayed(&self) {
        tracing::debug!(target: "buttress", layer = self.layer().as_str(), "the layer replayed an answer");
        #[cfg(feature = "metrics")]
        self.count(Metric::Plain(Plain::Replayed));
        self.report(|| Event::Replayed);
    }

    pub(crate) fn taken_over(&self) {
        tracing::debug!(target: "buttress", layer = self.layer().as_str(), "a waiting call took a key over");
        #[cfg(feature = "metrics")]
        self.count(Metric::Plain(Plain::TakenOver));
        self.report(|| Event::TakenOver);
    }

    pub(crate) fn claim_lost(&self) {
        tracing::warn!(target: "buttress", layer = self.layer().as_str(), "another call took a key over while its handler ran");
        #[cfg(feature = "metrics")]
        self.count(Metric::Plain(Plain::ClaimLost));
        self.report(|| Event::ClaimLost);
    }

    pub(crate) fn result_not_kept(&self) {
        tracing::warn!(target: "buttress", layer = self.layer().as_str(), "the result of a call was not kept");
        #[cfg(feature = "metrics")]
        self.count(Metric::Plain(Plain::ResultNotKept));
        self.report(|| Event::ResultNotKept);
    }

    pub(crate) fn store_failed(&self, doing: &'static str, error: &StoreError, say: Say) {
        let layer = self.layer().as_str();
        match say {
            Say::Began => {
                tracing::warn!(target: "buttress", layer, doing, error = %with_causes(error), "the store failed");
            }
            Say::Mend => tracing::error!(
                target: "buttress", layer, doing, error = %with_causes(error), "an operator must fix the store"
            ),
            Say::Again => {
                tracing::debug!(target: "buttress", layer, doing, error = %with_causes(error), "the store failed");
            }
        }
        #[cfg(feature = "metrics")]
        self.count(Metric::Plain(Plain::StoreFailed));
        self.report(|| Event::StoreFailed { kind: error.kind() });
    }

    pub(crate) fn store_works_again(&self, doing: &'static str) {
        tracing::info!(target: "buttress", layer = self.layer().as_str(), doing, "the store works again");
    }

    pub(crate) fn endpoint_ejected(&self, endpoint: &Arc<str>, away: Duration) {
        tracing::warn!(target: "buttress", layer = self.layer().as_str(), %endpoint, ?away, "the balancer ejected an endpoint because the endpoint failed too often");
        self.report(|| Event::EndpointEjected { endpoint: endpoint.clone(), away });
    }

    pub(crate) fn endpoint_returned(&self, endpoint: &Arc<str>) {
        tracing::info!(target: "buttress", layer = self.layer().as_str(), %endpoint, "an ejected endpoint gets calls again");
        self.report(|| Event::EndpointReturned { endpoint: endpoint.clone() });
    }

    pub(crate) fn endpoint_not_ready(&self, endpoint: &Arc<str>, rest: Duration) {
        tracing::warn!(target: "buttress", layer = self.layer().as_str(), %endpoint, ?rest, "an endpoint failed to become ready and rests");
        self.report(|| Event::EndpointNotReady { endpoint: endpoint.clone(), rest });
    }

    pub(crate) fn endpoints_changed(&self, endpoints: usize, added: usize, removed: usize) {
        tracing::info!(target: "buttress", layer = self.layer().as_str(), endpoints, added, removed, "the set of endpoints changed");
        self.report(|| Event::EndpointsChanged { endpoints, added, removed });
    }

    pub(crate) fn panic_changed(&self, panic: bool) {
        let layer = self.layer().as_str();
        if panic {
            tracing::error!(target: "buttress", layer, "no endpoint is in, so calls go to endpoints that are out");
        } else {
            tracing::info!(target: "buttress", layer, "the balancer no longer uses endpoints that are out");
        }
        self.report(|| Event::PanicChanged { panic });
    }

    pub(crate) fn resolve_failed(&self, error: &StoreError, first: bool) {
        let layer = self.layer().as_str();
        if first {
            tracing::warn!(target: "buttress", layer, error = %with_causes(error), "the resolver failed, and the last set of endpoints stays");
        } else {
            tracing::debug!(target: "buttress", layer, error = %with_causes(error), "the resolver failed again");
        }
        self.report(|| Event::ResolveFailed { kind: error.kind() });
    }

    pub(crate) fn left_out(&self, error: &StoreError) {
        let layer = self.layer().as_str();
        tracing::warn!(target: "buttress", layer, error = %with_causes(error), "an instance is left out of the set of endpoints");
        self.report(|| Event::ResolveFailed { kind: error.kind() });
    }

    pub(crate) fn part_missing(&self, part: Name, reason: Absence) {
        let (layer, part_text, reason_text) =
            (self.layer().as_str(), part.as_str(), reason.as_str());
        tracing::debug!(target: "buttress", layer, part = part_text, reason = reason_text, "a part of an aggregate is missing");
        self.report(|| Event::PartMissing { part, reason });
    }

    pub(crate) fn fell_back_to_old(&self) {
        tracing::debug!(target: "buttress", layer = self.layer().as_str(), "the old side gets a request that the new side did not answer");
        self.report(|| Event::FellBackToOld);
    }

    pub(crate) fn answers_differ(&self, what: &str) {
        tracing::warn!(target: "buttress", layer = self.layer().as_str(), what, "the answers of a primary and its mirror differ");
        self.report(|| Event::AnswersDiffer { what: what.into() });
    }

    pub(crate) fn reconfigured(&self) {
        tracing::info!(target: "buttress", layer = self.layer().as_str(), "the configuration changed");
        self.report(|| Event::Reconfigured);
    }

    /// Builds the event only if there is an observer. A panic of the observer while another panic
    /// unwinds the thread would abort the process, so it is caught.
    fn report(&self, event: impl FnOnce() -> Event) {
        let Some(observer) = &self.observer else { return };
        let event = event();
        let notify = || observer.on_event(self.layer(), &event);
        if !std::thread::panicking() {
            notify();
        } else if std::panic::catch_unwind(std::panic::AssertUnwindSafe(notify)).is_err() {
            tracing::error!(target: "buttress", layer = self.layer().as_str(), "the observer panicked");
        }
    }

    #[cfg(feature = "metrics")]
    fn count(&self, metric: Metric) {
        self.keys.count(self.layer(), metric);
    }
}
