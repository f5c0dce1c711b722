//! An effect in doubt is never forgotten. All tests are regressions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use buttress::Clock;
use buttress::circuit_breaker::{self, CircuitBreakerLayer};
use buttress::retry::Backoff;
use buttress_durable::saga::{
    Builder, Config, Definition, Executor, Kind, MemoryStore, Status, Store as _,
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt as _};

use super::world::*;
use crate::support::ms;

/// A layer that refuses calls while it is open: they never reach the service.
#[derive(Clone, Default)]
struct Circuit(Arc<AtomicBool>);

impl Circuit {
    fn open(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl<S> Layer<S> for Circuit
where
    S: Service<buttress_durable::saga::Call<u32>, Error = StepError>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
    S::Response: 'static,
{
    type Service = tower::util::BoxCloneSyncService<
        buttress_durable::saga::Call<u32>,
        S::Response,
        tower::BoxError,
    >;

    fn layer(&self, inner: S) -> Self::Service {
        let open = self.0.clone();
        let service = tower::service_fn(move |call| {
            let (inner, open) = (inner.clone(), open.load(Ordering::SeqCst));
            async move {
                match open {
                    true => Err("circuit open".into()),
                    false => inner.oneshot(call).await.map_err(tower::BoxError::from),
                }
            }
        });
        tower::util::BoxCloneSyncService::new(service)
    }
}

/// Reserves stock, then charges the card as `plan` says.
fn order(world: &World, kind: Kind, circuit: &Circuit, plan: &'static [Do]) -> Builder<u32> {
    let mut saga = sequence(world, &[("stock", &[Answer(1)])]);
    saga.step("charge")
        .kind(kind)
        .action(
            circuit.clone(),
            world.service("charge", plan, Duration::ZERO),
            |input: &u32, ()| *input,
        )
        .definite(refusals)
        .add();
    saga
}

fn again(attempts: u32) -> Config {
    config().run_again(attempts, Backoff::none())
}

fn in_memory(saga: Builder<u32>, config: Config) -> Executor<u32, buttress::InMemory, MemoryStore> {
    Executor::in_memory(saga.build().unwrap(), config).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_pivot_in_doubt_whose_circuit_opens_is_still_in_doubt() {
    // The answer to the first attempt was lost; the second was never sent. The saga was undone.
    let world = World::new();
    let breaker = circuit_breaker::Config::new().consecutive_failures(1);
    let breaker = CircuitBreakerLayer::new(breaker).unwrap().classify(buttress::AnyError);
    let layers = ServiceBuilder::new()
        .layer(breaker)
        .map_err(|error: StepError| -> tower::BoxError { error.into() });
    let mut saga = sequence(&world, &[("stock", &[Answer(1)])]);
    saga.step("charge")
        .kind(Kind::Pivot)
        // The next attempts come while the circuit is open.
        .hint(|_| None)
        .action(layers, world.service("charge", &[Break], Duration::ZERO), |input: &u32, ()| *input)
        .add();
    let report = in_memory(saga, again(3)).run_to_end(7).await.unwrap();
    assert_eq!(report.status(), Status::Stuck, "{report:?}");
    assert_eq!(world.seen(), ["stock", "charge"], "and nothing is released");
}

#[tokio::test(start_paused = true)]
async fn a_pivot_in_doubt_that_is_refused_by_the_service_is_definite() {
    let world = World::new();
    let saga = order(&world, Kind::Pivot, &Circuit::default(), &[Break, Refuse]);
    let report = in_memory(saga, again(3)).run_to_end(7).await.unwrap();
    assert_ended(&report, Status::Compensated, Some("charge: refused"));
}

#[tokio::test(start_paused = true)]
async fn a_second_attempt_that_never_gets_ready_says_nothing_of_the_first() {
    /// A service that is ready once, and then never.
    #[derive(Clone)]
    struct Once(Arc<AtomicBool>);

    impl Service<buttress_durable::saga::Call<u32>> for Once {
        type Response = ();
        type Error = tower::BoxError;
        type Future = std::future::Pending<Result<(), tower::BoxError>>;

        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Self::Error>> {
            if self.0.load(Ordering::SeqCst) { Poll::Pending } else { Poll::Ready(Ok(())) }
        }

        fn call(&mut self, _: buttress_durable::saga::Call<u32>) -> Self::Future {
            self.0.store(true, Ordering::SeqCst);
            std::future::pending()
        }
    }

    let mut saga = Definition::builder("test", 1);
    saga.step("charge")
        .kind(Kind::Pivot)
        .timeout(Duration::from_secs(1))
        .action((), Once(Arc::default()), |input: &u32, ()| *input)
        .add();
    let report = in_memory(saga, again(3)).run_to_end(7).await.unwrap();
    assert_ended(&report, Status::Stuck, Some("charge: no answer in time"));
}

#[tokio::test(start_paused = true)]
async fn an_operators_retry_behind_an_open_circuit_leaves_it_in_doubt() {
    let (world, circuit) = (World::new(), Circuit::default());
    let sagas = in_memory(order(&world, Kind::Pivot, &circuit, &[Break]), again(2));
    let report = sagas.run_to_end(7).await.unwrap();
    assert_eq!(report.status(), Status::Stuck);
    circuit.open();
    let report = sagas.retry(report.id()).await.unwrap().await.unwrap();
    assert_ended(&report, Status::Stuck, Some("charge: circuit open"));
    assert_eq!(world.seen(), ["stock", "charge", "charge"]);
}

#[tokio::test(start_paused = true)]
async fn an_operators_retry_comes_before_a_deadline_and_a_cancel() {
    for (kind, cancel) in [
        (Kind::Pivot, false),
        (Kind::Pivot, true),
        (Kind::Retryable, false),
        (Kind::Retryable, true),
    ] {
        let world = World::new();
        let saga = order(&world, kind, &Circuit::default(), &[Break, Break, Answer(2)]);
        let sagas = in_memory(saga, again(2).deadline(Duration::from_secs(60)));
        let report = sagas.run_to_end(7).await.unwrap();
        assert_eq!(report.status(), Status::Stuck);
        if cancel {
            assert!(sagas.cancel(report.id()).await.unwrap());
        }
        tokio::time::advance(Duration::from_secs(3600)).await;
        let report = sagas.retry(report.id()).await.unwrap().await.unwrap();
        assert_ended(&report, Status::Completed, None);
        assert_eq!(world.seen(), ["stock", "charge", "charge", "charge"]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_action_cut_off_by_a_crash_is_undone_if_it_cannot_be_run_again() {
    let (world, circuit) = (World::new(), Circuit::default());
    let saga = || {
        let mut saga = Definition::builder("test", 1);
        saga.step("charge")
            .action(
                circuit.clone(),
                world.service("charge", &[Never], Duration::ZERO),
                |input: &u32, ()| *input,
            )
            .undo(
                (),
                world.service("undo charge", &[Answer(0)], Duration::ZERO),
                |input: &u32, (), _| *input,
            )
            .add();
        saga.build().unwrap()
    };
    let store = MemoryStore::new(Clock::default());
    let first = Executor::new(saga(), store.clone(), config()).unwrap();
    let execution = first.start(7).await.unwrap();
    tokio::time::advance(ms(10)).await;
    store.release_worker(first.worker()).await.unwrap();
    circuit.open();
    let second = Executor::new(saga(), store, config()).unwrap();
    assert_eq!(second.recover().await.unwrap().resumed, [execution.id()]);
    while second.stats().active > 0 {
        tokio::time::advance(ms(100)).await;
    }
    assert_eq!(world.seen(), ["charge", "undo charge"]);
    let tree = second.state(execution.id()).await.unwrap().unwrap();
    assert_eq!(tree.status, Status::Compensated);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_from_another_worker_comes_before_the_next_step() {
    let world = World::new();
    let saga = || {
        let mut saga = Definition::builder("test", 1);
        saga.step("stock")
            .action(
                (),
                world.service("stock", &[Answer(1)], Duration::from_secs(10)),
                |input: &u32, ()| *input,
            )
            .undo(
                (),
                world.service("undo stock", &[Answer(0)], Duration::ZERO),
                |input: &u32, (), _| *input,
            )
            .add();
        saga.step("charge")
            .kind(Kind::Pivot)
            .action((), world.service("charge", &[Answer(2)], Duration::ZERO), |input: &u32, ()| {
                *input
            })
            .add();
        saga.build().unwrap()
    };
    let store = MemoryStore::new(Clock::default());
    let (one, other) = (
        Executor::new(saga(), store.clone(), config()).unwrap(),
        Executor::new(saga(), store, config()).unwrap(),
    );
    let execution = one.start(7).await.unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(other.cancel(execution.id()).await.unwrap());
    let report = execution.await.unwrap();
    assert_ended(&report, Status::Compensated, Some("cancelled"));
    assert_eq!(world.seen(), ["stock", "undo stock"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_all_done_at_the_deadline_is_done_in_time() {
    for (takes, status) in [(10_000, Status::Completed), (10_001, Status::Compensated)] {
        let world = World::new();
        let mut saga = Definition::builder("test", 1);
        saga.step("a")
            .action((), world.service("a", &[Answer(1)], ms(takes)), |input: &u32, ()| *input)
            .add();
        let sagas = in_memory(saga, config().deadline(Duration::from_secs(10)));
        assert_eq!(sagas.run_to_end(7).await.unwrap().status(), status);
    }
}
