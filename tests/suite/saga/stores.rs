//! Stores that fail during a saga.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::{Clock, StoreError, StoreErrorKind};
use buttress_durable::saga::{
    Append, Appended, Definition, Entry, Executor, Kind, MemoryStore, NewSaga, Page, Record,
    SagaError, SagaId, Status, StepStatus, Store, Summary, TakeOver, TakenOver, WorkerId,
};

use super::world::*;
use crate::support::ms;

type Payload = buttress::InMemoryValue;

/// A store that fails on request. The effect of a failed append may happen.
#[derive(Clone, Debug)]
pub(super) struct Flaky {
    inner: MemoryStore,
    renewals: Arc<AtomicBool>,
    /// The number of appends that fail from now on.
    appends: Arc<AtomicU32>,
    /// Whether failing appends take effect: then only the answer is lost.
    lost: Arc<AtomicBool>,
    /// The most outputs in an append. Larger appends are refused permanently.
    fits: Arc<AtomicU32>,
    /// The milliseconds that the process freezes right before a take-over.
    stall: Arc<AtomicU32>,
    /// The most bytes of notes in an append. Larger appends are refused permanently.
    texts: Arc<AtomicU32>,
    /// The most entries in a write. Larger writes are refused permanently.
    entries: Arc<AtomicU32>,
    /// Whether the next append panics.
    panics: Arc<AtomicBool>,
    /// Whether take-overs take effect and are never answered.
    hangs: Arc<AtomicBool>,
    /// The error of renewals, writes, take-overs and lists, and the number of failures.
    away: Arc<Mutex<(Option<StoreErrorKind>, usize)>>,
    /// The operation that never answers, and whether it takes effect.
    hung: Arc<Mutex<Option<(&'static str, bool)>>>,
}

impl Flaky {
    pub(super) fn new(inner: MemoryStore) -> Self {
        let (renewals, lost, fits) = (Arc::default(), Arc::default(), Arc::new(u32::MAX.into()));
        let (texts, entries) = (Arc::new(u32::MAX.into()), Arc::new(u32::MAX.into()));
        let (appends, stall) = (Arc::default(), Arc::default());
        let (panics, hangs, away) = (Arc::default(), Arc::default(), Arc::default());
        let hung = Arc::default();
        Self {
            inner,
            renewals,
            appends,
            lost,
            fits,
            stall,
            texts,
            entries,
            panics,
            hangs,
            away,
            hung,
        }
    }

    /// Makes renewals, writes, take-overs and lists fail like this from now on, without an effect.
    pub(super) fn away(&self, kind: Option<StoreErrorKind>) {
        self.away.lock().unwrap().0 = kind;
    }

    /// Returns the number of these failures since the last call.
    pub(super) fn failures(&self) -> usize {
        std::mem::take(&mut self.away.lock().unwrap().1)
    }

    fn there(&self) -> Result<(), StoreError> {
        let mut away = self.away.lock().unwrap();
        let Some(kind) = away.0 else { return Ok(()) };
        away.1 += 1;
        Err(StoreError::new(kind, "away"))
    }

    /// Sets the most bytes of notes in one append from now on.
    pub(super) fn fit_text(&self, bytes: u32) {
        self.texts.store(bytes, Ordering::SeqCst);
    }

    /// Sets the most entries in one write from now on.
    pub(super) fn fit_entries(&self, entries: u32) {
        self.entries.store(entries, Ordering::SeqCst);
    }

