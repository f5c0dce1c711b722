//! [`Source`] and [`Reading`]: the numbers of a part, read on request.

use std::borrow::Cow;
use std::fmt;
use std::future::{Future, ready};
use std::pin::Pin;

use crate::vocabulary::instrument::Instrument;
use crate::vocabulary::metric_names;
use crate::vocabulary::name::Name;
use crate::vocabulary::pattern::Pattern;

/// A part that reports numbers. Every handle of this crate is one, and so are executors, relays and
/// stores of the other crates.
///
/// A [`Sampler`](crate::telemetry::Sampler) reads its sources for the `metrics` facade or a status page.
pub trait Source: Send + Sync {
    /// Adds the current numbers to `reading`. It must not block.
    fn read(&self, reading: &mut Reading);

    /// Describes and registers the counters that the part raises by itself, so that a counter that
    /// stays 0 is exported too. Default: registers nothing.
    #[cfg(feature = "metrics")]
    fn register(&self) {}

    /// Asks a store for the numbers that [`read`](Self::read) adds. Default: asks nothing, for a
    /// source without a store.
    ///
    /// # Errors
    /// Returns the text of the failure. The numbers of the last success stay in force.
    fn refresh(&self) -> Refresh<'_> {
        Box::pin(ready(Ok(())))
    }
}

/// The future of [`Source::refresh`]. Dropping it keeps the numbers of the last success.
pub type Refresh<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// Makes a struct of the numbers that a handle returns. Behind the colon are the traits that it
/// derives besides the traits of every snapshot.
macro_rules! snapshot {
    ($(#[$meta:meta])+ pub struct $name:ident: $also:ident $(+ $more:ident)* { $($fields:tt)+ }) => {
        $(#[$meta])+
        #[non_exhaustive]
        #[derive(Clone, PartialEq, Debug, $also $(, $more)*)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize))]
        pub struct $name {
            $($fields)+
        }
    };
}
pub(crate) use snapshot;

/// Makes a [`Source`] of the handle of a pattern with an instance per key. Behind the pattern are the
/// counts that all keys share, each with its metric.
macro_rules! keyed_source {
    ($pattern:ident, $($field:ident => $instrument:ident,)+) => {
        impl<K: std::hash::Hash + Eq + Clone + Send + Sync> Source for KeyedHandle<K> {
            fn read(&self, reading: &mut Reading) {
                let (stats, layer) = (self.stats(), self.common().layer());
                reading.add_keys(layer, Pattern::$pattern, stats.keys, stats.max_keys);
                $(reading.add_counted(&all::$instrument, layer.as_str(), stats.$field.into());)+
            }

            #[cfg(feature = "metrics")]
            fn register(&self) {
                self.common().register();
            }
        }
    };
}
pub(crate) use keyed_source;

/// One number of a [`Reading`].
#[non_exhaustive]
#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    /// The metric.
    pub instrument: &'static Instrument,
    /// The values of the labels, in the order of [`Instrument::labels`].
    pub labels: Vec<Cow<'static, str>>,
    /// The number, in the unit of the metric.
    pub value: f64,
}

impl Sample {
    /// Returns the value of the label `name`.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        let mut labels = self.instrument.labels.iter().zip(&self.labels);
        labels.find(|(label, _)| **label == name).map(|(_, value)| &**value)
    }
}

/// Numbers that were read from several sources, one source after another.
#[derive(Clone, Default)]
pub struct Reading {
    samples: Vec<Sample>,
}

impl Reading {
    /// Creates an empty reading.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the number of keys that a layer of `pattern` holds, and the greatest number.
    pub(crate) fn add_keys(&mut self, layer: Name, pattern: Pattern, keys: usize, most: usize) {
        let labels = [layer.as_str(), pattern.as_str()];
        self.add_count(&metric_names::KEYED_KEYS, labels, keys as u64);
        self.add_count(&metric_names::KEYED_LIMIT, labels, most as u64);
    }

    /// Adds a count that exists only if the layer counts its calls.
    pub(crate) fn add_counted(
        &mut self,
        instrument: &'static Instrument,
        label: &'static str,
        count: Option<u64>,
    ) {
        if let Some(count) = count {
            self.add_count(instrument, [label], count);
        }
    }

    /// Adds a number of `instrument`. `labels` are the values in the order of
    /// [`Instrument::labels`].
    ///
    /// # Panics
    /// Panics in debug builds, if the number of values is not the number of labels.
    pub fn add<L: Into<Cow<'static, str>>>(
        &mut self,
        instrument: &'static Instrument,
        labels: impl IntoIterator<Item = L>,
        value: f64,
    ) {
        let labels: Vec<_> = labels.into_iter().map(Into::into).collect();
        debug_assert_eq!(labels.len(), instrument.labels.len(), "labels of {}", instrument.name);
        self.samples.push(Sample { instrument, labels, value });
    }

    /// Adds a count. Otherwise like [`add`](Self::add).
    ///
    /// # Panics
    /// Panics in debug builds, if the number of values is not the number of labels.
    pub fn add_count<L: Into<Cow<'static, str>>>(
        &mut self,
        instrument: &'static Instrument,
        labels: impl IntoIterator<Item = L>,
        count: u64,
    ) {
        self.add(instrument, labels, count as f64);
    }

    /// Returns the numbers, in the order of the sources.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Returns the number of the metric `name` whose labels include all of `labels`.
    #[must_use]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has_all =
            |sample: &Sample| labels.iter().all(|(name, value)| sample.label(name) == Some(*value));
        let mut samples = self.samples.iter();
        samples.find(|sample| sample.instrument.name == name && has_all(sample)).map(|it| it.value)
    }
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |sample: &Sample| (sample.instrument.name, sample.labels.clone(), sample.value);
        f.debug_list().entries(self.samples.iter().map(line)).finish()
    }
}
