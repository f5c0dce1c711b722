//! Counters of the `metrics` facade.

use std::sync::OnceLock;

use metrics::{Key, Label, Level, Metadata};

use crate::vocabulary::error::ErrorKind;
use crate::vocabulary::name::Name;
use crate::vocabulary::observe::CircuitState;

/// What is counted through the facade.
#[derive(Clone, Copy)]
pub(crate) enum Metric {
    Refused(ErrorKind),
    CircuitChanged(CircuitState),
    Plain(Plain),
}

/// Makes the enum of counters whose only label is the layer, and their names.
macro_rules! plain {
    ($($metric:ident = $name:literal,)+) => {
        /// A counter whose only label is the layer.
        #[derive(Clone, Copy)]
        pub(crate) enum Plain {
            $($metric,)+
        }

        impl Plain {
            const ALL: &'static [Self] = &[$(Self::$metric),+];

            const fn name(self) -> &'static str {
                match self { $(Self::$metric => $name,)+ }
            }
        }
    };
}

plain! {
    TimedOut = "buttress.time_limit.timed_out",
    Retried = "buttress.retry.retries",
    Exhausted = "buttress.retry.exhausted",
    FellBack = "buttress.fallback.used",
    FallbackFailed = "buttress.fallback.failed",
    Replayed = "buttress.idempotency.replayed",
    TakenOver = "buttress.idempotency.taken_over",
    ClaimLost = "buttress.idempotency.claims_lost",
    ResultNotKept = "buttress.idempotency.results_not_kept",
    StoreFailed = "buttress.idempotency.store_failed",
}

/// Where the states of a circuit and the plain counters begin among the [`Keys`], behind the kinds.
const STATES: usize = ErrorKind::ALL.len();
const PLAIN: usize = STATES + CircuitState::ALL.len();
const KEYS: usize = PLAIN + Plain::ALL.len();

impl Metric {
    fn index(self) -> usize {
        match self {
            Self::Refused(kind) => kind as usize,
            Self::CircuitChanged(to) => STATES + to as usize,
            Self::Plain(plain) => PLAIN + plain as usize,
        }
    }

    fn key(self, layer: Name) -> Key {
        let layer = Label::from_static_parts("layer", layer.as_str());
        match self {
            Self::Refused(kind) => {
                let kind_is = Label::from_static_parts("kind", kind.as_str());
                Key::from_parts(kind.metric(), vec![layer, kind_is])
            }
            Self::CircuitChanged(to) => {
                let to = Label::from_static_parts("to", to.as_str());
                Key::from_parts("buttress.circuit_breaker.transitions", vec![layer, to])
            }
            Self::Plain(plain) => Key::from_parts(plain.name(), vec![layer]),
        }
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
        let Some(key) = keys.get(metric.index()) else {
            debug_assert!(false, "a metric without room among the keys");
            return;
        };
        let key = key.get_or_init(|| metric.key(layer));
        metrics::with_recorder(|recorder| recorder.register_counter(key, &METADATA)).increment(1);
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_place_of_its_own_among_the_keys() {
        let refused = ErrorKind::ALL.iter().map(|kind| Metric::Refused(*kind));
        let changed = CircuitState::ALL.iter().map(|to| Metric::CircuitChanged(*to));
        let plain = Plain::ALL.iter().map(|plain| Metric::Plain(*plain));
        let places: Vec<usize> = refused.chain(changed).chain(plain).map(Metric::index).collect();
        assert_eq!(places, (0..KEYS).collect::<Vec<_>>());
    }
}