    /// Makes an operation never answer from now on, with or without an effect; `None` ends that.
    pub(super) fn hang_at(&self, operation: Option<(&'static str, bool)>) {
        *self.hung.lock().unwrap() = operation;
    }

    /// Hangs before `operation` if it has no effect.
    async fn before(&self, operation: &'static str) {
        if *self.hung.lock().unwrap() == Some((operation, false)) {
            std::future::pending::<()>().await;
        }
    }

    /// Hangs after `operation` if its answer is lost.
    async fn after<T>(&self, operation: &'static str, answer: T) -> T {
        if *self.hung.lock().unwrap() == Some((operation, true)) {
            std::future::pending::<()>().await;
        }
        answer
    }

    fn check(&self, entries: &[Entry<Payload>]) -> Result<(), StoreError> {
        let notes = entries.iter().filter_map(Entry::note);
        let texts: usize = notes.map(str::len).sum();
        let most = (self.texts.load(Ordering::SeqCst), self.entries.load(Ordering::SeqCst));
        match texts > most.0 as usize || entries.len() > most.1 as usize {
            true => Err(StoreError::invalid(format!("{texts} bytes, {} entries", entries.len()))),
            false => Ok(()),
        }
    }

    /// Makes the next append panic.
    pub(super) fn panic_once(&self) {
        self.panics.store(true, Ordering::SeqCst);
    }

    /// Makes take-overs take effect without an answer from now on.
    pub(super) fn hang(&self, hang: bool) {
        self.hangs.store(hang, Ordering::SeqCst);
    }

    /// Sets the most outputs in one append from now on.
    pub(super) fn fit(&self, outputs: u32) {
        self.fits.store(outputs, Ordering::SeqCst);
    }

    /// Makes this number of writes fail from now on, with or without an effect.
    pub(super) fn fail_writes(&self, writes: u32, lost: bool) {
        self.appends.store(writes, Ordering::SeqCst);
        self.lost.store(lost, Ordering::SeqCst);
    }

    /// Sets how long the process freezes in each take-over.
    pub(super) fn stall(&self, millis: u32) {
        self.stall.store(millis, Ordering::SeqCst);
    }

    pub(super) fn fail_renewals(&self, fail: bool) {
        self.renewals.store(fail, Ordering::SeqCst);
    }
}

fn away() -> StoreError {
    StoreError::transient("away")
}

impl Store<Payload> for Flaky {
    async fn renew_worker(&self, worker: WorkerId, lease: Duration) -> Result<(), StoreError> {
        self.there()?;
        self.before("renew").await;
        match self.renewals.load(Ordering::SeqCst) {
            true => Err(away()),
            false => self.inner.renew_worker(worker, lease).await,
        }
    }

    async fn release_worker(&self, worker: WorkerId) -> Result<(), StoreError> {
        self.before("retire").await;
        self.inner.release_worker(worker).await
    }

    async fn create(&self, saga: NewSaga<Payload>) -> Result<(), StoreError> {
        self.there()?;
        self.before("create").await;
        let created = self.inner.create(saga).await;
        let created = self.after("create", created).await;
        let left = self.appends.load(Ordering::SeqCst);
        if left == 0 || !self.lost.load(Ordering::SeqCst) {
            return created;
        }
        self.appends.store(left - 1, Ordering::SeqCst);
        Err(away())
    }

    async fn append(&self, append: Append<Payload>) -> Result<Appended, StoreError> {
        assert!(!self.panics.swap(false, Ordering::SeqCst), "a store");
        self.there()?;
        self.check(&append.entries)?;
        self.before("append").await;
        let done = append.entries.iter().filter(|entry| matches!(entry, Entry::ActionDone { .. }));
        if done.count() > self.fits.load(Ordering::SeqCst) as usize {
            return Err(StoreError::invalid("an output of 9 bytes, at most 8 are allowed"));
        }
        let left = self.appends.load(Ordering::SeqCst);
        if left == 0 {
            let appended = self.inner.append(append).await;
            return self.after("append", appended).await;
        }
        self.appends.store(left - 1, Ordering::SeqCst);
        if self.lost.load(Ordering::SeqCst) {
            self.inner.append(append).await?;
        }
        Err(away())
    }

    async fn take_abandoned(&self, sagas: TakeOver<'_>) -> Result<TakenOver<Payload>, StoreError> {
        self.there()?;
        let stall = self.stall.load(Ordering::SeqCst);
        tokio::time::advance(Duration::from_millis(stall.into())).await;
        self.before("take_over").await;
        let taken = self.inner.take_abandoned(sagas).await;
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        taken
    }

    async fn take_saga(
        &self,
        worker: WorkerId,
        saga: SagaId,
    ) -> Result<Option<Record<Payload>>, StoreError> {
        self.before("take").await;
        self.inner.take_saga(worker, saga).await
    }

    async fn load(&self, saga: SagaId) -> Result<Option<Record<Payload>>, StoreError> {
        self.before("load").await;
        self.inner.load(saga).await
    }

    async fn request_cancel(&self, saga: SagaId) -> Result<bool, StoreError> {
        self.before("request_cancel").await;
        self.inner.request_cancel(saga).await
    }

    async fn list(&self, page: Page) -> Result<Vec<Summary>, StoreError> {
        self.there()?;
        self.before("list").await;
        self.inner.list(page).await
    }

