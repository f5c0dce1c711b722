//! [`ProjectionHandle`]: the operator's handle of a projection.

use std::fmt;
use std::sync::Arc;

use buttress::StoreError;
use buttress::health::{Finding, Watch};

use super::shared::{Replayed, Shared, Stats, Stopped};
use crate::alive::Alive;

/// The operator's handle of a projection. Cheap to clone.
///
/// As a [health check](buttress::health) it is DOWN once the projection has ended. It is DEGRADED while the projection is
/// stopped or paused, and while an operation of the store fails. It asks no store.
#[derive(Clone)]
pub struct ProjectionHandle {
    pub(super) shared: Arc<Shared>,
    alive: Alive,
}

impl ProjectionHandle {
    pub(super) fn new(shared: Arc<Shared>, alive: Alive) -> Self {
        Self { shared, alive }
    }

    /// Returns the name of the projection.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Stops calling the handler until [`resume`](Self::resume). A call in progress ends as usual. The projection keeps
    /// its lease.
    pub fn pause(&self) {
        self.shared.control.send_modify(|control| control.is_paused = true);
    }

    /// Ends a pause. Also lets a [stopped](Self::stopped) projection try its event again.
    pub fn resume(&self) {
        self.shared.control.send_modify(|control| {
            control.is_paused = false;
            control.resumes += 1;
        });
    }

    /// Replays the events that [`OnFailure::Park`](super::OnFailure::Park) has parked, in the order in which they were
    /// parked. Mend the handler first.
    ///
    /// The projection hands each event to its handler once. A letter whose event takes effect is removed. If an event
    /// fails again, it and the later ones of its stream stay parked. With
    /// [`in_transaction`](super::Projection::in_transaction) an event takes effect once, also if the process crashes before
    /// its letter is removed: the next replay only removes the letter. The same is true of an event from which a
    /// [rebuild](super::Projection::rebuild) has made the read model. A paused projection replays when it is resumed.
    ///
    /// # Errors
    /// Returns the error of the store; another call continues. Returns a transient error if another worker has the lease:
    /// only the worker with the lease replays. Also returns one if the projection ends.
    ///
    /// # Cancel safety
    /// If the future is dropped, the projection replays the events nevertheless.
    pub async fn replay_parked(&self) -> Result<Replayed, StoreError> {
        let ended = || StoreError::transient("replaying parked events: the projection has ended");
        self.alive.answer(|answer| self.shared.ask_for_replay(answer), ended).await
    }

    /// Returns `true` between [`pause`](Self::pause) and [`resume`](Self::resume).
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.shared.control.borrow().is_paused
    }

    /// Returns the event at which the projection has stopped; `None` if it runs.
    ///
    /// A stopped projection has released its lease. Another process can take it over, e.g. with a newer version of the
    /// program.
    #[must_use]
    pub fn stopped(&self) -> Option<Stopped> {
        self.shared.numbers().stopped.clone()
    }

    /// Returns a snapshot of the counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.numbers().stats
    }

    /// Returns `true` once the projection has ended, or was dropped.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.alive.has_ended()
    }

    /// Shuts the projection down, and waits for its end. A call of the handler that is in progress ends as usual. The
    /// projection then releases its lease. Also returns if the projection is dropped.
    pub async fn shut_down(&self) {
        self.shared.control.send_modify(|control| control.is_shutting_down = true);
        self.alive.ended().await;
    }
}

impl Watch for ProjectionHandle {
    async fn look(&self) -> Finding {
        if self.has_ended() {
            return Finding::down("the projection has ended");
        }
        let paused = self.is_paused().then(|| "the projection is paused".to_owned());
        let numbers = self.shared.numbers();
        let stopped = numbers.stopped.as_ref().map(ToString::to_string);
        let troubles = numbers.troubles.iter().map(|(doing, why)| format!("{doing}: {why}"));
        let reasons: Vec<String> = paused.into_iter().chain(stopped).chain(troubles).collect();
        drop(numbers);
        if reasons.is_empty() { Finding::up() } else { Finding::degraded(reasons.join("; ")) }
    }
}

impl fmt::Debug for ProjectionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProjectionHandle")
            .field("name", &self.name())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
