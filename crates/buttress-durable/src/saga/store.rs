//! What a store of saga logs must do, and the types it speaks in.

use std::future::Future;
use std::time::Duration;

use buttress::StoreError;

use super::model::entry::{Beginning, Entry, Status};
use crate::id::ids;

ids! {
    /// One saga.
    SagaId;
    /// One process, or part of one, that runs sagas. Drawn anew at every start: it is never reused.
    WorkerId;
}

/// A saga about to begin.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewSaga<P> {
    /// Drawn by the caller.
    pub id: SagaId,
    /// The name of its definition.
    pub definition: String,
    /// The version of its definition.
    pub version: u32,
    /// The name of the codec of all its payloads.
    pub codec: &'static str,
    /// Who runs it. It must have called [`Store::renew_worker`] before.
    pub worker: WorkerId,
    /// When steps stop being started, as wall time since 1970.
    pub deadline: Option<Duration>,
    /// The first entry of its log: what it is started with.
    pub beginning: Beginning<P>,
    /// The entries after the first one, counted from position 0.
    pub entries: Vec<Entry<P>>,
}

impl<P> NewSaga<P> {
    /// Creates a saga with no deadline and no further entries.
    #[must_use]
    pub fn new(
        id: SagaId,
        (definition, version): (impl Into<String>, u32),
        codec: &'static str,
        worker: WorkerId,
        beginning: Beginning<P>,
    ) -> Self {
        Self {
            id,
            definition: definition.into(),
            version,
            codec,
            worker,
            deadline: None,
            beginning,
            entries: Vec::new(),
        }
    }
}

/// More entries for a log.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Append<P> {
    /// Whose log.
    pub saga: SagaId,
    /// The epoch under which the caller owns the saga.
    pub epoch: u64,
    /// How many entries the log holds before these: the position of the first new one, from 0.
    pub position: u64,
    /// The new entries, at least one.
    pub entries: Vec<Entry<P>>,
    /// Where the saga stands after them. An ended saga has no owner any more.
    pub status: Status,
}

impl<P> Append<P> {
    /// Creates an append to the log of `saga`, which is owned under `epoch` and holds `position` entries.
    #[must_use]
    pub const fn new(
        saga: SagaId,
        epoch: u64,
        position: u64,
        entries: Vec<Entry<P>>,
        status: Status,
    ) -> Self {
        Self { saga, epoch, position, entries, status }
    }
}

/// What an append tells the owner.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Appended {
    /// Somebody asked for the saga to be cancelled.
    pub cancel_requested: bool,
}

impl Appended {
    /// An answer.
    #[must_use]
    pub const fn new(cancel_requested: bool) -> Self {
        Self { cancel_requested }
    }
}

/// A saga as it is stored.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record<P> {
    /// Which saga.
    pub id: SagaId,
    /// The name of its definition.
    pub definition: String,
    /// The version of its definition.
    pub version: u32,
    /// The name of the codec of its payloads.
    pub codec: String,
    /// The epoch under which it is owned now. Every take-over adds one; the first is 1. The largest value
    /// of a signed number of 64 bits, and what is beyond it, are never assigned.
    pub epoch: u64,
    /// Where it stands.
    pub status: Status,
    /// Whether somebody asked for it to be cancelled.
    pub cancel_requested: bool,
    /// When steps stop being started, as wall time since 1970.
    pub deadline: Option<Duration>,
    /// The first entry of its log: what it was started with.
    pub beginning: Beginning<P>,
    /// The entries after the first one, in order.
    pub entries: Vec<Entry<P>>,
}

impl<P> Record<P> {
    /// Creates the record of a saga that is running under epoch 1, has no deadline, and was not asked to be
    /// cancelled.
    #[must_use]
    pub fn new(
        id: SagaId,
        (definition, version): (impl Into<String>, u32),
        codec: impl Into<String>,
        beginning: Beginning<P>,
        entries: Vec<Entry<P>>,
    ) -> Self {
        Self {
            id,
            definition: definition.into(),
            version,
            codec: codec.into(),
            epoch: 1,
            status: Status::Running,
            cancel_requested: false,
            deadline: None,
            beginning,
            entries,
        }
    }
}

