//! Panics of user code, a frozen worker, and lost answers: no saga hangs. All tests are
//! regressions.

use std::future::{Future as _, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use buttress::retry::Backoff;
use buttress::{Clock, Codec, CodecError, Format};
use buttress_durable::saga::{
    Builder, Call, Config, Definition, Executor, MemoryStore, SagaError, SagaId, Status,
};
use tower::{BoxError, service_fn};

use super::stores::flaky;
use super::world::*;
use crate::support::ms;

/// Regression: it did not compile, because the types of a future with a bare `Arc<dyn Any>` are not
/// general enough.
#[tokio::test(start_paused = true)]
async fn a_saga_in_memory_can_be_run_in_a_spawned_task() {
    let sagas = executor(sequence(&World::new(), &[("a", &[Answer(1)])]));
    let task = tokio::spawn(async move {
        let report = sagas.run_to_end(7).await?;
        sagas.recover().await.unwrap();
        sagas.cancel(report.id()).await.unwrap();
        assert!(sagas.retry(report.id()).await.is_err());
        sagas.shut_down().await.unwrap();
        Ok::<_, buttress_durable::saga::SagaError>(report.status())
    });
    assert_eq!(task.await.unwrap().unwrap(), Status::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_hides_no_report() {
    let world = World::new();
    let saga = sequence(&world, &[("a", &[Answer(1)])]);
    let config = config().on_end(|_| panic!("a hook"));
    let sagas = Executor::in_memory(saga.build().unwrap(), config).unwrap();
    assert_eq!(sagas.run_to_end(7).await.unwrap().status(), Status::Completed);
    assert_eq!(sagas.stats().active, 0);
    sagas.shut_down().await.unwrap();
}

/// Panics at 13.
#[derive(Clone)]
struct Superstitious;

impl Format for Superstitious {
    type Encoded = Vec<u8>;
    const NAME: &'static str = "superstitious";
}

impl Codec<u32> for Superstitious {
    fn encode(&self, value: &Arc<u32>) -> Result<Vec<u8>, CodecError> {
        assert_ne!(**value, 13, "unlucky");
        Ok(value.to_be_bytes().to_vec())
    }

    fn decode(&self, value: &Vec<u8>) -> Result<Arc<u32>, CodecError> {
        let bytes = <[u8; 4]>::try_from(value.as_slice()).unwrap();
        Ok(Arc::new(u32::from_be_bytes(bytes)))
    }
}

#[tokio::test(start_paused = true)]
async fn a_codec_that_panics_leaves_an_action_in_doubt() {
    let world = World::new();
    let mut saga = Definition::<u32>::builder("test", 1).codec(Superstitious);
    saga.step("a")
        .action((), world.service("a", &[Answer(13)], Duration::ZERO), |input: &u32, ()| *input)
        .undo((), world.service("undo a", &[Answer(0)], Duration::ZERO), |input: &u32, (), _| {
            *input
        })
        .add();
    let store = MemoryStore::of_bytes(Clock::default());
    let sagas = Executor::new(saga.build().unwrap(), store, config()).unwrap();
    let report = sagas.run_to_end(7).await.unwrap();
    assert_eq!(report.status(), Status::Compensated);
    assert!(report.reason().unwrap().contains("cannot be encoded: panicked"), "{report:?}");
    assert_eq!(world.seen(), ["a", "undo a"]);
    sagas.shut_down().await.unwrap();
}

/// A value whose clones panic once it is broken.
struct Fragile(Arc<std::sync::atomic::AtomicBool>);

impl Clone for Fragile {
    fn clone(&self) -> Self {
        assert!(!self.0.load(std::sync::atomic::Ordering::SeqCst), "a clone");
        Self(self.0.clone())
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_cannot_be_cloned_is_a_failed_step() {
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut saga = Definition::<u32>::builder("test", 1);
    let fragile = Fragile(broken.clone());
    let service = service_fn(move |call: Call<u32>| {
        let _ = &fragile;
        std::future::ready(Ok::<_, BoxError>(call.into_request()))
    });
    saga.step("a").action((), service, |input: &u32, ()| *input).add();
    let sagas = Executor::in_memory(saga.build().unwrap(), config()).unwrap();
    broken.store(true, std::sync::atomic::Ordering::SeqCst);
    let report = sagas.run_to_end(7).await.unwrap();
    assert_ended(&report, Status::Compensated, Some("a: panicked: a clone"));
    sagas.shut_down().await.unwrap();
}

/// Two steps, each of which takes this time.
fn a_and_b(world: &World, takes: Duration) -> Builder<u32> {
    let mut saga = Definition::builder("test", 1);
    for name in ["a", "b"] {
        let service = world.service(name, &[Answer(1)], takes);
        saga.step(name).action((), service, |input: &u32, ()| *input).add();
    }
    saga
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_stood_still_does_not_take_its_own_sagas_from_itself() {
    let world = World::new();
    let saga = a_and_b(&world, Duration::from_secs(100));
    let config = config().lease(Duration::from_secs(30));
    let sagas = Executor::in_memory(saga.build().unwrap(), config).unwrap();
    let execution = sagas.start(7).await.unwrap();
    tokio::task::yield_now().await;
    // Longer than its lease, in one jump: its renewals come after this call.
    let mut recovering = Box::pin(async {
        tokio::time::advance(Duration::from_secs(40)).await;
        sagas.recover().await
    });
    assert!(recovering.as_mut().await.unwrap().left.is_empty());
    drop(recovering);
    assert_eq!(execution.await.unwrap().status(), Status::Completed);
    assert_eq!(world.seen(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_saga_taken_from_oneself_goes_on_under_its_new_epoch() {
    // It froze between the check of its lease and the take-over.
    let world = World::new();
    let saga = a_and_b(&world, ms(500));
    let store = flaky();
    let config = config().lease(ms(300));
    let sagas = Executor::new(saga.build().unwrap(), store.clone(), config).unwrap();
    let execution = sagas.start(7).await.unwrap();
    let id = execution.id();
    tokio::time::advance(ms(10)).await;
    let outage = store.hook().fail_renewals();
    store.hook().stall(400);
    assert_eq!(sagas.recover().await.unwrap().resumed, [id]);
    outage.lift();
    store.hook().stall(0);
    assert!(matches!(execution.await, Err(SagaError::Fenced { .. })), "the run that was there");
    while sagas.state(id).await.unwrap().unwrap().status != Status::Completed {
        tokio::time::advance(ms(10)).await;
    }
    assert_eq!(world.seen(), ["a", "a", "b"]);
    assert_eq!(world.keys("a")[0], world.keys("a")[1]);
}

#[tokio::test(start_paused = true)]
async fn a_saga_whose_start_was_not_answered_is_found() {
    let world = World::new();
    let store = flaky();
    let saga = sequence(&world, &[("a", &[Answer(1)])]);
    let config = config().patience(ms(100)).deadline(Duration::from_secs(60));
    let sagas = Executor::new(saga.build().unwrap(), store.clone(), config).unwrap();
    let lost = store.hook().lose_answers(u64::MAX);
    let id = SagaId::new(5);
    assert!(sagas.start_as(id, 7).await.is_err());
    assert_eq!((sagas.stats().started, sagas.stats().active), (0, 0));
    lost.lift();
    assert_eq!(sagas.recover().await.unwrap().resumed, [id]);
    while sagas.stats().active > 0 {
        tokio::time::advance(ms(100)).await;
    }
    assert_eq!(sagas.state(id).await.unwrap().unwrap().status, Status::Completed);
    assert!(sagas.recover().await.unwrap().resumed.is_empty());
    assert_eq!(world.seen(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_nobody_waits_for_is_counted() {
    let world = World::new();
    let sagas = executor(sequence(&world, &[("a", &[Answer(1)])]));
    let mut start = Box::pin(sagas.start(7));
    assert!(poll_fn(|cx| Poll::Ready(start.as_mut().poll(cx).is_pending())).await);
    drop(start);
    tokio::time::advance(ms(1)).await;
    while sagas.stats().active > 0 {
        tokio::time::advance(ms(1)).await;
    }
    assert_eq!((sagas.stats().started, sagas.stats().completed), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn two_operators_at_once_do_not_defeat_each_other() {
    let world = World::new();
    let mut saga = Definition::<u32>::builder("test", 1);
    saga.step("a")
        .action((), world.service("a", &[Answer(1)], Duration::ZERO), |input: &u32, ()| *input)
        .undo((), world.service("undo a", &[Break, Answer(0)], ms(10)), |input: &u32, (), _| *input)
        .add();
    refused_at(&mut saga, &world, "b");
    let config: Config = config().undo_retry(1, Backoff::none());
    let sagas = Executor::in_memory(saga.build().unwrap(), config).unwrap();
    let report = sagas.run_to_end(7).await.unwrap();
    assert_eq!(report.status(), Status::Stuck);
    let (one, other) = tokio::join!(sagas.retry(report.id()), sagas.retry(report.id()));
    assert!(other.is_err(), "it runs here");
    assert_eq!(one.unwrap().await.unwrap().status(), Status::Compensated);
}

#[tokio::test(start_paused = true)]
async fn outputs_that_fit_one_by_one_are_stored_one_by_one() {
    let store = flaky();
    store.hook().fit(1);
    let mut saga = Definition::<u32>::builder("test", 1);
    saga.parallel(|saga| {
        for name in ["a", "b", "c"] {
            let service =
                service_fn(async |call: Call<u32>| Ok::<u32, BoxError>(call.into_request()));
            saga.step(name).action((), service, |input: &u32, ()| *input).add();
        }
    });
    let sagas = Executor::new(saga.build().unwrap(), store, config()).unwrap();
    assert_ended(&sagas.run_to_end(7).await.unwrap(), Status::Completed, None);
}
