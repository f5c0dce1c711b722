use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{
    Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

use super::*;
use crate::vocabulary::error::{Error, ErrorKind, RetryAfter};
use crate::vocabulary::name::Name;

/// Records which counters were increased.
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
        .map(|kind| format!("{} layer=db kind={kind}", kind.metric().name))
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
        "buttress.time_limit.timed_out layer=db kind=timed-out",
        "buttress.circuit_breaker.transitions layer=db to=open",
        "buttress.retry.retries layer=db",
        "buttress.retry.exhausted layer=db",
        "buttress.fallback.used layer=db",
    ];
    assert_eq!(*written.0.lock().unwrap(), expected);
}
