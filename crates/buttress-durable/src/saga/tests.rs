//! Steps that wait, under a paused clock.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::{Clock, InMemory, InMemoryValue, StoreError};
use tower::{BoxError, service_fn};

use super::*;
use crate::answer::Answer;

mod children;
mod ends;
mod faults;
mod migrations;
mod races;
mod signals;
mod versions;
mod waiting;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const LEASE: Duration = Duration::from_secs(10);
/// The name of a step that makes a definition long: its logs hold a digest of its shape.
const LONG: &str = "a name of so many characters that no shape of a definition with it is shorter than two \
    hundred characters, because a shape is one text with the names, the kinds and the edges of all steps, and \
    this is one of them";

type Payload = InMemoryValue;
type Sagas<S = Faulty> = Executor<u32, InMemory, S>;

/// The calls of services, with the seconds since the world was made, and the store of all executors.
#[derive(Clone)]
struct World {
    clock: Clock,
    start: Duration,
    seen: Arc<Mutex<Vec<(u64, String)>>>,
    store: Faulty,
}

impl World {
    fn new() -> Self {
        let clock = Clock::default();
        let (start, store) = (clock.unix(), Faulty::new(MemoryStore::new(clock.clone())));
        Self { clock, start, seen: Arc::default(), store }
    }

    fn seconds(&self) -> u64 {
        (self.clock.unix() - self.start).as_secs()
    }

    fn note(&self, name: &str) {
        self.seen.lock().unwrap().push((self.seconds(), name.to_owned()));
    }

    fn seen(&self) -> Vec<(u64, String)> {
        self.seen.lock().unwrap().clone()
    }

    /// Adds a step that takes `takes` and returns the seconds of it. It can be undone.
    fn step(
        &self,
        saga: &mut Builder<u32>,
        name: &'static str,
        takes: Duration,
    ) -> StepHandle<u64> {
        self.step_of(saga.step(name), name, takes, true)
    }

    fn step_of(
        &self,
        step: StepBuilder<'_, u32, InMemory, ()>,
        name: &'static str,
        takes: Duration,
        has_undo: bool,
    ) -> StepHandle<u64> {
        let (act, undo) = (self.clone(), self.clone());
        let action = service_fn(move |_: Call<u32>| {
            let world = act.clone();
            async move {
                world.note(name);
                world.clock.sleep(takes).await;
                Ok::<u64, BoxError>(takes.as_secs())
            }
        });
        let step = step.action((), action, |input: &u32, ()| *input);
        if !has_undo {
            return step.add();
        }
        let undo = service_fn(move |_: Call<()>| {
            let world = undo.clone();
            async move {
                world.note(&format!("undo {name}"));
                Ok::<(), BoxError>(())
            }
        });
        step.undo((), undo, |_, (), _| ()).add()
    }

    fn executor(&self, saga: Builder<u32>) -> Sagas {
        self.executor_with(saga, config())
    }

    fn executor_with(&self, saga: Builder<u32>, config: Config) -> Sagas {
        Executor::new(saga.build().unwrap(), self.store.clone(), config).unwrap()
    }

    /// Returns the same world, with a store of another process.
    fn of_another_process(&self) -> Self {
        Self { store: self.store.of_another_process(), ..self.clone() }
    }

    /// Starts a saga, and returns its id once the saga waits.
    async fn waiting<S: Store<Payload>>(&self, sagas: &Sagas<S>) -> SagaId {
        let id = sagas.start(7).await.unwrap().id();
        self.until(sagas, id, Status::Waiting).await;
        id
    }

    /// Waits until the saga has this status.
    async fn until<I, S>(
        &self,
        sagas: &Executor<I, InMemory, S>,
        id: SagaId,
        status: Status,
    ) -> Tree
    where
        I: Send + Sync + 'static,
        InMemory: buttress::Codec<I>,
        S: Store<Payload>,
    {
        let began = self.seconds();
        loop {
            let tree = sagas.state(id).await.unwrap().unwrap();
            if tree.status == status {
                return tree;
            }
            assert!(self.seconds() < began + 20_000, "not {status:?}: {tree}");
            self.clock.sleep(SECOND / 10).await;
        }
    }
}

