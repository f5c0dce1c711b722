//! A recorder of the `metrics` facade that keeps all descriptions, registrations and values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

/// A series: the name, and the labels with their values.
pub(super) type Series = (String, BTreeMap<String, String>);

#[derive(Default, Debug)]
pub(super) struct Kept {
    /// Name, kind and unit.
    pub described: BTreeSet<(String, &'static str, &'static str)>,
    /// The kind and the value of each series. For a histogram, the number of its values.
    pub series: BTreeMap<Series, (&'static str, f64)>,
}

#[derive(Clone, Default)]
pub(super) struct Keeper(Arc<Mutex<Kept>>);

impl Keeper {
    pub(super) fn kept<T>(&self, look: impl FnOnce(&Kept) -> T) -> T {
        look(&self.0.lock().unwrap())
    }

    /// Returns the value of the series of `name` that has all of `labels`.
    pub(super) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.kept(|kept| {
            let fits = |(own, all): &Series| {
                let has =
                    |(label, value): &(&str, &str)| all.get(*label).is_some_and(|own| own == value);
                own == name && labels.iter().all(has)
            };
            kept.series.iter().find(|(series, _)| fits(series)).map(|(_, (_, number))| *number)
        })
    }

    fn describe(&self, name: KeyName, kind: &'static str, unit: Option<Unit>, says: &SharedString) {
        assert!(!says.is_empty());
        self.0.lock().unwrap().described.insert((
            name.as_str().to_owned(),
            kind,
            unit.map_or("none", |unit| unit.as_str()),
        ));
    }

    fn register(&self, key: &Key, kind: &'static str) -> Arc<One> {
        let labels = key.labels().map(|one| (one.key().to_owned(), one.value().to_owned()));
        let series: Series = (key.name().to_owned(), labels.collect());
        self.0.lock().unwrap().series.entry(series.clone()).or_insert((kind, 0.0));
        Arc::new(One { keeper: self.clone(), series })
    }
}

struct One {
    keeper: Keeper,
    series: Series,
}

impl One {
    fn change(&self, change: impl FnOnce(f64) -> f64) {
        let mut kept = self.keeper.0.lock().unwrap();
        let (_, number) = kept.series.get_mut(&self.series).unwrap();
        *number = change(*number);
    }
}

impl CounterFn for One {
    fn increment(&self, by: u64) {
        self.change(|now| now + by as f64);
    }

    fn absolute(&self, value: u64) {
        self.change(|now| now.max(value as f64));
    }
}

impl GaugeFn for One {
    fn increment(&self, by: f64) {
        self.change(|now| now + by);
    }

    fn decrement(&self, by: f64) {
        self.change(|now| now - by);
    }

    fn set(&self, value: f64) {
        self.change(|_| value);
    }
}

impl HistogramFn for One {
    fn record(&self, _: f64) {
        self.change(|now| now + 1.0);
    }
}

impl Recorder for Keeper {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, says: SharedString) {
        self.describe(name, "counter", unit, &says);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, says: SharedString) {
        self.describe(name, "gauge", unit, &says);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, says: SharedString) {
        self.describe(name, "histogram", unit, &says);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.register(key, "counter"))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.register(key, "gauge"))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.register(key, "histogram"))
    }
}
