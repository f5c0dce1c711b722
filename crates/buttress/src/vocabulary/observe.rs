//! What layers tell: [`Event`], [`Observer`], `tracing`, and `metrics` behind its feature.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::vocabulary::clock::Clock;
use crate::vocabulary::error::Error;
#[cfg(feature = "metrics")]
use crate::vocabulary::metric::{Keys, Metric, Plain};
use crate::vocabulary::name::Name;
use crate::vocabulary::store_error::{StoreError, StoreErrorKind};

/// The state of a circuit, as operators see it.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CircuitState {
    /// Calls pass and are counted.
    Closed,
    /// Calls are refused until the open time has passed.
    Open,
    /// A few probes decide whether to close.
    HalfOpen,
    /// Refuses every call until told otherwise.
    ForcedOpen,
    /// Calls pass and nothing is counted.
    Disabled,
    /// Calls pass and are counted, but never open the circuit.
    MetricsOnly,
}

impl CircuitState {
    /// Every state, in the order of declaration.
    #[cfg(feature = "metrics")]
    pub(crate) const ALL: &'static [Self] = &[
        Self::Closed,
        Self::Open,
        Self::HalfOpen,
        Self::ForcedOpen,
        Self::Disabled,
        Self::MetricsOnly,
    ];

    /// The state in kebab case, for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
            Self::ForcedOpen => "forced-open",
            Self::Disabled => "disabled",
            Self::MetricsOnly => "metrics-only",
        }
    }
}

impl fmt::Display for CircuitState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something a layer did that is worth telling. Nothing is told of a call that was admitted and
/// succeeded.
#[non_exhaustive]
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A call was refused.
    Refused(Error),
    /// A call was cut short at its time limit.
    TimedOut(Error),
    /// A circuit changed its state.
    CircuitChanged {
        /// The state it left.
        from: CircuitState,
        /// The state it is in now.
        to: CircuitState,
        /// The number of the circuit within its layer: 0 for the only one, and in a keyed layer the order in
        /// which the circuits were made.
        circuit: u64,
    },
    /// An attempt failed and another one is due.
    Retrying {
        /// The number of the attempt that failed; the first is 1.
        attempt: u32,
        /// How long the next one waits.
        delay: Duration,
    },
    /// An attempt failed and no other follows, though the failure was worth one. Reported once per call.
    RetriesExhausted {
        /// How many attempts were made.
        attempts: u32,
        /// What forbade another.
        reason: GaveUp,
    },
    /// A fallback answered in place of the service.
    FellBack,
    /// The fallback failed too.
    FallbackFailed,
    /// A call got the answer of an earlier one with the same idempotency key.
    Replayed,
    /// A call that waited for another with its idempotency key runs in its place.
    TakenOver,
    /// Somebody else took an idempotency key over while its handler ran.
    ClaimLost,
    /// A call with an idempotency key did its work, and its result could not be kept.
    ResultNotKept,
    /// An operation of a store failed.
    StoreFailed {
        /// What can be done about it.
        kind: StoreErrorKind,
    },
    /// A live change of the configuration took effect.
    Reconfigured,
}

/// The log line that a failure of a store asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Say {
    /// The store has begun to fail.
    Began,
    /// A person must mend it.
    Mend,
    /// It was said before.
    Again,
}

/// Why a retry gave up on a failure that was worth another attempt.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GaveUp {
    /// Every attempt was used.
    Attempts,
    /// The next attempt would have begun after the total time limit.
    TotalTime,
    /// The shared budget had nothing left.
    Budget,
    /// The failure asked to be left alone for longer than this retry waits.
    LongHint,
    /// The request could not be repeated.
    Request,
    /// The service failed to become ready for the next attempt. The caller gets that error.
    NotReady,
}

/// Hears the events of the layers it is given to.
///
/// It is called on the task that caused the event, outside of every lock of this crate. It should be
/// quick and must not panic. A panic reaches the caller of the layer, and costs the layer nothing: no
/// permit, token, probe or place is lost. A closure `Fn(Name, &Event)` will do.
pub trait Observer: Send + Sync {
    /// `layer` did `event`.
    fn on_event(&self, layer: Name, event: &Event);
}

impl<F: Fn(Name, &Event) + Send + Sync> Observer for F {
    fn on_event(&self, layer: Name, event: &Event) {
        self(layer, event);
    }
}

/// What every configuration carries: the name, the clock and who listens.
#[derive(Clone, Default)]
pub(crate) struct Common {
    pub(crate) name: Name,
    pub(crate) clock: Clock,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    pub(crate) count_calls: bool,
    #[cfg(feature = "metrics")]
    pub(crate) keys: Keys,
}

