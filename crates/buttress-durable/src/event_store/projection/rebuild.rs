//! Rebuilding a projection beside the one that runs, and the swap.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use buttress::StoreError;
use tower::BoxError;

use super::Projection;
use super::batch::Handles;
use super::config::Effects;
use super::mode::Mode;
use super::running::Running;
use super::shared::Stopped;
use super::troubles::{Operation, Trouble};
use crate::bounded::asking;
use crate::event_store::checkpoint::Swap;
use crate::event_store::store::Store;
use crate::event_store::stream::Position;

/// The wait before a swap without a transaction is repeated.
const ASK_AGAIN: Duration = Duration::from_secs(1);

const SWAPPING: &str = "swapping projections";

/// The reason why a projection was not rebuilt. Its name and its checkpoint stay: another call continues there.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The handler cannot handle an event, and the policy is not [`OnFailure::Skip`](super::OnFailure::Skip). A rebuild
    /// parks no event.
    #[error("{0}")]
    Stopped(Stopped),
    /// The handle shut the projection down.
    #[error("the rebuild was shut down")]
    ShutDown,
    /// The caller's part of the swap failed.
    #[error("the swap of the rebuilt projection failed")]
    Swap(#[source] BoxError),
    /// The store does not know the name of the projection any more: another rebuild of the name has swapped it, or an
    /// operator has removed it.
    #[error(
        "the projection {name} was removed while it was built: look for another rebuild of this name"
    )]
    Removed {
        /// The name.
        name: String,
    },
    /// The store failed in the swap. After a transient error, which is returned only in a shutdown, the swap may have taken
    /// place.
    #[error("cannot swap the rebuilt projection")]
    Store(#[from] StoreError),
}

impl<St, H, M> Projection<St, H, M>
where
    St: Store,
    M: Mode<St>,
    H: Handles<M::Tx>,
{
    /// Builds this projection beside the projection `replaced`, and then takes its place. Returns the checkpoint.
    ///
    /// The handler of this projection writes to new tables. The projection `replaced` continues meanwhile, with the old
    /// tables. When this projection has handled every event, `swap` gets a transaction, and puts the new tables into the
    /// place of the old ones. In the same transaction the projection `replaced` gets the checkpoint of this one, and the
    /// store removes the name of this one. A worker of `replaced` that has not committed is fenced. It reads the new
    /// checkpoint and continues with the new tables. So the handler of `replaced` must fit the new tables. If their columns
    /// change, shut `replaced` down in every process first, and start it with a new handler after the swap.
    ///
    /// Without [`in_transaction`](super::Projection::in_transaction) `swap` is called once. The checkpoint follows in a transaction of
    /// the store. If the process crashes between both, the projection `replaced` handles events again that the new tables have.
    ///
    /// A handler with [`Effects::Live`](super::Effects::Live) gets no event, because all of them are replayed. The projection
    /// `replaced` then continues with the first event that it has not passed.
    ///
    /// # Errors
    /// Returns [`RebuildError`] with the reason. Repeats the swap after a transient error of the store, unless it has taken
    /// place.
    ///
    /// # Cancel safety
    /// If the future is dropped, another call continues from the checkpoint. The swap takes place as a whole or not at
    /// all.
    pub async fn rebuild<F, Swapped>(
        self,
        replaced: impl Into<Arc<str>>,
        mut swap: F,
    ) -> Result<Position, RebuildError>
    where
        F: FnMut(M::Tx) -> Swapped,
        Swapped: Future<Output = Result<M::Tx, BoxError>>,
    {
        let replaced = replaced.into();
        let mut running = Running::new(self);
        running.progress.rebuild();
        // The checkpoint of a swap whose answer was lost.
        let mut unknown = None;
        loop {
            let built = match running.catch_up(unknown).await {
                Ok(None) => running.swap(&replaced, &mut swap, &mut unknown).await,
                Ok(Some(at)) => return Ok(at),
                Err(error) => Err(error),
            };
            match built {
                Ok(at) => return Ok(at),
                // A renewed lease has the checkpoint. It waits for a swap that is still being committed.
                Err(RebuildError::Store(error)) if error.is_transient() => {
                    running.troubled(Operation::Commit, Trouble::Store(error));
                }
                Err(error) => {
                    running.release().await;
                    return Err(error);
                }
            }
        }
    }
}

