//! [`Instrument`]: the definition of one metric.

use crate::vocabulary::words::words;

/// The kind of a metric.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum InstrumentKind {
    /// A number that only grows.
    Counter,
    /// A number that rises and falls.
    Gauge,
    /// A distribution of numbers.
    Histogram,
}

words! {
    /// Returns the kind in lower case: `counter`, `gauge` or `histogram`.
    InstrumentKind {
        Counter => "counter", Gauge => "gauge", Histogram => "histogram",
    }
}

/// The unit of a metric.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Unit {
    /// A count of calls, keys or other items.
    Count,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

words! {
    /// Returns the unit in lower case: `count`, `seconds` or `bytes`.
    Unit {
        Count => "count", Seconds => "seconds", Bytes => "bytes",
    }
}

/// The definition of one metric: its name, kind, unit, labels and description.
///
/// The name and the labels follow the conventions of OpenTelemetry: lower case, a namespace before
/// each dot, and no unit in the name.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Instrument {
    /// The name, for example `buttress.bulkhead.permits.used`.
    pub name: &'static str,
    /// The kind of the metric.
    pub kind: InstrumentKind,
    /// The unit of the numbers.
    pub unit: Unit,
    /// The names of the labels.
    pub labels: &'static [&'static str],
    /// The meaning of the numbers, in one sentence.
    pub description: &'static str,
}

impl Instrument {
    /// Defines a counter with the unit [`Unit::Count`].
    #[must_use]
    pub const fn counter(
        name: &'static str,
        labels: &'static [&'static str],
        description: &'static str,
    ) -> Self {
        Self { name, kind: InstrumentKind::Counter, unit: Unit::Count, labels, description }
    }

    /// Defines a gauge.
    #[must_use]
    pub const fn gauge(
        name: &'static str,
        unit: Unit,
        labels: &'static [&'static str],
        description: &'static str,
    ) -> Self {
        Self { name, kind: InstrumentKind::Gauge, unit, labels, description }
    }

    /// Defines a histogram.
    #[must_use]
    pub const fn histogram(
        name: &'static str,
        unit: Unit,
        labels: &'static [&'static str],
        description: &'static str,
    ) -> Self {
        Self { name, kind: InstrumentKind::Histogram, unit, labels, description }
    }

    /// Registers the description with the recorder of the `metrics` facade.
    #[cfg(feature = "metrics")]
    pub fn describe(&self) {
        let unit = match self.unit {
            Unit::Count => metrics::Unit::Count,
            Unit::Seconds => metrics::Unit::Seconds,
            Unit::Bytes => metrics::Unit::Bytes,
        };
        let (name, says) = (self.name.into(), self.description.into());
        metrics::with_recorder(|recorder| match self.kind {
            InstrumentKind::Counter => recorder.describe_counter(name, Some(unit), says),
            InstrumentKind::Gauge => recorder.describe_gauge(name, Some(unit), says),
            InstrumentKind::Histogram => recorder.describe_histogram(name, Some(unit), says),
        });
    }
}

/// Defines a static for each metric, and a list of all metrics.
macro_rules! instruments {
    ($(#[doc = $doc:literal])* $list:ident; $($name:ident = $made:expr;)+) => {
        $(pub(crate) static $name: Instrument = $made;)+

        $(#[doc = $doc])*
        pub static $list: &[&Instrument] = &[$(&$name),+];
    };
}
pub(crate) use instruments;