impl fmt::Debug for Common {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Common").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The by-value setters that every `Config` shares.
macro_rules! common_setters {
    () => {
        /// The name in errors, events and metrics. Defaults to none.
        pub fn name(mut self, name: impl Into<$crate::Name>) -> Self {
            self.common.name = name.into();
            self
        }

        /// The clock. Defaults to tokio's.
        pub fn clock(mut self, clock: $crate::Clock) -> Self {
            self.common.clock = clock;
            self
        }

        /// Who else hears the events. Defaults to nobody; `tracing` always does.
        pub fn observer(mut self, observer: impl $crate::Observer + 'static) -> Self {
            self.common.observer = Some(std::sync::Arc::new(observer));
            self
        }

        /// Whether calls that pass are counted too. Defaults to no: it would be the only write on the
        /// healthy path. Refusals, failures and transitions are always counted.
        pub fn count_calls(mut self, count: bool) -> Self {
            self.common.count_calls = count;
            self
        }
    };
}
pub(crate) use common_setters;

impl Common {
    /// Tells of a refusal, which is made only if somebody listens.
    #[inline(always)]
    pub(crate) fn refused(&self, error: impl Fn() -> Error) {
        // Not behind a look at tracing's level: with its feature `log` a logger hears it too.
        tracing::debug!(
            target: "buttress",
            layer = self.name.as_str(),
            kind = error().kind().as_str(),
            retry_after = ?error().retry_after(),
            "call refused"
        );
        if self.observer.is_some() || cfg!(feature = "metrics") {
            self.tell_refused(error());
        }
    }

    #[cold]
    #[inline(never)]
    fn tell_refused(&self, error: Error) {
        #[cfg(feature = "metrics")]
        self.count(Metric::Refused(error.kind()));
        self.tell(|| Event::Refused(error));
    }

    pub(crate) fn timed_out(&self, error: &Error) {
        tracing::debug!(
            target: "buttress",
            layer = self.name.as_str(),
            limit = ?error.time_limit(),
            "time limit passed"
        );
        #[cfg(feature = "metrics")]
        self.count(Metric::Plain(Plain::TimedOut));
        self.tell(|| Event::TimedOut(error.clone()));
    }

    pub(crate) fn circuit_changed(&self, from: CircuitState, to: CircuitState, circuit: u64) {
        let (layer, from_text, to_text) = (self.name.as_str(), from.as_str(), to.as_str());
        if matches!(to, CircuitState::Open | CircuitState::ForcedOpen) {
            tracing::warn!(target: "buttress", layer, from = from_text, to = to_text, "circuit opened");
        } else {
            tracing::info!(target: "buttress", layer, from = from_text, to = to_text, "circuit changed");
        }
        #[cfg(feature = "metrics")]
        self.count(Metric::CircuitChanged(to));
        self.tell(|| Event::CircuitChanged { from, to, circuit });
    }

    pub(crate) fn retrying(&self, attempt: u32, delay: Duration) {
        tracing::debug!(target: "buttress", layer = self.name.as_str(), attempt, ?delay, "retrying");
        self.tell(|| Event::Retrying { attempt, delay });
    }

    /// Counts an attempt after the first, which is made now.
    pub(crate) fn retried(&self) {
        #[cfg(feature = "metrics")]
        self.count(Metric::Plain(Plain::Retried));
    }

    pub(crate) fn gave_up(&self, attempts: u32, reason: GaveUp) {
        tracing::debug!(target: "buttress", layer = self.name.as_str(), attempts, ?reason, "retries exhausted");
        #[cfg(feature = "metrics")]
        self.count(Metric::Plain(Plain::Exhausted));
        self.tell(|| Event::RetriesExhausted { attempts, reason });
    }

    pub(crate) fn fell_back(&self, failed: bool) {
        tracing::debug!(target: "buttress", layer = self.name.as_str(), failed, "fallback used");
        #[cfg(feature = "metrics")]
        self.count(Metric::Plain(if failed { Plain::FallbackFailed } else { Plain::FellBack }));
        self.tell(|| if failed { Event::FallbackFailed } else { Event::FellBack });
    }

    #[inline]
    pub(crate) fn replayed(&self) {
        tracing::debug!(target: "buttress", layer = self.name.as_str(), "answer replayed");
        #[cfg(feature = "metrics")]
        self.count(Metric::Plain(Plain::Replayed));
        self.tell(|| Event::Replayed);
    }

    pub(crate) fn taken_over(&self) {
        tracing::debug!(target: "buttress", layer = self.name.as_str(), "key taken over");
        #[cfg(feature = "metrics")]
        self.count(Metric::Plain(Plain::TakenOver));
        self.tell(|| Event::TakenOver);
    }

