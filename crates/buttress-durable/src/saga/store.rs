//! [`Store`] and [`CreateIn`]: the operations that a store of saga logs implements.

use std::future::Future;
use std::time::Duration;

use buttress::StoreError;

use super::model::entry::Status;
pub use super::model::id::SagaId;
use crate::answer::Answer;

mod migration;
mod records;
mod signals;
mod versions;

pub use migration::{Moved, NewLog};
pub use records::{
    Append, Appended, NewSaga, Page, Record, Summary, TakeOver, TakenOver, WorkerId,
};
pub use signals::{LARGEST_SIGNAL, NewSignal, Signal, SignalAnswer, SignalId, SignalIn};
pub(in crate::saga) use signals::{bytes_of, check_payload_of_signal};
pub use versions::OVERDUE;

/// A store of the logs of sagas, and of the worker that runs each saga. `P` is the encoded form of
/// payloads.
///
/// One worker owns a saga under one epoch. A worker holds a lease, which the store's own clock
/// measures. Other workers can take over the sagas of a worker without a live lease, which raises
/// the epoch. The store refuses every write under an older epoch, and it makes the check and the
/// write in one step.
///
/// Every write carries its identity: an id, or an epoch and a position. So a caller can repeat a
/// write whose answer was lost. A repeated write with the same content returns `Ok`; other content
/// is a `Conflict`.
///
/// Every future is lazy: a method whose future was never polled has no effect.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a store of sagas whose payloads are `{P}`",
    note = "a store of bytes needs a codec: give the definition `.codec(buttress::Json)`, with the feature `json`"
)]
pub trait Store<P>: Send + Sync + 'static {
    /// Sets the end of the lease of `worker` to `lease` from now, also if the lease has run out.
    fn renew_worker(
        &self,
        worker: WorkerId,
        lease: Duration,
    ) -> impl Future<Output = Answer<()>> + Send;

    /// Ends the lease of `worker`. Other workers can take over its unfinished sagas immediately.
    fn release_worker(&self, worker: WorkerId) -> impl Future<Output = Answer<()>> + Send;

    /// Stores a new saga under epoch 1, owned by its worker, with status [`Status::Running`].
    ///
    /// # Errors
    /// Returns `Conflict` if the id is known. Exception: the same saga of the same worker is
    /// stored under epoch 1, and nothing was added to its log. A saga that this worker has taken
    /// over is known: the start of it would write under an epoch that is over. Returns `Invalid` if
    /// the saga is too large.
    fn create(&self, saga: NewSaga<P>) -> impl Future<Output = Answer<()>> + Send;

    /// Appends entries to the log of a saga.
    ///
    /// # Errors
    /// Returns `Fenced` if the saga is unknown or owned under another epoch. Returns `Conflict` if
    /// `position` is not the end of the log, unless the log holds exactly these entries there
    /// already.
    ///
    /// A saga with status [`Waiting`](Status::Waiting) is due [`due_in`](Append::due_in) from now, by the
    /// store's clock. Its owner can still append to its log until another worker takes it. Without `due_in` the
    /// store returns `Invalid`. If a cancellation is requested, and the append does not
    /// [know](Append::knows_cancel) of it, the saga is due immediately: its owner may end before it acts.
    ///
    /// If the append has [`seen_signals`](Append::seen_signals) and the store has recorded more signals of the
    /// saga, it appends nothing and returns [`has_unseen_signals`](Appended::has_unseen_signals). The check and
    /// the append are one step. So a signal is either seen before the saga waits, or makes the waiting saga due.
    ///
    /// If the saga would [complete](Status::Completed), a cancellation is requested, and the append does not know of
    /// it, the store appends nothing and returns [`has_unseen_cancel`](Appended::has_unseen_cancel). This check is
    /// part of the same step. So a requested cancellation is never overlooked at the end of a saga.
    fn append(&self, append: Append<P>) -> impl Future<Output = Answer<Appended>> + Send;

    /// Takes over the requested number of sagas of one version of a definition whose worker has no
    /// live lease, oldest first.
    ///
    /// The sagas are [`Running`](Status::Running) or [`Unwinding`](Status::Unwinding). The store
    /// counts a lease for at most its length from now, even after the store's clock was set back.
    /// A saga whose epoch cannot grow is reported as corrupt.
    fn take_abandoned(
        &self,
        sagas: TakeOver<'_>,
    ) -> impl Future<Output = Answer<TakenOver<P>>> + Send;

    /// Whether the store keeps [waiting](Status::Waiting) sagas. It then implements
    /// [`has_due`](Self::has_due) and [`take_due`](Self::take_due), and keeps the [times](Record::times) of
    /// entries. Default: `false`.
    ///
    /// [`Executor::new`](crate::saga::Executor::new) refuses a definition with a step that waits, if the store
    /// does not keep waiting sagas.
    fn keeps_waits(&self) -> bool {
        false
    }

    /// Whether a [waiting](Status::Waiting) saga of one version of the definition `name` is due.
    ///
    /// An executor whose definition has a step that waits asks twice per second, so the answer should need
    /// one look-up in an index. The default implementation returns `false`.
    fn has_due(&self, name: &str, version: u32) -> impl Future<Output = Answer<bool>> + Send {
        let _ = (name, version);
        async { Ok(false) }
    }

    /// Takes the requested number of [waiting](Status::Waiting) sagas of one version of a definition that are
    /// due, the longest due first.
    ///
    /// A saga is due when the [`due_in`](Append::due_in) of its wait has passed by the store's clock, or when a
    /// caller has [requested its cancellation](Self::request_cancel) or [signalled](Self::signal) it. No saga is due later than its `due_in` from
    /// now, also after the store's clock was set back. It does not matter whether the last owner has a live
    /// lease. The sagas get status [`Running`](Status::Running) and their next epoch.
    ///
    /// A saga that cannot be read is reported as corrupt, and is due again a minute later. The default
    /// implementation takes none.
    fn take_due(&self, sagas: TakeOver<'_>) -> impl Future<Output = Answer<TakenOver<P>>> + Send {
        let _ = sagas;
        async { Ok(TakenOver::new()) }
    }

    /// Whether the store keeps signals. It then implements [`signal`](Self::signal) and
    /// [`signals`](Self::signals), counts the [signals](Record::signals) of a record, and obeys
    /// [`seen_signals`](Append::seen_signals). Default: `false`.
    ///
    /// [`Executor::new`](crate::saga::Executor::new) refuses a definition with a step that waits for a signal, if
    /// the store does not keep signals.
    fn keeps_signals(&self) -> bool {
        false
    }

    /// Records a signal to a saga. A [waiting](Status::Waiting) saga is due immediately.
    ///
    /// The store keeps the first signal of each name until it removes the saga. It compares the id first: a
    /// repetition returns [`Duplicate`](SignalAnswer::Duplicate), also after the saga has ended. Then it returns
    /// the [refusal](SignalAnswer::refusal), if there is one, and [`Later`](SignalAnswer::Later) for a second
    /// signal of a name. The checks and the write are one step.
    ///
    /// # Errors
    /// Returns `Invalid` if the payload is larger than [`LARGEST_SIGNAL`]. The default implementation returns
    /// `Invalid`, because it keeps no signals.
    fn signal(&self, signal: NewSignal<P>) -> impl Future<Output = Answer<SignalAnswer>> + Send {
        let why =
            format!("signal {} of saga {}: the store keeps no signals", signal.id, signal.saga);
        async { Err(StoreError::invalid(why)) }
    }

    /// Returns the signals of a saga, in the order in which they were recorded. Returns none if the saga is
    /// unknown.
    ///
    /// # Errors
    /// Returns `Corrupt` if a signal cannot be read.
    fn signals(&self, saga: SagaId) -> impl Future<Output = Answer<Vec<Signal<P>>>> + Send {
        let _ = saga;
        async { Ok(Vec::new()) }
    }

    /// Takes over one saga of any definition that is [`Stuck`](Status::Stuck), that `worker` owns,
    /// or whose worker has no live lease.
    ///
    /// Returns `None` if the saga is unknown, ended, or owned by another live worker.
    ///
    /// A saga that `worker` owns gets a new epoch as well, so that `worker` can repeat a take-over whose answer
    /// was lost.
    ///
    /// # Errors
    /// Returns `Corrupt` if the saga cannot be read. The saga stays unchanged.
    fn take_saga(
        &self,
        worker: WorkerId,
        saga: SagaId,
    ) -> impl Future<Output = Answer<Option<Record<P>>>> + Send;

    /// Lists the sagas of one version of the definition `name` that are [`Running`](Status::Running) or
    /// [`Unwinding`](Status::Unwinding) and that `worker` owns.
    ///
    /// An executor compares the list with the sagas that it runs, and takes the sagas that it does
    /// not run. The list may hold sagas of other workers, because [`take_saga`](Self::take_saga)
    /// decides. The default implementation lists the sagas of all workers. A store that can look
    /// sagas up by their worker should override it.
    fn owned(
        &self,
        worker: WorkerId,
        name: &str,
        version: u32,
    ) -> impl Future<Output = Answer<Vec<SagaId>>> + Send {
        let _ = worker;
        async move {
            const AT_ONCE: usize = 1000;
            let mut owned = Vec::new();
            for status in [Status::Running, Status::Unwinding] {
                let mut after = None;
                loop {
                    let page = self.list(Page::first(AT_ONCE).status(status).after(after)).await?;
                    after = page.last().map(|summary| summary.id);
                    let is_last = page.len() < AT_ONCE;
                    let same = |summary: &Summary| {
                        summary.definition == name && summary.version == version
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

    /// Whether a running saga of one version of the definition `name` is owned by
    /// [`NOBODY`](WorkerId::NOBODY): [`create_in`](CreateIn::create_in) has created it, and no worker
    /// has taken it yet.
    ///
    /// [`Executor::keep_recovering`](crate::saga::Executor::keep_recovering) asks twice per second, so
    /// the answer should need one look-up in an index. The default implementation returns `false`,
    /// which is right for a store without [`CreateIn`].
    fn has_unowned(&self, name: &str, version: u32) -> impl Future<Output = Answer<bool>> + Send {
        let _ = (name, version);
        async { Ok(false) }
    }

    /// Takes a saga that [`create_in`](CreateIn::create_in) has created and that no worker has taken yet.
    ///
    /// Returns `None` if the saga is unknown, or if a worker has taken it, also if that was `worker` itself. The
    /// check and the take-over are one step: an executor takes such a saga after the commit, while its own
    /// recovery may take it too. The default implementation returns an error, which is right for a store without
    /// [`CreateIn`].
    ///
    /// # Errors
    /// Returns `Corrupt` if the saga cannot be read. The saga stays unchanged.
    fn take_unowned(
        &self,
        worker: WorkerId,
        saga: SagaId,
    ) -> impl Future<Output = Answer<Option<Record<P>>>> + Send {
        let _ = worker;
        async move {
            let why =
                format!("saga {saga}: this store takes no sagas that a transaction has created");
            Err(StoreError::invalid(why))
        }
    }

    /// Reads one saga; returns `None` if it is unknown.
    ///
    /// # Errors
    /// Returns `Corrupt` if the saga cannot be read.
    fn load(&self, saga: SagaId) -> impl Future<Output = Answer<Option<Record<P>>>> + Send;

    /// Requests the cancellation of a saga. Returns `false` if the saga is unknown or has ended.
    ///
    /// The next append of the owner returns the request, and a take-over does too. The owner cannot complete the saga
    /// before it [knows](Append::knows_cancel) of the request. A [waiting](Status::Waiting) saga is due immediately.
    fn request_cancel(&self, saga: SagaId) -> impl Future<Output = Answer<bool>> + Send;

    /// Lists the sagas of a page, ordered by id.
    ///
    /// A list leaves out sagas that cannot be read; [`load`](Self::load) returns the reason. Fewer
    /// sagas than the limit of the page mean the end of the list.
    fn list(&self, page: Page) -> impl Future<Output = Answer<Vec<Summary>>> + Send;

    /// Returns up to `limit` sagas of the definition `name` that no executor seems to run, of other versions
    /// than `known`. [`Executor::recover`](crate::saga::Executor::recover) reports them.
    ///
    /// First come the [`Running`](Status::Running) and [`Unwinding`](Status::Unwinding) sagas that no live worker
    /// owns, oldest first. Then come the [`Waiting`](Status::Waiting) sagas that have been due for at least
    /// [`OVERDUE`], the longest due first.
    ///
    /// The default implementation lists up to 15 000 unfinished sagas with [`list`](Self::list). It sees neither
    /// leases nor the store's clock, so it also returns sagas of live workers and sagas that are not due. Stores
    /// should override it.
    fn other_versions(
        &self,
        name: &str,
        known: &[u32],
        limit: usize,
    ) -> impl Future<Output = Answer<Vec<Summary>>> + Send {
        versions::listed(self, name, known, limit)
    }

    /// Whether the store moves sagas to another version of their definition. It then implements
    /// [`migrate`](Self::migrate). Default: `false`.
    fn migrates(&self) -> bool {
        false
    }

    /// Replaces the version and the log of a saga, if the saga is still as the [log](NewLog) says.
    ///
    /// The saga has not ended, and no live worker owns it. A [`Waiting`](Status::Waiting) or
    /// [`Stuck`](Status::Stuck) saga needs no worker, so its last one does not matter. The checks and the write are one
    /// step. The saga then has its next epoch and the owner [`NOBODY`](WorkerId::NOBODY), and keeps its status. A
    /// waiting saga is due immediately. The time of its start, its deadline, a requested cancellation and its signals
    /// stay.
    ///
    /// A repetition with the same content returns [`Moved`](Moved::Moved), unless a worker has taken the saga since.
    ///
    /// # Errors
    /// Returns `Invalid` if the log does not fit into the store, and `Corrupt` if the saga cannot be read or its epoch
    /// cannot grow. The default implementation returns `Invalid`.
    fn migrate(&self, log: NewLog<P>) -> impl Future<Output = Answer<Moved>> + Send {
        let why = format!("saga {}: the store does not move sagas to another version", log.saga);
        async { Err(StoreError::invalid(why)) }
    }

    /// Removes up to `limit` sagas of the definition `name` that ended at least `age` ago, with their
    /// logs. Returns how many. Without a name, removes sagas of all definitions.
    ///
    /// Also removes the leases of workers that ended at least `age` ago. A stuck saga has not ended.
    ///
    /// An executor purges its own definition, so executors with different
    /// [retentions](crate::saga::Config::retention) can share a store.
    fn purge_sagas(
        &self,
        name: Option<&str>,
        age: Duration,
        limit: usize,
    ) -> impl Future<Output = Answer<usize>> + Send;
}

/// A store that creates sagas in the caller's own transaction `Tx`. A saga exists if the transaction commits.
///
/// Every future is lazy: a saga whose future was never polled is not created.
pub trait CreateIn<Tx, P>: Send + Sync {
    /// Creates a saga under epoch 1 with status [`Status::Running`], owned by the worker of the
    /// record, which is [`NOBODY`](WorkerId::NOBODY). Returns `None`, or the saga that is known under
    /// the id, also if this transaction has created it. The known saga stays unchanged.
    ///
    /// # Errors
    /// Returns `Invalid` if the saga is too large; nothing was done then. After any other error, roll
    /// the transaction back.
    fn create_in(
        &self,
        tx: &mut Tx,
        saga: NewSaga<P>,
    ) -> impl Future<Output = Answer<Option<Record<P>>>> + Send;
}
