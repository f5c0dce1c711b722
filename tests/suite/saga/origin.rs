//! The correlation id and the trace of the request that started a saga, in its steps, in its log and after a crash.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::context::{Context, CorrelationId, TraceContext};
use buttress::{Clock, InMemory, Spawner, Task};
use buttress_durable::saga::{Call, Definition, Executor, MemoryStore, SagaId, Status, Store};
use tower::service_fn;
use tower::util::BoxCloneSyncService;

use super::world::{StepError, World, config, sequence};
use crate::support::ms;

const LEASE: Duration = Duration::from_secs(10);

/// The correlation id, the trace id and whether there is a deadline, for each call of a step.
type Seen = Arc<Mutex<Vec<(Option<String>, Option<u128>, bool)>>>;

/// A saga of two steps. The second never ends while `hangs`.
fn saga(seen: &Seen, hangs: bool) -> Definition<u32, InMemory> {
    let mut saga = sequence(&World::new(), &[]);
    for name in ["a", "b"] {
        let sees = seen.clone();
        let service = service_fn(move |_: Call<u32>| {
            let sees = sees.clone();
            async move {
                Clock::default().sleep(ms(1)).await;
                sees.lock().unwrap().push(Context::peek(|context| {
                    let id = context.correlation().map(ToString::to_string);
                    let trace = context.trace().map(TraceContext::trace_id);
                    (id, trace, context.expires().is_some())
                }));
                if hangs && name == "b" {
                    std::future::pending::<()>().await;
                }
                Ok::<u32, StepError>(1)
            }
        });
        let undo = World::new().service("undo", &[super::world::Answer(0)], Duration::ZERO);
        saga.step(name)
            .action((), BoxCloneSyncService::new(service), |input: &u32, ()| *input)
            .undo((), undo, |_, (), output| output)
            .add();
    }
    saga.build().unwrap()
}

fn request() -> (Context, u128) {
    let id: CorrelationId = "order-7".parse().unwrap();
    let trace = TraceContext::root();
    let number = trace.trace_id();
    let deadline = Clock::default().now() + ms(1);
    (Context::new().with_correlation(id).with_trace(trace).with_deadline(deadline), number)
}

#[tokio::test(start_paused = true)]
async fn edge_1_1_steps_and_log_have_the_context_of_the_request_without_its_deadline() {
    let (seen, store) = (Seen::default(), MemoryStore::new(Clock::default()));
    let sagas = Executor::new(saga(&seen, false), store.clone(), config()).unwrap();
    let (context, trace) = request();
    let execution = context.clone().scope(sagas.start_as(SagaId::new(1), 7)).await.unwrap();
    assert_eq!(execution.await.unwrap().status(), Status::Completed);
    let step = (Some("order-7".to_owned()), Some(trace), false);
    assert_eq!(*seen.lock().unwrap(), [step.clone(), step]);
    let record = store.load(SagaId::new(1)).await.unwrap().unwrap();
    assert_eq!(record.beginning.correlation.as_deref(), Some("order-7"));
    let written = record.beginning.trace.as_deref().map(str::parse);
    assert_eq!(written, Some(Ok(context.trace().unwrap().clone())));
}

#[tokio::test(start_paused = true)]
async fn a_saga_that_another_worker_resumes_keeps_the_context() {
    let (seen, store) = (Seen::default(), MemoryStore::new(Clock::default()));
    // The tasks of the first worker are dropped while the second step runs.
    let spawner = Spawner::new(|task: Task| {
        let handle = tokio::spawn(task);
        tokio::spawn(async move {
            Clock::default().sleep(ms(5)).await;
            handle.abort();
        });
    });
    let crashed = Executor::new(saga(&seen, true), store.clone(), config().spawner(spawner));
    let (context, trace) = request();
    let begun = context.scope(crashed.unwrap().start_as(SagaId::new(1), 7)).await.unwrap();
    assert!(begun.await.is_err());
    tokio::time::advance(LEASE + ms(1)).await;
    seen.lock().unwrap().clear();
    let sagas = Executor::new(saga(&seen, false), store, config()).unwrap();
    assert_eq!(sagas.recover().await.unwrap().resumed, [SagaId::new(1)]);
    while sagas.stats().active > 0 {
        tokio::time::advance(ms(1)).await;
    }
    assert_eq!(*seen.lock().unwrap(), [(Some("order-7".to_owned()), Some(trace), false)]);
}