/// One saga in a list of sagas.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Which saga.
    pub id: SagaId,
    /// The name of its definition.
    pub definition: String,
    /// The version of its definition.
    pub version: u32,
    /// Where it stands.
    pub status: Status,
    /// Its latest epoch.
    pub epoch: u64,
}

impl Summary {
    /// Creates one saga of a list.
    #[must_use]
    pub fn new(
        id: SagaId,
        (definition, version): (impl Into<String>, u32),
        status: Status,
        epoch: u64,
    ) -> Self {
        Self { id, definition: definition.into(), version, status, epoch }
    }
}

/// What a take-over found.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TakenOver<P> {
    /// Sagas that the caller owns now, under the epoch in the record.
    pub sagas: Vec<Record<P>>,
    /// Sagas that cannot be read: `Corrupt` errors that name them. They were left as they are, and are
    /// not found again by this worker's later calls before the rest was.
    pub corrupt: Vec<(SagaId, String)>,
}

impl<P> TakenOver<P> {
    /// Creates the result of a take-over that found nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { sagas: Vec::new(), corrupt: Vec::new() }
    }
}

impl<P> Default for TakenOver<P> {
    fn default() -> Self {
        Self::new()
    }
}

/// Keeps the logs of sagas and who runs them. `P` is what payloads are encoded to.
///
/// A saga is owned by one worker under one epoch. A worker holds a lease, counted by the store's own
/// clock; the sagas of a worker without a live lease are free to be taken over, which raises their
/// epoch. Whatever is written under an older epoch is refused: the check and the write are one.
///
/// Every write carries what identifies it (an id, or epoch and position), so that repeating one whose
/// answer was lost changes nothing: same content `Ok`, other content `Conflict`.
///
/// Every future is lazy: a method that was called, and whose future was never polled, has no effect.
pub trait Store<P>: Send + Sync + 'static {
    /// Lets the lease of `worker` end `lease` from now, also if it ran out.
    fn renew_worker(
        &self,
        worker: WorkerId,
        lease: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Ends the lease of `worker`: its unfinished sagas are free at once.
    fn release_worker(
        &self,
        worker: WorkerId,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Stores a new saga, owned by its worker under epoch 1, with status [`Status::Running`].
    ///
    /// # Errors
    /// `Conflict` if the id is known, unless exactly this saga stands there, of the same worker, with
    /// nothing added to its log yet. `Invalid` if it is too large.
    fn create(&self, saga: NewSaga<P>) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Adds to a log.
    ///
    /// # Errors
    /// `Fenced` if the saga is owned under another epoch, or unknown. `Conflict` if `position` is not
    /// the end of the log, unless exactly these entries stand there already.
    fn append(
        &self,
        append: Append<P>,
    ) -> impl Future<Output = Result<Appended, StoreError>> + Send;

    /// Takes over up to `limit` sagas of one version of a definition that are
    /// [`Running`](Status::Running) or [`Unwinding`](Status::Unwinding) and whose worker has no live
    /// lease, oldest first. A lease never counts for longer than its length from now: the clock may have
    /// been set back. A saga whose epoch cannot be raised is corrupt.
    fn take_abandoned(
        &self,
        worker: WorkerId,
        definition: &str,
        version: u32,
        limit: usize,
    ) -> impl Future<Output = Result<TakenOver<P>, StoreError>> + Send;

    /// Takes over one saga that is [`Stuck`](Status::Stuck), that `worker` owns itself, or whose worker has no
    /// live lease, whatever its definition. Returns `None` if it is unknown, ended, or owned by another live
    /// worker.
    ///
    /// A saga that `worker` owns gets a new epoch as well, so that `worker` can repeat a take-over whose answer
    /// was lost.
    ///
    /// # Errors
    /// `Corrupt` if it cannot be read; it is left as it is.
    fn take_saga(
        &self,
        worker: WorkerId,
        saga: SagaId,
    ) -> impl Future<Output = Result<Option<Record<P>>, StoreError>> + Send;

    /// Lists the sagas of one version of a definition that are [`Running`](Status::Running) or
    /// [`Unwinding`](Status::Unwinding) and that `worker` owns.
    ///
    /// An executor compares them with the sagas that it runs, and takes those that it does not run. The list may
    /// hold sagas of other workers: [`take_saga`](Self::take_saga) decides. The default does: it lists all sagas. A store
    /// that can look them up by their worker should.
    fn owned(
        &self,
        worker: WorkerId,
        definition: &str,
        version: u32,
    ) -> impl Future<Output = Result<Vec<SagaId>, StoreError>> + Send {
        let _ = worker;
        async move {
            const AT_ONCE: usize = 1000;
            let mut owned = Vec::new();
            for status in [Status::Running, Status::Unwinding] {
                let mut after = None;
                loop {
                    let page = self.list(Some(status), after, AT_ONCE).await?;
                    after = page.last().map(|summary| summary.id);
                    let is_last = page.len() < AT_ONCE;
                    let same = |summary: &Summary| {
                        summary.definition == definition && summary.version == version
                    };
                    owned.extend(page.iter().filter(|summary| same(summary)).map(|one| one.id));
                    if is_last {
                        break;
                    }
                }
            }
            Ok(owned)
        }
    }

    /// Reads one saga; `None` if it is unknown.
    ///
    /// # Errors
    /// `Corrupt` if it cannot be read.
    fn load(
        &self,
        saga: SagaId,
    ) -> impl Future<Output = Result<Option<Record<P>>, StoreError>> + Send;

    /// Asks for a saga to be cancelled: its owner learns of it with its next append, or when it takes
    /// it over. `false` if it is unknown or has ended.
    fn request_cancel(&self, saga: SagaId)
    -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Up to `limit` sagas with `status` (of all, if `None`), ordered by id, beginning after `after`. Sagas
    /// that cannot be read are left out, and fewer than `limit` mean the end: [`load`](Self::load) says what
    /// is wrong with one.
    fn list(
        &self,
        status: Option<Status>,
        after: Option<SagaId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Summary>, StoreError>> + Send;

    /// Returns up to `limit` unfinished sagas of other versions of a definition that no live worker owns, oldest
    /// first. [`Executor::recover`](crate::saga::Executor::recover) reports them.
    ///
    /// The default implementation looks at up to 10 000 unfinished sagas with [`list`](Self::list). It cannot see
    /// leases, so it returns sagas of live workers too. Stores should override it.
    fn other_versions(
        &self,
        definition: &str,
        version: u32,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Summary>, StoreError>> + Send {
        async move {
            const PAGE: usize = 1000;
            let mut found = Vec::new();
            for status in [Status::Running, Status::Unwinding] {
                let mut after = None;
                for _ in 0..5 {
                    let page = self.list(Some(status), after, PAGE).await?;
                    let full = page.len() == PAGE;
                    after = page.last().map(|saga| saga.id);
                    let other =
                        |saga: &Summary| saga.definition == definition && saga.version != version;
                    found.extend(page.into_iter().filter(other));
                    if !full || found.len() >= limit {
                        break;
                    }
                }
            }
            found.truncate(limit);
            Ok(found)
        }
    }

    /// Removes up to `limit` sagas, of all definitions, that ended at least `age` ago, with their logs, and
    /// leases of workers that ran out that long ago; returns how many sagas. A stuck saga has not ended.
    fn purge_sagas(
        &self,
        age: Duration,
        limit: usize,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// As [`purge_sagas`](Self::purge_sagas), of one definition. An executor calls it for its own definition, so that
    /// executors with different [retentions](crate::saga::Config::retention) can share a store.
    ///
    /// The default implementation calls [`purge_sagas`](Self::purge_sagas), so the shortest retention holds for all
    /// definitions in the store. Stores should override it.
    fn purge_definition(
        &self,
        definition: &str,
        age: Duration,
        limit: usize,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send {
        let _ = definition;
        self.purge_sagas(age, limit)
    }
}
