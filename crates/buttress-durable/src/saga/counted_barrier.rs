//! [`CountedBarrier`]: a barrier whose answers are counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use buttress::Name;
use buttress::telemetry::{Reading, Source};

use super::barrier::{Barrier, Passage};
use super::store::SagaId;
use crate::answer::Answer;
use crate::metric_names as all;

/// A barrier that counts its answers for a [`Sampler`](buttress::telemetry::Sampler). Cheap to
/// clone if the inner barrier is. Clones share the counts.
///
/// An answer counts when the barrier returns it, before the participant's transaction commits.
#[derive(Clone, Debug)]
pub struct CountedBarrier<B> {
    barrier: B,
    layer: Name,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    proceed: AtomicU64,
    repeated: AtomicU64,
    overtaken: AtomicU64,
    failed: AtomicU64,
}

impl<B> CountedBarrier<B> {
    /// Wraps `barrier`, and counts its answers under the label `layer`.
    pub fn new(layer: impl Into<Name>, barrier: B) -> Self {
        Self { barrier, layer: layer.into(), counts: Arc::default() }
    }

    /// Returns the wrapped barrier.
    #[must_use]
    pub fn inner(&self) -> &B {
        &self.barrier
    }

    fn count(&self, answer: Answer<Passage>) -> Answer<Passage> {
        let counter = match answer {
            Ok(Passage::Proceed) => &self.counts.proceed,
            Ok(Passage::Repeated) => &self.counts.repeated,
            Ok(Passage::Overtaken) => &self.counts.overtaken,
            Err(_) => &self.counts.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        answer
    }
}

impl<Tx: Send, B: Barrier<Tx>> Barrier<Tx> for CountedBarrier<B> {
    async fn action(&self, tx: &mut Tx, saga: SagaId, step: &str) -> Answer<Passage> {
        self.count(self.barrier.action(tx, saga, step).await)
    }

    async fn undo(&self, tx: &mut Tx, saga: SagaId, step: &str) -> Answer<Passage> {
        self.count(self.barrier.undo(tx, saga, step).await)
    }
}

impl<B: Send + Sync> Source for CountedBarrier<B> {
    fn read(&self, reading: &mut Reading) {
        let (layer, counts) = (self.layer.as_str(), &*self.counts);
        for (passage, counter) in [
            ("proceed", &counts.proceed),
            ("repeated", &counts.repeated),
            ("overtaken", &counts.overtaken),
        ] {
            let number = counter.load(Ordering::Relaxed);
            reading.add_count(&all::BARRIER_PASSAGES, [layer, passage], number);
        }
        reading.add_count(&all::BARRIER_FAILED, [layer], counts.failed.load(Ordering::Relaxed));
    }
}
