//! [`Projection`]: follows the order of all events with a handler.

mod batch;
mod check;
mod config;
mod failing;
mod handle;
mod mode;
mod monitor;
mod parking;
mod reading;
mod rebuild;
mod replaying;
mod running;
mod shared;
mod state;
mod troubles;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use buttress::InvalidConfig;
use tokio::sync::watch;

use super::checkpoint::ProjectorId;
use super::log::Log;
use super::store::{Begin, Checkpoint, Store};
use crate::alive::Alive;
use shared::Shared;

pub use batch::{Batch, Handles};
pub use check::ProjectionCheck;
pub use config::{Config, Effects, OnFailure};
pub use handle::ProjectionHandle;
pub use mode::{InTransaction, Mode, Separate};
pub use monitor::ProjectionMonitor;
pub use rebuild::RebuildError;
pub use shared::{Replayed, Stats, Stopped};

/// A projection: a handler that follows the events of a store in their order, e.g. to keep a read model. The
/// [module](super) page has an example.
///
/// Any number of processes may run a projection of one name: one of them has the lease, and the others wait. The handler
/// is a [tower service](Handles) of [`Batch`], which returns the batch.
#[must_use = "a projection does nothing until it is run or spawned"]
pub struct Projection<St, H, M = Separate> {
    name: Arc<str>,
    log: Log<St>,
    handler: H,
    config: Arc<Config>,
    worker: ProjectorId,
    shared: Arc<Shared>,
    /// Dropped with the projection, which the handles see.
    alive: watch::Sender<()>,
    mode: PhantomData<fn() -> M>,
}

impl<St: Store, H> Projection<St, H> {
    /// Creates the projection `name` over the events of `log`. The store writes its checkpoint after the handler, in
    /// a separate transaction. [`in_transaction`](Self::in_transaction) uses the transaction of the handler instead.
    ///
    /// # Errors
    /// Returns [`InvalidConfig`] if a value is outside the bounds of its setter. The error has the name of the
    /// configuration, or else of the projection.
    pub fn new(
        name: impl Into<Arc<str>>,
        log: &Log<St>,
        handler: H,
        config: Config,
    ) -> Result<Self, InvalidConfig> {
        let name = name.into();
        let checked = config.common.named(config.check());
        checked.map_err(|error| error.of_layer(&name))?;
        config.common.check_clock(&name);
        Ok(Self {
            shared: Arc::new(Shared::new(config.layer(), name.clone())),
            name,
            log: log.clone(),
            handler,
            worker: ProjectorId::random(&config.common.rng),
            config: Arc::new(config),
            alive: watch::Sender::new(()),
            mode: PhantomData,
        })
    }

    /// Writes the checkpoint in the transaction of the handler, so that each event takes effect once. The handler gets
    /// the transaction with the [`Batch`].
    pub fn in_transaction(self) -> Projection<St, H, InTransaction>
    where
        St: Begin + Checkpoint<<St as Begin>::Tx>,
    {
        let Self { name, log, handler, config, worker, shared, alive, .. } = self;
        Projection { name, log, handler, config, worker, shared, alive, mode: PhantomData }
    }
}

impl<St, H, M> Projection<St, H, M> {
    /// Returns the operator's handle of this projection.
    #[must_use]
    pub fn handle(&self) -> ProjectionHandle {
        ProjectionHandle::new(self.shared.clone(), Alive::of(&self.alive))
    }
}

impl<St, H, M> Projection<St, H, M>
where
    St: Store,
    M: Mode<St>,
    H: Handles<M::Tx>,
{
    /// Spawns the projection on a separate task, and returns its handle.
    pub fn spawn(self) -> ProjectionHandle {
        let handle = self.handle();
        let spawner = self.config.common.spawner.clone();
        spawner.spawn(self.run());
        handle
    }

    /// Runs the projection until its handle [shuts it down](ProjectionHandle::shut_down).
    ///
    /// # Cancel safety
    /// If the future is dropped, the handler is dropped too, and its transaction is rolled back. Another process takes
    /// the projection over when the lease has ended.
    pub async fn run(self) {
        running::Running::new(self).run().await;
    }
}

impl<St, H, M> fmt::Debug for Projection<St, H, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Projection")
            .field("name", &self.name)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