fn config() -> Config {
    Config::new().lease(LEASE)
}

/// A step, a wait of an hour, and another step.
fn order(world: &World) -> Builder<u32> {
    order_taking(world, Duration::ZERO)
}

/// An [`order`] whose first step takes a time.
fn order_taking(world: &World, takes: Duration) -> Builder<u32> {
    let mut saga = Definition::builder("order", 1);
    world.step(&mut saga, "a", takes);
    saga.step("wait").wait(|_, ()| HOUR);
    world.step(&mut saga, "b", Duration::ZERO);
    saga
}

fn names(seen: &[(u64, String)]) -> Vec<&str> {
    seen.iter().map(|(_, name)| name.as_str()).collect()
}

/// Asserts the calls, each with the second in which it is made or with the one after it.
#[track_caller]
fn assert_seen(world: &World, wanted: &[(u64, &str)]) {
    let seen = world.seen();
    let wanted_names: Vec<&str> = wanted.iter().map(|(_, name)| *name).collect();
    assert_eq!(names(&seen), wanted_names, "{seen:?}");
    for ((at, name), (wanted, _)) in seen.iter().zip(wanted) {
        assert!(at == wanted || *at == wanted + 1, "{name} at {at} s, not at {wanted} s");
    }
}

/// What happens to appends of sagas that wait, or to the next append.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    None,
    /// The process dies before the append of a wait.
    DiesBeforeWait,
    /// The process dies after the append of a wait.
    DiesAfterWait,
    /// The answer to the append of a wait is lost, once.
    LosesAnswer,
    /// The process dies before any append.
    DiesBeforeAppend,
    /// Renewals of leases fail.
    NoRenewals,
    /// Looks for sagas whose wait is over fail.
    NoLooks,
    /// Readings of signals fail.
    NoSignals,
    /// The answer to a move to another version is lost, once.
    LosesMigration,
    /// Commits of child sagas fail.
    NoCommits,
    /// The answer to the commit of a child saga is lost, once.
    LosesCommit,
    /// Loads of logs fail.
    NoLoads,
    /// Creations of sagas fail.
    NoCreations,
}

/// The appends before a signal, and the signal.
type Racing = (u32, NewSignal<Payload>);

/// A store with faults.
#[derive(Clone)]
struct Faulty {
    inner: MemoryStore,
    fault: Arc<AtomicU8>,
    loads: Arc<AtomicU64>,
    /// A signal that comes right before an append that depends on signals, once the number of appends is zero.
    racing: Arc<Mutex<Option<Racing>>>,
}

impl Faulty {
    fn new(inner: MemoryStore) -> Self {
        Self { inner, fault: Arc::default(), loads: Arc::default(), racing: Arc::default() }
    }

    fn set(&self, fault: Fault) {
        self.fault.store(fault as u8, Ordering::SeqCst);
    }

    /// Returns another handle on the same data, with its own faults.
    fn of_another_process(&self) -> Self {
        Self::new(self.inner.clone())
    }

    /// Sends the signal that comes right before an append.
    async fn race(&self) {
        let next = {
            let mut racing = self.racing.lock().unwrap();
            match racing.take() {
                Some((0, signal)) => Some(signal),
                later => {
                    *racing = later.map(|(appends, signal)| (appends - 1, signal));
                    None
                }
            }
        };
        if let Some(signal) = next {
            assert_eq!(self.inner.signal(signal).await.unwrap(), SignalAnswer::Delivered);
        }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault.load(Ordering::SeqCst) == fault as u8
    }

    fn is_dead(&self) -> bool {
        self.is(Fault::DiesBeforeWait)
            || self.is(Fault::DiesAfterWait)
            || self.is(Fault::DiesBeforeAppend)
    }
}

