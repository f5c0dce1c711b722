//! A store of sagas with troubles.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use buttress::{Clock, InMemoryValue, StoreError};
use buttress_durable::Answer;
use buttress_durable::outbox::MemoryTransaction;
use buttress_durable::saga::{
    CreateIn, MemoryStore, NewSaga, Record, SagaId, SignalAnswer, Status, Store, TakenOver,
};
use buttress_sim::crash::{Ledger, Process};
use buttress_sim::hooked::saga::Operation;
use buttress_sim::hooked::{Hook, Hooked, Operation as _, Run, answer};

/// Where each saga stood last, and since when. A purge removes the log, not this.
#[derive(Clone, Default)]
pub(super) struct History {
    fates: Arc<Mutex<BTreeMap<SagaId, (Status, Instant)>>>,
    /// When each waiting saga is due, by the clock of the store.
    dues: Arc<Mutex<BTreeMap<SagaId, Duration>>>,
    /// When the store has recorded the signal of each saga, by its clock.
    signals: Arc<Mutex<BTreeMap<SagaId, Duration>>>,
}

impl History {
    pub(super) fn status(&self, id: SagaId) -> Option<Status> {
        self.fates.lock().unwrap().get(&id).map(|(status, _)| *status)
    }

    pub(super) fn signalled(&self, id: SagaId) -> Option<Duration> {
        self.signals.lock().unwrap().get(&id).copied()
    }

    pub(super) fn is(&self, id: SagaId, status: Status, since: Instant) -> bool {
        let mut fates = self.fates.lock().unwrap();
        if fates.get(&id).is_some_and(|(known, _)| *known == status) {
            return false;
        }
        fates.insert(id, (status, since)).is_none()
    }
}

/// The store of one worker.
pub(super) type Troubled = Hooked<MemoryStore, Troubles>;

/// The troubles of one worker. They report the owner of a saga to the ledger when each effect
/// happens.
#[derive(Clone)]
pub(super) struct Troubles {
    pub store: MemoryStore,
    pub process: Process,
    pub ledger: Ledger,
    pub history: History,
    /// The clock of the store.
    pub clock: Clock,
}

impl Troubles {
    pub(super) fn into_store(self) -> Troubled {
        Hooked::new(self.store.clone(), self)
    }

    /// Runs an operation, and checks its effect.
    async fn watch<T: Any + Send>(
        &self,
        operation: Operation<InMemoryValue>,
        run: Run<T>,
    ) -> Result<T, StoreError> {
        match operation {
            Operation::Create { saga } => self.watch_create(saga.id, run).await,
            Operation::Append { append } => {
                let appended = run.await?;
                // A repeated append may be older than what the log says.
                if let Some(record) = self.store.load(append.saga).await? {
                    self.history.is(append.saga, record.status, self.clock.now());
                    if let Some(due) = record.due_at {
                        self.history.dues.lock().unwrap().insert(append.saga, due);
                    }
                }
                Ok(appended)
            }
            Operation::Signal { signal } => {
                let answered = run.await?;
                if *answer::<SignalAnswer, _>(&answered) == SignalAnswer::Delivered {
                    let recorded = (signal.saga, self.clock.unix());
                    self.history.signals.lock().unwrap().extend([recorded]);
                }
                Ok(answered)
            }
            Operation::TakeAbandoned { .. } => {
                let taken = run.await?;
                self.own(&answer::<TakenOver<InMemoryValue>, _>(&taken).sagas);
                Ok(taken)
            }
            Operation::TakeDue { .. } => {
                let taken = run.await?;
                let sagas = &answer::<TakenOver<InMemoryValue>, _>(&taken).sagas;
                self.own(sagas);
                sagas.iter().for_each(|record| self.was_due(record));
                Ok(taken)
            }
            Operation::TakeSaga { .. } | Operation::TakeUnowned { .. } => {
                let taken = run.await?;
                self.own(answer::<Option<Record<InMemoryValue>>, _>(&taken).as_slice());
                Ok(taken)
            }
            Operation::PurgeSagas { age, .. } => self.watch_purge(age, run).await,
            _ => run.await,
        }
    }

    fn own(&self, taken: &[Record<InMemoryValue>]) {
        taken.iter().for_each(|record| self.ledger.owned(record.id, self.process.number()));
    }

    /// Checks that a waiting saga is not taken before its time.
    fn was_due(&self, record: &Record<InMemoryValue>) {
        let due = self.history.dues.lock().unwrap().remove(&record.id);
        let is_early = record.cancel_requested || record.signals > 0;
        if !is_early && due.is_none_or(|due| self.clock.unix() < due) {
            let (id, now) = (record.id, self.clock.unix());
            self.ledger.violated(format!("saga {id} was woken at {now:?}, due at {due:?}"));
        }
    }

    async fn watch_create<T>(&self, id: SagaId, create: Run<T>) -> Result<T, StoreError> {
        let known = self.store.load(id).await?.is_some();
        let created = create.await?;
        if !known {
            self.ledger.owned(id, self.process.number());
            if !self.history.is(id, Status::Running, self.clock.now()) {
                self.ledger.violated(format!("saga {id} was stored again after its purge"));
            }
        }
        Ok(created)
    }

    /// Runs a purge of sagas that ended `age` ago. A saga that it removes must have ended, that
    /// long ago.
    async fn watch_purge<T>(&self, age: Duration, purge: Run<T>) -> Result<T, StoreError> {
        let known: Vec<_> = {
            let fates = self.history.fates.lock().unwrap();
            fates.iter().map(|(id, fate)| (*id, *fate)).collect()
        };
        let mut there = Vec::new();
        for (id, fate) in known {
            if self.store.load(id).await?.is_some() {
                there.push((id, fate));
            }
        }
        let purged = purge.await?;
        for (id, (status, since)) in there {
            let old = self.clock.now() >= since + age;
            if self.store.load(id).await?.is_none() && !(status.is_ended() && old) {
                self.ledger.violated(format!("saga {id} was purged, {status:?} since {since:?}"));
            }
        }
        Ok(purged)
    }
}

impl Hook<Operation<InMemoryValue>> for Troubles {
    async fn around<T: Any + Send>(
        &self,
        operation: Operation<InMemoryValue>,
        run: Run<T>,
    ) -> Answer<T> {
        let (name, own) = (operation.name(), self.clone());
        self.process.operation(name, async move { own.watch(operation, run).await }).await
    }
}

/// Without troubles: the statement is lost with its transaction, whose commit has them.
impl CreateIn<MemoryTransaction, InMemoryValue> for Troubles {
    async fn create_in(
        &self,
        tx: &mut MemoryTransaction,
        saga: NewSaga<InMemoryValue>,
    ) -> Answer<Option<Record<InMemoryValue>>> {
        self.store.create_in(tx, saga).await
    }
}
