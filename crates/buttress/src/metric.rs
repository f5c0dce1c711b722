//! Counters of the `metrics` facade.

use std::sync::OnceLock;

use metrics::{Key, Label, Level, Metadata};

use crate::error::ErrorKind;
use crate::name::Name;
use crate::observe::CircuitState;

/// What is counted through the facade.
#[derive(Clone, Copy)]
pub(crate) enum Metric {
    Refused(ErrorKind),
    TimedOut,
    CircuitChanged(CircuitState),
    Retried,
    Exhausted,
    FellBack,
    FallbackFailed,
    Replayed,
    TakenOver,
    ClaimLost,
    StoreFailed,
}

/// Where the kinds of refusal, the states of a circuit and the others begin among the [`Keys`].
const STATES: usize = 15;
const OTHERS: usize = STATES + 6;
const KEYS: usize = OTHERS + 9;

impl Metric {
    fn index(self) -> usize {
        match self {
            Self::Refused(kind) => kind as usize,
            Self::CircuitChanged(to) => STATES + to as usize,
            Self::TimedOut => OTHERS,
            Self::Retried => OTHERS + 1,
            Self::Exhausted => OTHERS + 2,
            Self::FellBack => OTHERS + 3,
            Self::FallbackFailed => OTHERS + 4,
            Self::Replayed => OTHERS + 5,
            Self::TakenOver => OTHERS + 6,
            Self::ClaimLost => OTHERS + 7,
            Self::StoreFailed => OTHERS + 8,
        }
    }

    fn key(self, layer: Name) -> Key {
        let layer = Label::from_static_parts("layer", layer.as_str());
        match self {
            Self::Refused(kind) => {
                let kind_is = Label::from_static_parts("kind", kind.as_str());
                Key::from_parts(refusals(kind), vec![layer, kind_is])
            }
            Self::CircuitChanged(to) => {
                let to = Label::from_static_parts("to", to.as_str());
                Key::from_parts("buttress.circuit_breaker.transitions", vec![layer, to])
            }
            Self::TimedOut => Key::from_parts("buttress.time_limit.timed_out", vec![layer]),
            Self::Retried => Key::from_parts("buttress.retry.retries", vec![layer]),
            Self::Exhausted => Key::from_parts("buttress.retry.exhausted", vec![layer]),
            Self::FellBack => Key::from_parts("buttress.fallback.used", vec![layer]),
            Self::FallbackFailed => Key::from_parts("buttress.fallback.failed", vec![layer]),
            Self::Replayed => Key::from_parts("buttress.idempotency.replayed", vec![layer]),
            Self::TakenOver => Key::from_parts("buttress.idempotency.taken_over", vec![layer]),
            Self::ClaimLost => Key::from_parts("buttress.idempotency.claims_lost", vec![layer]),
            Self::StoreFailed => Key::from_parts("buttress.idempotency.store_failed", vec![layer]),
        }
    }
}

fn refusals(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::CircuitOpen => "buttress.circuit_breaker.refused",
        ErrorKind::RateLimited => "buttress.rate_limit.refused",
        ErrorKind::BulkheadFull => "buttress.bulkhead.refused",
        ErrorKind::QueueTimeout => "buttress.queue.timed_out",
        ErrorKind::TooManyKeys => "buttress.keyed.refused",
        ErrorKind::TimedOut => "buttress.time_limit.timed_out",
        ErrorKind::KeyMissing
        | ErrorKind::KeyInvalid
        | ErrorKind::KeyReused
        | ErrorKind::KeyInFlight
        | ErrorKind::ClaimLost
        | ErrorKind::StoreUnavailable
        | ErrorKind::StoreFailed
        | ErrorKind::DetachedFull
        | ErrorKind::ShuttingDown => "buttress.idempotency.refused",
        ErrorKind::NoRoute
        | ErrorKind::Unauthorized
        | ErrorKind::AuthUnavailable
        | ErrorKind::NoBackend => "buttress.gateway.refused",
    }
}

/// The keys of one layer, each made when it is first counted: a key is a vector of labels, which a
/// refusal must not have to allocate. A copy begins empty, because it may be given another name.
#[derive(Default)]
pub(crate) struct Keys(OnceLock<Box<[OnceLock<Key>; KEYS]>>);

impl Clone for Keys {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Keys {
    /// Adds one to the counter of `metric` in the recorder of the day.
    pub(crate) fn count(&self, layer: Name, metric: Metric) {
        static METADATA: Metadata<'static> =
            Metadata::new("buttress", Level::INFO, Some(module_path!()));

        let keys = self.0.get_or_init(|| Box::new(std::array::from_fn(|_| OnceLock::new())));
        let Some(key) = keys.get(metric.index()) else { return };
        let key = key.get_or_init(|| metric.key(layer));
        metrics::with_recorder(|recorder| recorder.register_counter(key, &METADATA)).increment(1);
    }
}
