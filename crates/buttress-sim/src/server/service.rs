use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tower::Service;

use super::core::Core;
use super::failure::Failure;
use super::future::StationFuture;
use super::stats::StationStats;

/// A [`Server`](super::Server) in a simulation: a service for any request. Clones are the same
/// station.
///
/// It is always ready. If its queue is full, the call returns the rejection, as over a network.
#[derive(Clone)]
pub struct Station {
    core: Arc<Core>,
}

impl Station {
    pub(crate) const fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Returns a snapshot of the statistics.
    #[must_use]
    pub fn stats(&self) -> StationStats {
        self.core.stats()
    }
}

impl<Req> Service<Req> for Station {
    type Response = Served;
    type Error = Failure;
    type Future = StationFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Req) -> StationFuture {
        StationFuture::new(&self.core, self.core.arrive())
    }
}

impl fmt::Debug for Station {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Station").field("name", &self.core.name()).finish_non_exhaustive()
    }
}

/// The answer of a [`Station`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Served {
    waited: u64,
    worked: u64,
}

impl Served {
    pub(super) const fn new(waited: u64, worked: u64) -> Self {
        Self { waited, worked }
    }

    /// Returns the time that the job waited in the queue.
    #[must_use]
    pub const fn waited(self) -> Duration {
        Duration::from_nanos(self.waited)
    }

    /// Returns the time that the job was in service, pauses included.
    #[must_use]
    pub const fn worked(self) -> Duration {
        Duration::from_nanos(self.worked)
    }
}
