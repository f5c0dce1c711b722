//! The metrics of a relay, for a sampler.

use buttress::telemetry::{Reading, Source};

use super::relay::RelayHandle;
use crate::metric_names as all;

impl Source for RelayHandle {
    fn read(&self, reading: &mut Reading) {
        let (stats, layer) = (self.stats(), [self.layer().as_str()]);
        let counters = [
            (&all::OUTBOX_WRITTEN, stats.written),
            (&all::OUTBOX_RELAYED, stats.relayed),
            (&all::OUTBOX_FAILED, stats.failed),
            (&all::OUTBOX_REDELIVERED, stats.redelivered),
            (&all::OUTBOX_DEAD_LETTERS, stats.dead),
            (&all::OUTBOX_POLLS, stats.poll_cycles),
            (&all::OUTBOX_STORE_FAILED, stats.store_failed),
            (&all::OUTBOX_PARTITIONS, stats.partitions),
            (&all::OUTBOX_RUNNING, stats.in_flight),
        ];
        for (instrument, number) in counters {
            reading.add_count(instrument, layer, number);
        }
        reading.add(&all::OUTBOX_LAG_AVERAGE, layer, stats.lag_average.as_secs_f64());
        reading.add(&all::OUTBOX_LAG_MAX, layer, stats.lag_max.as_secs_f64());
    }

    #[cfg(feature = "metrics")]
    fn register(&self) {
        all::OUTBOX_LAG.describe();
        let _registered = lag_histogram(self.layer());
    }
}

/// Records the lags of delivered messages.
#[cfg(feature = "metrics")]
pub(super) fn record_lags(layer: buttress::Name, lags: &[std::time::Duration]) {
    if !lags.is_empty() {
        let histogram = lag_histogram(layer);
        lags.iter().for_each(|lag| histogram.record(*lag));
    }
}

#[cfg(feature = "metrics")]
fn lag_histogram(layer: buttress::Name) -> metrics::Histogram {
    use metrics::{Key, Label, Level, Metadata};

    static METADATA: Metadata<'static> = Metadata::new("buttress", Level::INFO, Some("buttress"));
    let labels = vec![Label::from_static_parts("layer", layer.as_str())];
    let key = Key::from_parts(all::OUTBOX_LAG.name, labels);
    metrics::with_recorder(|recorder| recorder.register_histogram(&key, &METADATA))
}
