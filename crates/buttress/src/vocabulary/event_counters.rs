//! Counters of the `metrics` facade that grow when an event happens. [`metric_names`](all) defines their names.

use std::sync::OnceLock;

use metrics::{Counter, Key, Label, Level, Metadata};

use crate::vocabulary::error::ErrorKind;
use crate::vocabulary::instrument::Instrument;
use crate::vocabulary::metric_names as all;
use crate::vocabulary::name::Name;
use crate::vocabulary::observe::CircuitState;
use crate::vocabulary::pattern::Pattern;

/// A counter of a layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Metric {
    Refused(ErrorKind),
    CircuitChanged(CircuitState),
    Plain(Plain),
}

/// Makes the enum of counters whose only label is the layer, their pattern and their definition.
macro_rules! plain {
    ($($metric:ident: $pattern:ident = $instrument:ident,)+) => {
        /// A counter whose only label is the layer.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum Plain {
            $($metric,)+
        }

        impl Plain {
            const ALL: &'static [Self] = &[$(Self::$metric),+];

            const fn pattern(self) -> Pattern {
                match self { $(Self::$metric => Pattern::$pattern,)+ }
            }

            const fn instrument(self) -> &'static Instrument {
                match self { $(Self::$metric => &all::$instrument,)+ }
            }
        }
    };
}

plain! {
    Retried: Retry = RETRY_RETRIES,
    Exhausted: Retry = RETRY_EXHAUSTED,
    FellBack: Fallback = FALLBACK_USED,
    FallbackFailed: Fallback = FALLBACK_FAILED,
    Replayed: Idempotency = IDEMPOTENCY_REPLAYED,
    TakenOver: Idempotency = IDEMPOTENCY_TAKEN_OVER,
    ClaimLost: Idempotency = IDEMPOTENCY_CLAIMS_LOST,
    ResultNotKept: Idempotency = IDEMPOTENCY_NOT_KEPT,
    StoreFailed: Idempotency = IDEMPOTENCY_STORE_FAILED,
}

/// Where the states of a circuit and the plain counters begin among the [`Keys`], after the kinds.
const STATES: usize = ErrorKind::ALL.len();
const PLAIN: usize = STATES + CircuitState::ALL.len();
const KEYS: usize = PLAIN + Plain::ALL.len();

static METADATA: Metadata<'static> = Metadata::new("buttress", Level::INFO, Some("buttress"));

impl Metric {
    fn all() -> impl Iterator<Item = Self> {
        let refused = ErrorKind::ALL.iter().map(|kind| Self::Refused(*kind));
        let changed = CircuitState::ALL.iter().map(|to| Self::CircuitChanged(*to));
        refused.chain(changed).chain(Plain::ALL.iter().map(|plain| Self::Plain(*plain)))
    }

    fn index(self) -> usize {
        match self {
            Self::Refused(kind) => kind as usize,
            Self::CircuitChanged(to) => STATES + to as usize,
            Self::Plain(plain) => PLAIN + plain as usize,
        }
    }

    /// Returns `true` if layers of `pattern`, with or without a state per key, raise this counter.
    fn is_of(self, pattern: Pattern, keyed: bool) -> bool {
        match self {
            Self::Refused(kind) => pattern.reports(kind, keyed),
            Self::CircuitChanged(_) => pattern == Pattern::CircuitBreaker,
            Self::Plain(plain) => plain.pattern() == pattern,
        }
    }

    pub(crate) const fn instrument(self) -> &'static Instrument {
        match self {
            Self::Refused(kind) => kind.metric(),
            Self::CircuitChanged(_) => &all::CIRCUIT_TRANSITIONS,
            Self::Plain(plain) => plain.instrument(),
        }
    }

    fn key(self, layer: Name) -> Key {
        let layer = Label::from_static_parts("layer", layer.as_str());
        let labels = match self {
            Self::Refused(kind) => vec![layer, Label::from_static_parts("kind", kind.as_str())],
            Self::CircuitChanged(to) => vec![layer, Label::from_static_parts("to", to.as_str())],
            Self::Plain(_) => vec![layer],
        };
        Key::from_parts(self.instrument().name, labels)
    }
}

/// The metric keys of one layer. Each is made on first use, because a key is a vector of labels. A
/// clone starts empty, because it may get another name.
#[derive(Default)]
pub(crate) struct Keys(OnceLock<Box<[OnceLock<Key>; KEYS]>>);

impl Clone for Keys {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Keys {
    /// Adds one to the counter of `metric` in the recorder that is installed now.
    pub(crate) fn count(&self, layer: Name, metric: Metric) {
        if let Some(counter) = self.counter(layer, metric) {
            counter.increment(1);
        }
    }

    /// Describes and registers every counter that layers of `pattern`, with or without a state per
    /// key, can raise. So a counter that stays 0 is exported too.
    pub(crate) fn register(&self, layer: Name, pattern: Pattern, keyed: bool) {
        for metric in Metric::all().filter(|metric| metric.is_of(pattern, keyed)) {
            metric.instrument().describe();
            let _registered = self.counter(layer, metric);
        }
    }

    fn counter(&self, layer: Name, metric: Metric) -> Option<Counter> {
        let keys = self.0.get_or_init(|| Box::new(std::array::from_fn(|_| OnceLock::new())));
        let Some(key) = keys.get(metric.index()) else {
            debug_assert!(false, "a metric without a place among the keys");
            return None;
        };
        let key = key.get_or_init(|| metric.key(layer));
        Some(metrics::with_recorder(|recorder| recorder.register_counter(key, &METADATA)))
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_its_own_place_among_the_keys() {
        let places: Vec<usize> = Metric::all().map(Metric::index).collect();
        assert_eq!(places, (0..KEYS).collect::<Vec<_>>());
    }

    #[test]
    fn a_kind_is_counted_by_a_metric_of_refusals_and_reported_by_a_pattern() {
        for kind in ErrorKind::ALL {
            let instrument = Metric::Refused(*kind).instrument();
            assert_eq!(instrument.labels, ["layer", "kind"], "{kind}");
            assert_ne!(instrument.name, all::CIRCUIT_TRANSITIONS.name, "{kind}");
            assert!(!Pattern::that_report(*kind).is_empty(), "{kind}");
        }
    }
}
