//! [`Store`]: the operations that a store of saga logs implements.

use std::future::Future;
use std::time::Duration;

use buttress::StoreError;

use super::model::entry::Status;

mod records;

pub use records::{Append, Appended, NewSaga, Record, SagaId, Summary, TakenOver, WorkerId};

/// Stores the logs of sagas, and the worker that runs each saga. `P` is the encoded form of
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
pub trait Store<P>: Send + Sync + 'static {
    /// Sets the end of the lease of `worker` to `lease` from now, also if the lease has run out.
    fn renew_worker(
        &self,
        worker: WorkerId,
        lease: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Ends the lease of `worker`. Other workers can take over its unfinished sagas immediately.
    fn release_worker(
        &self,
        worker: WorkerId,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Stores a new saga under epoch 1, owned by its worker, with status [`Status::Running`].
    ///
    /// # Errors
    /// Returns `Conflict` if the id is known. Exception: the same saga of the same worker is
    /// stored, and nothing was added to its log. Returns `Invalid` if the saga is too large.
    fn create(&self, saga: NewSaga<P>) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Appends entries to the log of a saga.
    ///
    /// # Errors
    /// Returns `Fenced` if the saga is unknown or owned under another epoch. Returns `Conflict` if
    /// `position` is not the end of the log, unless the log holds exactly these entries there
    /// already.
    fn append(
        &self,
        append: Append<P>,
    ) -> impl Future<Output = Result<Appended, StoreError>> + Send;

    /// Takes over up to `limit` sagas of one version of a definition whose worker has no live
    /// lease, oldest first.
    ///
    /// The sagas are [`Running`](Status::Running) or [`Unwinding`](Status::Unwinding). The store
    /// counts a lease for at most its length from now, even after the store's clock was set back.
    /// A saga whose epoch cannot grow is reported as corrupt.
    fn take_abandoned(
        &self,
        worker: WorkerId,
        definition: &str,
        version: u32,
        limit: usize,
    ) -> impl Future<Output = Result<TakenOver<P>, StoreError>> + Send;

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
    ) -> impl Future<Output = Result<Option<Record<P>>, StoreError>> + Send;

    /// Lists the sagas of one version of a definition that are [`Running`](Status::Running) or
    /// [`Unwinding`](Status::Unwinding) and that `worker` owns.
    ///
    /// An executor compares the list with the sagas that it runs, and takes the sagas that it does
    /// not run. The list may hold sagas of other workers, because [`take_saga`](Self::take_saga)
    /// decides. The default implementation lists the sagas of all workers. A store that can look
    /// sagas up by their worker should override it.
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

    /// Reads one saga; returns `None` if it is unknown.
    ///
    /// # Errors
    /// Returns `Corrupt` if the saga cannot be read.
    fn load(
        &self,
        saga: SagaId,
    ) -> impl Future<Output = Result<Option<Record<P>>, StoreError>> + Send;

    /// Requests the cancellation of a saga. Returns `false` if the saga is unknown or has ended.
    ///
    /// The next append of the owner returns the request, and a take-over does too.
    fn request_cancel(&self, saga: SagaId)
    -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Lists up to `limit` sagas with `status` (all if `None`), ordered by id, beginning after
    /// `after`.
    ///
    /// A list leaves out sagas that cannot be read; [`load`](Self::load) returns the reason. Fewer
    /// than `limit` sagas mean the end of the list.
    fn list(
        &self,
        status: Option<Status>,
        after: Option<SagaId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Summary>, StoreError>> + Send;

    /// Returns up to `limit` sagas of other versions of a definition that no live worker owns, oldest
    /// first. [`Executor::recover`](crate::saga::Executor::recover) reports them.
    ///
    /// The sagas are [`Running`](Status::Running) or [`Unwinding`](Status::Unwinding).
    ///
    /// The default implementation lists up to 10 000 unfinished sagas with [`list`](Self::list). It
    /// cannot see leases, so it returns sagas of live workers too. Stores should override it.
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

    /// Removes up to `limit` sagas, of all definitions, that ended at least `age` ago, with their
    /// logs. Returns how many.
    ///
    /// Also removes leases of workers that ran out that long ago. A stuck saga has not ended.
    fn purge_sagas(
        &self,
        age: Duration,
        limit: usize,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Removes up to `limit` sagas of one definition that ended at least `age` ago, with their
    /// logs. Returns how many.
    ///
    /// An executor calls it for its own definition, so executors with different
    /// [retentions](crate::saga::Config::retention) can share a store. The default implementation
    /// calls [`purge_sagas`](Self::purge_sagas), so the shortest retention holds for all
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
