use std::any::Any;
use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buttress::idempotency::{CompleteIn, Completion};
use buttress::{Clock, StoreError, StoreErrorKind};
use buttress_durable::Answer;
use buttress_durable::outbox::{NewMessage, Write};
use buttress_durable::saga::{CreateIn, NewSaga, NewSignal, Record, SignalAnswer, SignalIn};

use super::rules::{Calls, Injection, Rules};
use crate::crash::{CrashPoints, Side};
use crate::hooked::{Hook, Hooked, Operation, Run};
use crate::rng::Seed;

/// Faults in the operations of a store, by the name of the operation. Cheap to clone; clones have the
/// same faults.
///
/// [`over`](Self::over) wraps a store of sagas, of an outbox or of an idempotency layer.
/// [`on`](Self::on) and [`on_all`](Self::on_all) then inject faults, before and while the store is used.
/// An operation has the name of its method, e.g. `append` of [`Store`](buttress_durable::saga::Store).
/// The methods `create_in`, `signal_in`, `write`, `lock_key` and `complete_in`, which run in a transaction of the
/// caller, are operations too.
///
/// If several faults match an operation, the operation has the fault that was added first. Without a
/// seed nothing is random.
#[derive(Clone)]
pub struct StoreFaults {
    rules: Arc<Mutex<Rules<Names, StoreFault>>>,
    clock: Clock,
}

/// The operations of a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Names {
    All,
    These(Vec<&'static str>),
}

impl Names {
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::These(names) => names.contains(&name),
        }
    }
}

/// The fault of an operation.
#[derive(Clone, Debug)]
enum StoreFault {
    Fail(StoreErrorKind),
    LoseAnswer,
    HangBefore,
    HangAfter,
    LateBefore(Duration),
    LateAfter(Duration),
    Panic,
    CrashBefore(CrashPoints),
    CrashAfter(CrashPoints),
}

impl StoreFault {
    fn words(&self) -> String {
        match self {
            Self::Fail(kind) => format!("fails, {kind}"),
            Self::LoseAnswer => "loses its answer".to_owned(),
            Self::HangBefore => "hangs before its effect".to_owned(),
            Self::HangAfter => "hangs after its effect".to_owned(),
            Self::LateBefore(by) => format!("begins {by:?} late"),
            Self::LateAfter(by) => format!("answers {by:?} late"),
            Self::Panic => "panics".to_owned(),
            Self::CrashBefore(_) => "crashes before its effect".to_owned(),
            Self::CrashAfter(_) => "crashes after its effect".to_owned(),
        }
    }
}

