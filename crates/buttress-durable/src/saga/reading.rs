//! The metrics of an executor, for a sampler.

use buttress::Codec;
use buttress::telemetry::{Reading, Source};

use crate::metric_names as all;
use crate::saga::run::executor::Executor;
use crate::saga::store::Store;

impl<I, F, St> Source for Executor<I, F, St>
where
    I: Send + Sync + 'static,
    F: Codec<I>,
    St: Store<F::Encoded>,
{
    fn read(&self, reading: &mut Reading) {
        let (stats, name) = (self.stats(), self.core.config.layer().as_str());
        let layer = [name];
        reading.add_count(&all::SAGA_STARTED, layer, stats.started);
        reading.add_count(&all::SAGA_RESUMED, layer, stats.resumed);
        reading.add_count(&all::SAGA_WOKEN, layer, stats.woken);
        reading.add_count(&all::SAGA_SIGNALLED, layer, stats.signalled);
        reading.add_count(&all::SAGA_FENCED, layer, stats.fenced);
        reading.add_count(&all::SAGA_STORE_FAILED, layer, stats.store_failed);
        reading.add_count(&all::SAGA_ACTIVE, layer, stats.active);
        let ended = [
            ("completed", stats.completed),
            ("compensated", stats.compensated),
            ("stuck", stats.stuck),
        ];
        for (status, sagas) in ended {
            reading.add_count(&all::SAGA_ENDED, [name, status], sagas);
        }
        let steps = [
            ("executed", stats.steps_executed),
            ("failed", stats.steps_failed),
            ("undone", stats.compensations_executed),
            ("undo-failed", stats.compensations_failed),
        ];
        for (end, count) in steps {
            reading.add_count(&all::SAGA_STEPS, [name, end], count);
        }
    }
}
