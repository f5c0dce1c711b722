//! [`Sampler`]: reads the numbers of many parts on request.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::sync::{Mutex, lock};
use crate::vocabulary::clock::Clock;
use crate::vocabulary::reading::{Reading, Source};

/// A reader of the numbers of many [sources](Source), on request.
///
/// To export the numbers, call `record` or `record_every`. Both methods exist only with the feature `metrics` of
/// `buttress`. Without this feature the compiler may suggest [`read`](Self::read), which returns the numbers and exports
/// nothing.
///
/// The sampler never starts a task. Cheap to clone. Clones have the same sources.
///
/// ```
/// use buttress::bulkhead;
/// use buttress::telemetry::Sampler;
///
/// let layer = bulkhead::Config::new().name("db").max_concurrent(2).build()?;
/// let sampler = Sampler::new();
/// sampler.watch(layer.handle());
/// let _permit = layer.handle().try_acquire()?;
/// let used = sampler.read().value("buttress.bulkhead.permits.used", &[("layer", "db")]);
/// assert_eq!(used, Some(1.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Sampler {
    sources: Arc<Mutex<Vec<Arc<dyn Source>>>>,
}

impl Sampler {
    /// Creates a sampler without sources.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a source. The sampler keeps the source for as long as a clone of the sampler lives.
    pub fn watch(&self, source: impl Source + 'static) {
        lock(&self.sources).push(Arc::new(source));
    }

    /// Reads every source and returns the numbers, e.g. for a status page. The last [`refresh`](Self::refresh) has read
    /// the numbers of stores.
    ///
    /// This method exports nothing. `record` passes the numbers to an exporter, and needs the feature `metrics`.
    #[must_use]
    pub fn read(&self) -> Reading {
        let mut reading = Reading::new();
        self.sources().iter().for_each(|source| source.read(&mut reading));
        reading
    }

    /// Asks the stores of the sources for new numbers, one source after another.
    ///
    /// Returns the failures. A source that failed keeps its last numbers.
    ///
    /// # Cancel safety
    /// Dropping the future keeps the last numbers of the sources that were not asked yet.
    pub async fn refresh(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for source in self.sources() {
            if let Err(failure) = source.refresh().await {
                tracing::warn!(target: "buttress", failure, "cannot read the numbers of a store");
                failures.push(failure);
            }
        }
        failures
    }

    /// Reads every source and passes the numbers to the recorder of the `metrics` facade. Call it
    /// before the exporter renders.
    ///
    /// It also describes the metrics, and registers the counters that layers raise by themselves. A
    /// layer that was made before the recorder was installed is registered by this call.
    #[cfg(feature = "metrics")]
    pub fn record(&self) {
        self.sources().iter().for_each(|source| source.register());
        for sample in self.read().samples() {
            record(sample);
        }
    }

    /// Refreshes and records every `period`, by `clock`, until the future is dropped. The first
    /// time is immediately.
    ///
    /// Spawn the future, or poll it beside the server.
    ///
    /// # Panics
    /// If tokio's clock is used outside of a runtime that has its time driver enabled.
    #[cfg(feature = "metrics")]
    pub async fn record_every(&self, period: Duration, clock: Clock) {
        loop {
            self.refresh().await;
            self.record();
            clock.sleep(period).await;
        }
    }

    /// Refreshes every `period`, by `clock`, until the future is dropped. The first time is immediately.
    ///
    /// # Panics
    /// If tokio's clock is used outside of a runtime that has its time driver enabled.
    pub async fn refresh_every(&self, period: Duration, clock: Clock) {
        loop {
            self.refresh().await;
            clock.sleep(period).await;
        }
    }

    fn sources(&self) -> Vec<Arc<dyn Source>> {
        lock(&self.sources).clone()
    }
}

#[cfg(feature = "metrics")]
fn record(sample: &crate::vocabulary::reading::Sample) {
    use metrics::{Key, Label, Level, Metadata};

    use crate::vocabulary::instrument::InstrumentKind;

    static METADATA: Metadata<'static> = Metadata::new("buttress", Level::INFO, Some("buttress"));
    let instrument = sample.instrument;
    instrument.describe();
    let labels = instrument.labels.iter().zip(&sample.labels);
    let labels = labels.map(|(name, value)| Label::new(*name, value.clone()));
    let key = Key::from_parts(instrument.name, labels.collect::<Vec<_>>());
    metrics::with_recorder(|recorder| match instrument.kind {
        // The number is not negative and only grows. It fits into 53 bits for 285 years of one
        // count per microsecond.
        InstrumentKind::Counter => {
            recorder.register_counter(&key, &METADATA).absolute(sample.value as u64);
        }
        InstrumentKind::Gauge => recorder.register_gauge(&key, &METADATA).set(sample.value),
        InstrumentKind::Histogram => {
            recorder.register_histogram(&key, &METADATA).record(sample.value);
        }
    });
}

impl fmt::Debug for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sampler").field("sources", &lock(&self.sources).len()).finish()
    }
}
