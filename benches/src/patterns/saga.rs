//! The row of a whole saga in memory.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use buttress::{Clock, InMemory, Spawner, Task};
use buttress_durable::saga::{Config, Executor, MemoryStore, SagaError, StepHandle};
use tower::Service;

use super::BUTTRESS;
use crate::durable::sagas;
use crate::row::Row;
use crate::subject::Meter;

pub const FIVE_STEPS: Row = Row::all("saga: five steps in memory");

pub const NOTES: &[&str] =
    &["Saga: five sequential steps, each with an undo. One future polls the caller and the \
     task of the saga, so that no scheduler is measured."];

/// The ended sagas that the store keeps.
const KEPT: usize = 100;

pub fn visit(meter: &mut impl Meter) {
    meter.single(FIVE_STEPS, BUTTRESS, Sagas::new);
}

/// The tasks that were started and not polled yet.
type Begun = Arc<Mutex<Vec<Task>>>;

struct Sagas {
    executor: Executor<u64, InMemory, MemoryStore>,
    last: StepHandle<u64>,
    begun: Begun,
    /// The tasks that were pending when the saga of their call had ended: the renewal of the lease.
    pending: Begun,
}

impl Sagas {
    fn new() -> Self {
        let begun = Begun::default();
        let tasks = begun.clone();
        // No timer fires here, so the lease is longer than any measurement.
        let config = Config::new()
            .lease(Duration::from_secs(24 * 3600))
            .spawner(Spawner::new(move |task| tasks.lock().unwrap().push(task)));
        let (definition, last) = sagas::definition(InMemory);
        let store = MemoryStore::new(Clock::default()).keep_ended(KEPT);
        let executor = Executor::new(definition, store, config).expect("valid");
        Self { executor, last, begun, pending: Begun::default() }
    }
}

impl Service<u64> for Sagas {
    type Response = u64;
    type Error = SagaError;
    type Future = Pin<Box<dyn Future<Output = Result<u64, SagaError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), SagaError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        let (executor, last) = (self.executor.clone(), self.last);
        let (begun, pending) = (self.begun.clone(), self.pending.clone());
        Box::pin(async move {
            let mut run = pin!(executor.run_to_end(request));
            let mut tasks = Vec::new();
            let report = poll_fn(|cx| {
                let polled = run.as_mut().poll(cx);
                tasks.append(&mut begun.lock().unwrap());
                tasks.retain_mut(|task| task.as_mut().poll(cx).is_pending());
                polled
            });
            let report = report.await?;
            pending.lock().unwrap().append(&mut tasks);
            let output = report.output(last).map_or(0, |output| *output);
            sagas::expect(BUTTRESS, request, output);
            Ok(output)
        })
    }
}