    pub(crate) fn claim_lost(&self) {
        tracing::warn!(target: "buttress", layer = self.name.as_str(), "claim lost");
        #[cfg(feature = "metrics")]
        self.count(Metric::Plain(Plain::ClaimLost));
        self.tell(|| Event::ClaimLost);
    }

    pub(crate) fn result_not_kept(&self) {
        tracing::warn!(target: "buttress", layer = self.name.as_str(), "result not kept");
        #[cfg(feature = "metrics")]
        self.count(Metric::Plain(Plain::ResultNotKept));
        self.tell(|| Event::ResultNotKept);
    }

    pub(crate) fn store_failed(&self, doing: &'static str, error: &StoreError, say: Say) {
        let layer = self.name.as_str();
        match say {
            Say::Began => tracing::warn!(target: "buttress", layer, doing, %error, "store failed"),
            Say::Mend => tracing::error!(
                target: "buttress", layer, doing, %error, "somebody must mend the store"
            ),
            Say::Again => tracing::debug!(target: "buttress", layer, doing, %error, "store failed"),
        }
        #[cfg(feature = "metrics")]
        self.count(Metric::Plain(Plain::StoreFailed));
        self.tell(|| Event::StoreFailed { kind: error.kind() });
    }

    pub(crate) fn store_works_again(&self, doing: &'static str) {
        tracing::info!(target: "buttress", layer = self.name.as_str(), doing, "store works again");
    }

    pub(crate) fn reconfigured(&self) {
        tracing::info!(target: "buttress", layer = self.name.as_str(), "reconfigured");
        self.tell(|| Event::Reconfigured);
    }

    /// Builds the event only if somebody listens. While a panic unwinds the thread, a second one, of the
    /// observer, would end the process: it is caught.
    fn tell(&self, event: impl FnOnce() -> Event) {
        let Some(observer) = &self.observer else { return };
        let event = event();
        let tell = || observer.on_event(self.name, &event);
        if !std::thread::panicking() {
            tell();
        } else if std::panic::catch_unwind(std::panic::AssertUnwindSafe(tell)).is_err() {
            tracing::error!(target: "buttress", layer = self.name.as_str(), "the observer panicked");
        }
    }

    #[cfg(feature = "metrics")]
    fn count(&self, metric: Metric) {
        self.keys.count(self.name, metric);
    }
}

#[cfg(all(test, feature = "metrics", not(buttress_loom)))]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use metrics::{
        Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    };

    use super::*;
    use crate::vocabulary::error::{ErrorKind, RetryAfter};

    /// Writes down which counters were increased.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<String>>>);

    struct One(Written, String);

    impl CounterFn for One {
        fn increment(&self, _by: u64) {
            self.0.0.lock().unwrap_or_else(PoisonError::into_inner).push(self.1.clone());
        }

        fn absolute(&self, _value: u64) {}
    }

    impl Recorder for Written {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            let labels = key.labels().map(|label| format!(" {}={}", label.key(), label.value()));
            let text = labels.fold(key.name().to_owned(), |text, label| text + &label);
            Counter::from_arc(Arc::new(One(self.clone(), text)))
        }

        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn a_refusal_of_every_kind_is_counted() {
        let written = Written::default();
        let common = Common { name: Name::from("db"), ..Common::default() };
        metrics::with_local_recorder(&written, || {
            for kind in ErrorKind::ALL {
                let error = Error::idempotency(*kind, common.name, 0, RetryAfter::UNKNOWN);
                common.refused(|| error.clone());
            }
        });
        let written = written.0.lock().unwrap();
        let expected: Vec<String> = ErrorKind::ALL
            .iter()
            .map(|kind| format!("{} layer=db kind={kind}", kind.metric()))
            .collect();
        assert_eq!(*written, expected);
    }

    #[test]
    fn what_is_told_is_counted_under_the_name_of_its_pattern() {
        let written = Written::default();
        let common = Common { name: Name::from("db"), ..Common::default() };
        metrics::with_local_recorder(&written, || {
            common.refused(|| Error::bulkhead_full(common.name, 1));
            common.timed_out(&Error::timed_out(common.name, Duration::from_secs(1)));
            common.circuit_changed(CircuitState::Closed, CircuitState::Open, 0);
            common.retrying(1, Duration::ZERO);
            common.retried();
            common.gave_up(3, GaveUp::Attempts);
            common.fell_back(false);
        });
        let expected = [
            "buttress.bulkhead.refused layer=db kind=bulkhead-full",
            "buttress.time_limit.timed_out layer=db",
            "buttress.circuit_breaker.transitions layer=db to=open",
            "buttress.retry.retries layer=db",
            "buttress.retry.exhausted layer=db",
            "buttress.fallback.used layer=db",
        ];
        assert_eq!(*written.0.lock().unwrap(), expected);
    }
}
