//! Stores that fail during a saga.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use buttress::{Clock, StoreError, StoreErrorKind};
use buttress_durable::Answer;
use buttress_durable::saga::{
    Append, Appended, Definition, Entry, Executor, Kind, MemoryStore, NewSaga, Page, Record,
    SagaError, SagaId, Status, StepStatus, Store, Summary, TakeOver, TakenOver, WorkerId,
};
use buttress_sim::hooked::saga::Operation;
use buttress_sim::hooked::{Hook, Hooked, Operation as _, Run};
use buttress_sim::inject::{Injection, StoreFaults};

use super::world::*;
use crate::support::ms;

type Payload = buttress::InMemoryValue;

/// A store with faults, which also refuses appends that are too large.
pub(super) type Flaky = Hooked<Required, Limited>;

/// A store that implements only the required methods: the others run their default implementations.
#[derive(Clone, Debug)]
pub(super) struct Required(MemoryStore);

impl Store<Payload> for Required {
    async fn renew_worker(&self, worker: WorkerId, lease: Duration) -> Answer<()> {
        self.0.renew_worker(worker, lease).await
    }

    async fn release_worker(&self, worker: WorkerId) -> Answer<()> {
        self.0.release_worker(worker).await
    }

    async fn create(&self, saga: NewSaga<Payload>) -> Answer<()> {
        self.0.create(saga).await
    }

    async fn append(&self, append: Append<Payload>) -> Answer<Appended> {
        self.0.append(append).await
    }

    async fn take_abandoned(&self, sagas: TakeOver<'_>) -> Answer<TakenOver<Payload>> {
        self.0.take_abandoned(sagas).await
    }

    async fn take_saga(&self, worker: WorkerId, saga: SagaId) -> Answer<Option<Record<Payload>>> {
        self.0.take_saga(worker, saga).await
    }

    async fn load(&self, saga: SagaId) -> Answer<Option<Record<Payload>>> {
        self.0.load(saga).await
    }

    async fn request_cancel(&self, saga: SagaId) -> Answer<bool> {
        self.0.request_cancel(saga).await
    }

    async fn list(&self, page: Page) -> Answer<Vec<Summary>> {
        self.0.list(page).await
    }

    async fn purge_sagas(&self, name: Option<&str>, age: Duration, limit: usize) -> Answer<usize> {
        self.0.purge_sagas(name, age, limit).await
    }
}

/// The hook of a [`Flaky`] store.
#[derive(Clone, Debug)]
pub(super) struct Limited {
    pub faults: StoreFaults,
    limits: Arc<Limits>,
}

#[derive(Debug)]
struct Limits {
    /// The most outputs in an append. Larger appends are refused permanently.
    outputs: AtomicUsize,
    /// The most bytes of notes in an append.
    text: AtomicUsize,
    /// The most entries in an append.
    entries: AtomicUsize,
    /// The milliseconds that the process freezes right before a take-over.
    stall: AtomicUsize,
}

pub(super) fn flaky() -> Flaky {
    let most = || AtomicUsize::new(usize::MAX);
    let (outputs, text, entries) = (most(), most(), most());
    let limits = Limits { outputs, text, entries, stall: AtomicUsize::new(0) };
    let limits = Limited { faults: StoreFaults::new(), limits: Arc::new(limits) };
    Hooked::new(Required(MemoryStore::new(Clock::default())), limits)
}

impl Limited {
    /// Sets the most bytes of notes in one append from now on.
    pub(super) fn fit_text(&self, bytes: usize) {
        self.limits.text.store(bytes, Ordering::SeqCst);
    }

    /// Sets the most entries in one append from now on.
    pub(super) fn fit_entries(&self, entries: usize) {
        self.limits.entries.store(entries, Ordering::SeqCst);
    }

    /// Sets the most outputs in one append from now on.
    pub(super) fn fit(&self, outputs: usize) {
        self.limits.outputs.store(outputs, Ordering::SeqCst);
    }

    /// Sets how long the process freezes in each take-over.
    pub(super) fn stall(&self, millis: usize) {
        self.limits.stall.store(millis, Ordering::SeqCst);
    }

    /// Makes renewals, writes, take-overs and lists fail without an effect.
    pub(super) fn away(&self, kind: StoreErrorKind) -> Injection {
        let operations = ["renew_worker", "create", "append", "take_abandoned", "list"];
        self.faults.on_each(operations).always().fail(kind)
    }

    /// Loses the answers of the next writes.
    pub(super) fn lose_answers(&self, writes: u64) -> Injection {
        self.faults.on_each(["create", "append"]).first(writes).lose_answer()
    }

    pub(super) fn fail_renewals(&self) -> Injection {
        self.faults.on("renew_worker").always().fail(StoreErrorKind::Transient)
    }

    fn check(&self, entries: &[Entry<Payload>]) -> Result<(), StoreError> {
        let text: usize = entries.iter().filter_map(Entry::note).map(str::len).sum();
        let outputs = entries.iter().filter(|entry| matches!(entry, Entry::ActionDone { .. }));
        let fits = |size: usize, most: &AtomicUsize| size <= most.load(Ordering::SeqCst);
        if !fits(text, &self.limits.text) || !fits(entries.len(), &self.limits.entries) {
            return Err(StoreError::invalid(format!("{text} bytes, {} entries", entries.len())));
        }
        match fits(outputs.count(), &self.limits.outputs) {
            true => Ok(()),
            false => Err(StoreError::invalid("an output of 9 bytes, at most 8 are allowed")),
        }
    }
}