impl StoreFaults {
    /// Creates the faults of a test. It has none yet. Late operations wait on tokio's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Clock::default())
    }

    /// Creates the faults of a test. Late operations wait on `clock`.
    #[must_use]
    pub fn with_clock(clock: Clock) -> Self {
        buttress::__simulated::check_clock("StoreFaults", &clock);
        Self { rules: Arc::default(), clock }
    }

    /// Wraps a store, whose clones must share one state.
    pub fn over<S: Clone>(&self, store: S) -> FaultyStore<S> {
        let hook = StoreHook { faults: self.clone(), store: store.clone() };
        Hooked::new(store, hook)
    }

    /// Begins a fault of one operation.
    pub fn on(&self, operation: &'static str) -> Of<'_> {
        self.on_each([operation])
    }

    /// Begins a fault of several operations, whose calls are counted together.
    pub fn on_each(&self, operations: impl IntoIterator<Item = &'static str>) -> Of<'_> {
        let names = Names::These(operations.into_iter().collect());
        Of { faults: self, names, calls: Calls::Nth(1) }
    }

    /// Begins a fault of all operations, whose calls are counted together.
    pub fn on_all(&self) -> Of<'_> {
        Of { faults: self, names: Names::All, calls: Calls::Nth(1) }
    }

    /// Returns a text for each fault that no operation has met so far. A misspelt name is among them, so
    /// a test should assert that there are none at its end.
    #[must_use]
    pub fn unused(&self) -> Vec<String> {
        self.lock().unused()
    }

    /// Removes all faults.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Runs one operation, called `name`, with its fault. Your own hook can call this method, and add faults
    /// that depend on the arguments of the operation.
    ///
    /// # Cancel safety
    /// Dropping the future drops `run`.
    ///
    /// # Errors
    /// Returns the errors of `run`, and the injected ones.
    ///
    /// # Panics
    /// If the fault is a [panic](Of::panic).
    #[expect(clippy::panic, reason = "the test asks for it")]
    pub async fn run<T>(
        &self,
        name: &'static str,
        run: impl Future<Output = Answer<T>>,
    ) -> Answer<T> {
        let fault = self.lock().decide(|names| names.matches(name));
        match fault {
            None => run.await,
            Some(StoreFault::Fail(kind)) => Err(StoreError::new(kind, "injected: no effect")),
            Some(StoreFault::LoseAnswer) => {
                drop(run.await);
                Err(StoreError::transient("injected: the answer was lost"))
            }
            Some(StoreFault::HangBefore) => pending().await,
            Some(StoreFault::HangAfter) => {
                drop(run.await);
                pending().await
            }
            Some(StoreFault::LateBefore(by)) => {
                self.clock.sleep(by).await;
                run.await
            }
            Some(StoreFault::LateAfter(by)) => {
                let answer = run.await;
                self.clock.sleep(by).await;
                answer
            }
            Some(StoreFault::Panic) => panic!("injected into \"{name}\""),
            Some(StoreFault::CrashBefore(process)) => {
                process.crash(name, Side::Before);
                pending().await
            }
            Some(StoreFault::CrashAfter(process)) => {
                drop(run.await);
                process.crash(name, Side::After);
                pending().await
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rules<Names, StoreFault>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for StoreFaults {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for StoreFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreFaults").field("faults", &self.lock().len()).finish_non_exhaustive()
    }
}

/// A store with faults. Made by [`StoreFaults::over`].
pub type FaultyStore<S> = Hooked<S, StoreHook<S>>;

/// The hook of a [`FaultyStore`].
#[derive(Clone, Debug)]
pub struct StoreHook<S> {
    faults: StoreFaults,
    /// For operations in the transaction of a caller, which do not pass through [`Hook::around`].
    store: S,
}

impl<S: Send + Sync + 'static, O: Operation> Hook<O> for StoreHook<S> {
    async fn around<T: Any + Send>(&self, operation: O, run: Run<T>) -> Answer<T> {
        self.faults.run(operation.name(), run).await
    }
}

impl<Tx: Send, P: Send, S: CreateIn<Tx, P>> CreateIn<Tx, P> for StoreHook<S> {
    async fn create_in(&self, tx: &mut Tx, saga: NewSaga<P>) -> Answer<Option<Record<P>>> {
        self.faults.run("create_in", self.store.create_in(tx, saga)).await
    }
}

impl<Tx: Send, P: Send, S: SignalIn<Tx, P>> SignalIn<Tx, P> for StoreHook<S> {
    async fn signal_in(&self, tx: &mut Tx, signal: NewSignal<P>) -> Answer<SignalAnswer> {
        self.faults.run("signal_in", self.store.signal_in(tx, signal)).await
    }
}

impl<Tx: Send, S: Write<Tx>> Write<Tx> for StoreHook<S> {
    async fn write(&self, tx: &mut Tx, message: &NewMessage) -> Answer<()> {
        self.faults.run("write", self.store.write(tx, message)).await
    }

    async fn lock_key(&self, tx: &mut Tx, key: &str) -> Answer<()> {
        self.faults.run("lock_key", self.store.lock_key(tx, key)).await
    }
}

impl<Tx: Send, V: Sync, S: CompleteIn<Tx, V>> CompleteIn<Tx, V> for StoreHook<S> {
    async fn complete_in(&self, tx: &mut Tx, completion: Completion<'_, V>) -> Answer<()> {
        self.faults.run("complete_in", self.store.complete_in(tx, completion)).await
    }
}

/// The calls of operations that get a fault. By default that is the next call.
///
/// Its last method adds the fault. Calls are counted from then on.
#[derive(Clone, Debug)]
#[must_use = "the fault is added by the method that names it"]
pub struct Of<'a> {
    faults: &'a StoreFaults,
    names: Names,
    calls: Calls,
}

#[expect(
    clippy::must_use_candidate,
    reason = "the fault is injected, whether or not the test keeps the handle"
)]
impl Of<'_> {
    /// Injects the fault into call `nth`. The next call is 1. Default: 1.
    pub fn nth(mut self, nth: u64) -> Self {
        self.calls = Calls::Nth(nth);
        self
    }

    /// Injects the fault into the next `calls` calls.
    pub fn first(mut self, calls: u64) -> Self {
        self.calls = Calls::First(calls);
        self
    }

    /// Injects the fault into all calls, until it is [lifted](Injection::lift).
    pub fn always(mut self) -> Self {
        self.calls = Calls::All;
        self
    }

    /// Injects the fault into a share of all calls, from 0 to 1, drawn from `seed`. The draw depends on the
    /// number of the call alone.
    pub fn share(mut self, share: f64, seed: Seed) -> Self {
        self.calls = Calls::Share(seed, share);
        self
    }

    /// Makes the operation fail: it has no effect, and returns an error of this kind.
    pub fn fail(self, kind: StoreErrorKind) -> Injection {
        self.inject(StoreFault::Fail(kind))
    }

    /// Loses the answer: the operation has its effect, and returns a transient error instead of its answer.
    pub fn lose_answer(self) -> Injection {
        self.inject(StoreFault::LoseAnswer)
    }

    /// Makes the operation hang: it has no effect and never ends.
    pub fn hang_before(self) -> Injection {
        self.inject(StoreFault::HangBefore)
    }

    /// Makes the operation hang after its effect: it never returns its answer.
    pub fn hang_after(self) -> Injection {
        self.inject(StoreFault::HangAfter)
    }

    /// Delays the effect of the operation by `by`.
    pub fn late_before(self, by: Duration) -> Injection {
        self.inject(StoreFault::LateBefore(by))
    }

    /// Delays the answer by `by`. The operation has its effect immediately.
    pub fn late_after(self, by: Duration) -> Injection {
        self.inject(StoreFault::LateAfter(by))
    }

    /// Makes the operation panic, without an effect.
    pub fn panic(self) -> Injection {
        self.inject(StoreFault::Panic)
    }

    /// Crashes the process before the operation has its effect. `process` is its current life: the
    /// executor has its [spawner](CrashPoints::spawner).
    pub fn crash_before(self, process: &CrashPoints) -> Injection {
        self.inject(StoreFault::CrashBefore(process.clone()))
    }

    /// Crashes the process after the operation has had its effect, and before its answer.
    pub fn crash_after(self, process: &CrashPoints) -> Injection {
        self.inject(StoreFault::CrashAfter(process.clone()))
    }

    fn inject(self, fault: StoreFault) -> Injection {
        let Self { faults, names, calls } = self;
        let operations = match &names {
            Names::All => "all operations".to_owned(),
            Names::These(names) => names.join(", "),
        };
        let text = format!("{operations}, {}: {}", calls.words(), fault.words());
        faults.lock().add(names, calls, fault, text)
    }
}