impl<St, H, M> Running<St, H, M>
where
    St: Store,
    M: Mode<St>,
    H: Handles<M::Tx>,
{
    /// Handles every event that is there. Returns the checkpoint if the `unknown` swap has taken place.
    async fn catch_up(
        &mut self,
        unknown: Option<Position>,
    ) -> Result<Option<Position>, RebuildError> {
        while !self.progress.has_caught_up() {
            if self.is_shutting_down() {
                return Err(RebuildError::ShutDown);
            }
            self.step().await;
            let stopped = self.projection.shared.numbers().stopped.clone();
            if let Some(stopped) = stopped {
                return Err(RebuildError::Stopped(stopped));
            }
            // A swap removes the name. Nothing creates it again: its handler would write to the tables that are in use.
            if std::mem::take(&mut self.is_refused) && !self.is_known().await {
                let name = self.projection.name.to_string();
                return unknown.map(Some).ok_or(RebuildError::Removed { name });
            }
        }
        Ok(None)
    }

    /// Returns `false` if the store does not know the projection.
    async fn is_known(&mut self) -> bool {
        let (store, name) = (self.projection.log.store(), &self.projection.name);
        let states = asking(SWAPPING, || store.projections()).await;
        // Without an answer the next refusal asks again.
        states.map_or(true, |states| states.iter().any(|state| *state.name == **name))
    }

    /// Replaces a projection by this one. The caller's part comes first: a worker of the replaced projection that holds a
    /// lock on a table ends before the lock on its checkpoint is taken.
    async fn swap<F, Swapped>(
        &mut self,
        replaced: &Arc<str>,
        swap: &mut F,
        unknown: &mut Option<Position>,
    ) -> Result<Position, RebuildError>
    where
        F: FnMut(M::Tx) -> Swapped,
        Swapped: Future<Output = Result<M::Tx, BoxError>>,
    {
        // The projection has its lease after an earlier swap, which therefore did not take place.
        *unknown = None;
        let at = self.progress.checkpoint();
        let lost = || StoreError::fenced("rebuilding a projection: the lease was lost");
        let lease = self.progress.lease().cloned().ok_or_else(lost)?;
        let is_live_only = self.projection.config.effects == Effects::Live;
        let swapped = Swap::new(lease, at, replaced.clone()).live_only(is_live_only);
        let log = self.projection.log.clone();
        let store = log.store();
        let tx = asking(SWAPPING, || M::begin(store)).await?;
        let mut tx = swap(tx).await.map_err(RebuildError::Swap)?;
        if M::IS_ONE_TRANSACTION {
            asking(SWAPPING, || M::swap(store, &mut tx, &swapped)).await?;
            let committed = asking(SWAPPING, || M::commit(store, tx)).await;
            *unknown = committed.as_ref().err().filter(|error| error.is_transient()).map(|_| at);
            return committed.map(|()| at).map_err(RebuildError::from);
        }
        // The caller's part has taken effect, and is not repeated.
        let mut is_repeated = false;
        loop {
            let swapping = asking(SWAPPING, || M::swap(store, &mut tx, &swapped)).await;
            let Err(error) = swapping else { return Ok(at) };
            if error.is_fenced() && is_repeated && !self.is_known().await {
                return Ok(at);
            }
            if !error.is_transient() || self.is_shutting_down() {
                return Err(error.into());
            }
            is_repeated = true;
            self.projection.config.common.clock.sleep(ASK_AGAIN).await;
        }
    }
}