impl Hook<Operation<Payload>> for Limited {
    async fn around<T: Any + Send>(&self, operation: Operation<Payload>, run: Run<T>) -> Answer<T> {
        match &operation {
            Operation::Append { append } => self.check(&append.entries)?,
            Operation::TakeAbandoned { .. } => {
                let stall = self.limits.stall.load(Ordering::SeqCst);
                tokio::time::advance(ms(stall as u64)).await;
            }
            _ => {}
        }
        self.faults.run(operation.name(), run).await
    }
}

fn patient(world: &World, patience: Duration) -> (Flaky, Executor<u32, buttress::InMemory, Flaky>) {
    let store = flaky();
    let saga = sequence(world, &[("a", &[Answer(1)]), ("b", &[Answer(2)])]);
    let sagas = Executor::new(saga.build().unwrap(), store.clone(), config().patience(patience));
    (store, sagas.unwrap())
}

#[tokio::test(start_paused = true)]
async fn an_append_is_repeated_and_no_step_is_run_again() {
    for lost in [false, true] {
        let world = World::new();
        let (store, sagas) = patient(&world, Duration::from_secs(60));
        match lost {
            true => store.hook().lose_answers(5),
            false => store.hook().faults.on("append").first(5).fail(StoreErrorKind::Transient),
        };
        let report = sagas.run_to_end(7).await.unwrap();
        assert_eq!(report.status(), Status::Completed);
        assert_eq!(world.seen(), ["a", "b"], "lost: {lost}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_is_told_and_the_saga_goes_on() {
    let world = World::new();
    let (store, sagas) = patient(&world, ms(200));
    let outage = store.hook().faults.on("append").always().fail(StoreErrorKind::Transient);
    let execution = sagas.start(7).await.unwrap();
    let id = execution.id();
    let told = execution.await.unwrap_err();
    assert!(matches!(&told, SagaError::Store { error, .. } if error.is_transient()), "{told}");
    assert_eq!(sagas.stats().active, 1);
    outage.lift();
    while sagas.stats().active > 0 {
        tokio::time::advance(ms(100)).await;
    }
    assert_eq!(world.seen(), ["a", "b"]);
    assert_eq!(sagas.state(id).await.unwrap().unwrap().status, Status::Completed);
}

#[tokio::test(start_paused = true)]
async fn an_output_that_cannot_be_stored_is_an_action_in_doubt() {
    let world = World::new();
    let (store, sagas) = patient(&world, Duration::from_secs(60));
    store.hook().fit(0);
    let report = sagas.run_to_end(7).await.unwrap();
    assert_eq!(report.status(), Status::Compensated);
    assert!(report.reason().unwrap().contains("at most 8 are allowed"), "{report:?}");
    assert_eq!(world.seen(), ["a", "undo a"]);
}

#[tokio::test(start_paused = true)]
async fn a_shut_down_does_not_wait_for_a_store_that_is_away() {
    let world = World::new();
    let (store, sagas) = patient(&world, Duration::from_secs(60));
    let outage = store.hook().faults.on("append").always().fail(StoreErrorKind::Transient);
    let execution = sagas.start(7).await.unwrap();
    let id = execution.id();
    Clock::default().sleep(ms(500)).await;
    let begun = Clock::default().now();
    sagas.shut_down().await.unwrap();
    let took = Clock::default().now() - begun;
    assert!(took <= Duration::from_secs(2), "{took:?}");
    assert!(execution.await.is_err());
    // Nothing is lost: an unrecorded step runs again, with the same key.
    outage.lift();
    let saga = sequence(&world, &[("a", &[Answer(1)]), ("b", &[Answer(2)])]);
    let next = Executor::new(saga.build().unwrap(), store.clone(), config()).unwrap();
    assert_eq!(next.recover().await.unwrap().resumed, [id]);
    while next.stats().active > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.seen(), ["a", "a", "b"]);
    assert_eq!(world.keys("a")[0], world.keys("a")[1]);
}

#[tokio::test(start_paused = true)]
async fn a_shut_down_under_a_lapsed_lease_ends() {
    let world = World::new();
    let (store, sagas) = patient(&world, Duration::from_secs(60));
    let first = sagas.run_to_end(7).await.unwrap();
    assert_eq!(first.status(), Status::Completed);
    store.hook().fail_renewals();
    Clock::default().sleep(Duration::from_secs(11)).await;
    let waiting = sagas.start(7).await.unwrap();
    Clock::default().sleep(ms(50)).await;
    assert_eq!(world.seen(), ["a", "b"], "nothing leaves without a lease");
    sagas.shut_down().await.unwrap();
    assert!(matches!(waiting.await, Err(SagaError::ShutDown { .. })));
}

/// The store holds the first entries immediately, and its answer comes after the deadline: the step they begin does not
/// leave.
#[tokio::test(start_paused = true)]
async fn a_deadline_that_passes_before_the_first_step_lets_no_step_begin() {
    for kind in [Kind::Compensatable, Kind::Pivot] {
        let (world, store) = (World::new(), flaky());
        let mut saga = Definition::<u32>::builder("test", 1);
        let act = world.service("a", &[Answer(1)], Duration::ZERO);
        saga.step("a").kind(kind).action((), act, |input: &u32, ()| *input).add();
        let config = config().deadline(ms(200));
        let sagas = Executor::new(saga.build().unwrap(), store.clone(), config).unwrap();
        // Answers after 310 ms.
        store.hook().lose_answers(5);
        let report = sagas.run_to_end(7).await.unwrap();
        assert_ended(&report, Status::Compensated, Some("deadline passed"));
        assert_eq!(world.seen(), Vec::<String>::new());
        assert_eq!(report.steps()[0].1, StepStatus::Failed);
    }
}