    async fn purge_sagas(
        &self,
        name: Option<&str>,
        age: Duration,
        limit: usize,
    ) -> Result<usize, StoreError> {
        self.before("purge").await;
        self.inner.purge_sagas(name, age, limit).await
    }
}

fn flaky(world: &World, patience: Duration) -> (Flaky, Executor<u32, buttress::InMemory, Flaky>) {
    let store = Flaky::new(MemoryStore::new(Clock::default()));
    let saga = sequence(world, &[("a", &[Answer(1)]), ("b", &[Answer(2)])]);
    let sagas = Executor::new(saga.build().unwrap(), store.clone(), config().patience(patience));
    (store, sagas.unwrap())
}

#[tokio::test(start_paused = true)]
async fn an_append_is_repeated_and_no_step_is_run_again() {
    for lost in [false, true] {
        let world = World::new();
        let (store, sagas) = flaky(&world, Duration::from_secs(60));
        store.appends.store(5, Ordering::SeqCst);
        store.lost.store(lost, Ordering::SeqCst);
        let report = sagas.run_to_end(7).await.unwrap();
        assert_eq!(report.status(), Status::Completed);
        assert_eq!(world.seen(), ["a", "b"], "lost: {lost}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_is_told_and_the_saga_goes_on() {
    let world = World::new();
    let (store, sagas) = flaky(&world, ms(200));
    store.appends.store(u32::MAX, Ordering::SeqCst);
    let execution = sagas.start(7).await.unwrap();
    let id = execution.id();
    let told = execution.await.unwrap_err();
    assert!(matches!(&told, SagaError::Store { error, .. } if error.is_transient()), "{told}");
    assert_eq!(sagas.stats().active, 1);
    store.appends.store(0, Ordering::SeqCst);
    while sagas.stats().active > 0 {
        tokio::time::advance(ms(100)).await;
    }
    assert_eq!(world.seen(), ["a", "b"]);
    assert_eq!(sagas.state(id).await.unwrap().unwrap().status, Status::Completed);
}

#[tokio::test(start_paused = true)]
async fn an_output_that_cannot_be_stored_is_an_action_in_doubt() {
    let world = World::new();
    let (store, sagas) = flaky(&world, Duration::from_secs(60));
    store.fit(0);
    let report = sagas.run_to_end(7).await.unwrap();
    assert_eq!(report.status(), Status::Compensated);
    assert!(report.reason().unwrap().contains("at most 8 are allowed"), "{report:?}");
    assert_eq!(world.seen(), ["a", "undo a"]);
}

#[tokio::test(start_paused = true)]
async fn a_shut_down_does_not_wait_for_a_store_that_is_away() {
    let world = World::new();
    let (store, sagas) = flaky(&world, Duration::from_secs(60));
    store.appends.store(u32::MAX, Ordering::SeqCst);
    let execution = sagas.start(7).await.unwrap();
    let id = execution.id();
    Clock::default().sleep(ms(500)).await;
    let begun = Clock::default().now();
    sagas.shut_down().await.unwrap();
    let took = Clock::default().now() - begun;
    assert!(took <= Duration::from_secs(2), "{took:?}");
    assert!(execution.await.is_err());
    // Nothing is lost: an unrecorded step runs again, with the same key.
    store.appends.store(0, Ordering::SeqCst);
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
    let (store, sagas) = flaky(&world, Duration::from_secs(60));
    let first = sagas.run_to_end(7).await.unwrap();
    assert_eq!(first.status(), Status::Completed);
    store.fail_renewals(true);
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
        let (world, store) = (World::new(), Flaky::new(MemoryStore::new(Clock::default())));
        let mut saga = Definition::<u32>::builder("test", 1);
        let act = world.service("a", &[Answer(1)], Duration::ZERO);
        saga.step("a").kind(kind).action((), act, |input: &u32, ()| *input).add();
        let config = config().deadline(ms(200));
        let sagas = Executor::new(saga.build().unwrap(), store.clone(), config).unwrap();
        // Answers after 310 ms.
        store.fail_writes(5, true);
        let report = sagas.run_to_end(7).await.unwrap();
        assert_ended(&report, Status::Compensated, Some("deadline passed"));
        assert_eq!(world.seen(), Vec::<String>::new());
        assert_eq!(report.steps()[0].1, StepStatus::Failed);
    }
}
