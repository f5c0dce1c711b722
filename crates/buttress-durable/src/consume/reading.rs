//! The metrics of a consumer, for a sampler.

use buttress::telemetry::{Reading, Source};

use super::handle::ConsumerHandle;
use crate::metric_names as all;

impl Source for ConsumerHandle {
    fn read(&self, reading: &mut Reading) {
        let (stats, layer) = (self.stats(), [self.layer().as_str()]);
        let paused = u64::from(self.is_paused());
        for (instrument, number) in [
            (&all::CONSUMER_RECEIVED, stats.received),
            (&all::CONSUMER_JOINED, stats.joined),
            (&all::CONSUMER_HANDLED, stats.handled),
            (&all::CONSUMER_RETRIED, stats.retried),
            (&all::CONSUMER_DEAD_LETTERS, stats.dead),
            (&all::CONSUMER_REPLAYED, stats.replayed),
            (&all::CONSUMER_LEFT_OUT, stats.left_out),
            (&all::CONSUMER_RETURNED, stats.returned),
            (&all::CONSUMER_REVOKED, stats.revoked),
            (&all::CONSUMER_LATE, stats.late),
            (&all::CONSUMER_LOST, stats.lost),
            (&all::CONSUMER_FAILED, stats.failed_operations),
            (&all::CONSUMER_RUNNING, stats.running),
            (&all::CONSUMER_HELD, stats.held),
            (&all::CONSUMER_PAUSED, paused),
        ] {
            reading.add_count(instrument, layer, number);
        }
    }
}