fn away<T>() -> Answer<T> {
    Err(StoreError::transient("away"))
}

impl Store<Payload> for Faulty {
    async fn renew_worker(&self, worker: WorkerId, lease: Duration) -> Answer<()> {
        if self.is_dead() || self.is(Fault::NoRenewals) {
            return away();
        }
        self.inner.renew_worker(worker, lease).await
    }

    async fn release_worker(&self, worker: WorkerId) -> Answer<()> {
        self.inner.release_worker(worker).await
    }

    async fn create(&self, saga: NewSaga<Payload>) -> Answer<()> {
        if self.is(Fault::NoCreations) {
            return away();
        }
        self.inner.create(saga).await
    }

    async fn append(&self, append: Append<Payload>) -> Answer<Appended> {
        let waits = append.status == Status::Waiting;
        if self.is(Fault::DiesBeforeAppend) || waits && self.is(Fault::DiesBeforeWait) {
            return std::future::pending().await;
        }
        let commits = waits && matches!(append.entries[..], [Entry::Committed]);
        if commits && self.is(Fault::NoCommits) {
            return away();
        }
        if append.seen_signals.is_some() {
            self.race().await;
        }
        let appended = self.inner.append(append).await;
        if waits && self.is(Fault::DiesAfterWait) {
            return std::future::pending().await;
        }
        if waits && self.is(Fault::LosesAnswer) || commits && self.is(Fault::LosesCommit) {
            self.set(Fault::None);
            return away();
        }
        appended
    }

    async fn take_abandoned(&self, sagas: TakeOver<'_>) -> Answer<TakenOver<Payload>> {
        self.inner.take_abandoned(sagas).await
    }

    fn keeps_waits(&self) -> bool {
        true
    }

    async fn has_due(&self, name: &str, version: u32) -> Answer<bool> {
        if self.is_dead() && !self.is(Fault::DiesBeforeAppend) || self.is(Fault::NoLooks) {
            return away();
        }
        self.inner.has_due(name, version).await
    }

    async fn take_due(&self, sagas: TakeOver<'_>) -> Answer<TakenOver<Payload>> {
        self.inner.take_due(sagas).await
    }

    fn keeps_signals(&self) -> bool {
        true
    }

    async fn signal(&self, signal: NewSignal<Payload>) -> Answer<SignalAnswer> {
        self.inner.signal(signal).await
    }

    async fn signals(&self, saga: SagaId) -> Answer<Vec<Signal<Payload>>> {
        if self.is(Fault::NoSignals) {
            return away();
        }
        self.inner.signals(saga).await
    }

    async fn take_saga(&self, worker: WorkerId, saga: SagaId) -> Answer<Option<Record<Payload>>> {
        self.inner.take_saga(worker, saga).await
    }

    async fn owned(&self, worker: WorkerId, name: &str, version: u32) -> Answer<Vec<SagaId>> {
        self.inner.owned(worker, name, version).await
    }

    async fn load(&self, saga: SagaId) -> Answer<Option<Record<Payload>>> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        if self.is(Fault::NoLoads) {
            return away();
        }
        self.inner.load(saga).await
    }

    async fn request_cancel(&self, saga: SagaId) -> Answer<bool> {
        self.inner.request_cancel(saga).await
    }

    async fn list(&self, page: Page) -> Answer<Vec<Summary>> {
        self.inner.list(page).await
    }

    fn migrates(&self) -> bool {
        true
    }

    async fn migrate(&self, log: NewLog<Payload>) -> Answer<Moved> {
        let moved = self.inner.migrate(log).await;
        if self.is(Fault::LosesMigration) {
            self.set(Fault::None);
            return away();
        }
        moved
    }

    async fn purge_sagas(&self, name: Option<&str>, age: Duration, limit: usize) -> Answer<usize> {
        self.inner.purge_sagas(name, age, limit).await
    }
}
