//! Replaying the parked events of a projection.

use std::collections::HashSet;

use buttress::StoreError;

use super::batch::Handles;
use super::mode::Mode;
use super::parking::position;
use super::running::Running;
use super::shared::Replayed;
use super::troubles::{Operation, Trouble, ask};
use crate::answer::Answer;
use crate::consume::Letter;
use crate::event_store::checkpoint::Advance;
use crate::event_store::recorded::{Filter, Ordered};
use crate::event_store::store::Store;
use crate::event_store::stream::Position;

/// How many letters one query reads.
const PAGE: usize = 100;

const DOING: &str = "replaying parked events";

impl<St, H, M> Running<St, H, M>
where
    St: Store,
    M: Mode<St>,
    H: Handles<M::Tx>,
{
    /// Answers an operator who wants parked events replayed. `has_lease` is `false` if another worker has the projection.
    pub(super) async fn replay(&mut self, has_lease: bool) {
        let Some(answer) = self.projection.shared.take_replay() else { return };
        let replayed = if has_lease {
            self.replay_all().await.map_err(|(operation, trouble)| match trouble {
                Trouble::Store(error) => {
                    self.troubled(operation, Trouble::Store(error.clone()));
                    error
                }
                lost => {
                    self.troubled(operation, lost);
                    StoreError::fenced(format!("{DOING}: another worker has the projection"))
                }
            })
        } else {
            let name = &self.projection.name;
            let why = "this worker does not have the lease: ask the process that has it";
            Err(StoreError::transient(format!("{DOING} of projection {name}: {why}")))
        };
        // The operator may not wait any more.
        let _unheard = answer.send(replayed);
    }

    /// Replays the letters in the order in which the events were parked. A stream ends at its first event that fails.
    async fn replay_all(&mut self) -> Result<Replayed, (Operation, Trouble)> {
        let mut replayed = Replayed::default();
        let config = self.projection.config.clone();
        let Some(letters) = config.letters.clone() else { return Ok(replayed) };
        let (name, clock) = (self.projection.name.clone(), config.common.clock.clone());
        let parking = |error| (Operation::Park, Trouble::Store(error));
        let (mut failed, mut after) = (HashSet::new(), 0);
        loop {
            let page = ask(&clock, DOING, || letters.page(&name, after, PAGE));
            let page = page.await.map_err(parking)?;
            let Some(last) = page.last() else { return Ok(replayed) };
            after = last.sequence;
            for letter in page {
                self.keep_lease().await?;
                if failed.contains(&letter.key) || !self.replay_one(&letter).await? {
                    failed.insert(letter.key);
                    replayed.left += 1;
                    continue;
                }
                let removing = || letters.remove(letter.id);
                ask(&clock, DOING, removing).await.map_err(parking)?;
                replayed.events += 1;
            }
        }
    }

    /// Renews the lease if it is time to.
    async fn keep_lease(&mut self) -> Result<(), (Operation, Trouble)> {
        let lost = (Operation::Lease, Trouble::Lost);
        if self.is_shutting_down() {
            let ended = StoreError::transient(format!("{DOING}: the projection shuts down"));
            return Err((Operation::Park, Trouble::Store(ended)));
        }
        let before = self.progress.lease().cloned();
        if self.progress.is_lease_due(self.projection.config.common.clock.now()) {
            self.lease().await;
        }
        if before.is_none() || self.progress.lease() != before.as_ref() {
            return Err(lost);
        }
        Ok(())
    }

    /// Replays the event of a letter. Returns `true` if it has taken effect, now or before.
    async fn replay_one(&mut self, letter: &Letter) -> Result<bool, (Operation, Trouble)> {
        let Some(position) = position(letter) else { return Ok(false) };
        if self.progress.has_taken_effect(position) {
            return Ok(true);
        }
        // The checkpoint was not moved past the event: the projection reads it again, and parks it again.
        if position > self.progress.checkpoint() {
            return Ok(false);
        }
        let event = self.read_one(position).await;
        let event = event.map_err(|error| (Operation::Read, Trouble::Store(error)))?;
        let Some(event) = event else { return Ok(false) };
        let lease = self.progress.lease().cloned().ok_or((Operation::Lease, Trouble::Lost))?;
        let at = self.progress.checkpoint();
        let advance = Advance::new(lease, at, at).replayed(position);
        match self.call(vec![event], &advance).await {
            Ok(()) => {
                self.progress.replayed(position);
                self.projection.shared.count(|stats| stats.handled += 1);
                Ok(true)
            }
            Err(Trouble::Handler(fault)) => {
                let shared = &self.projection.shared;
                shared.count(|stats| stats.failed += 1);
                let (layer, projection) = (shared.layer.as_str(), &*shared.name);
                let (position, stream, error) = (position.get(), &*letter.key, &*fault.text);
                tracing::warn!(
                    target: "buttress", layer, projection, position, stream, error,
                    "a parked event of a projection failed again; it stays parked"
                );
                Ok(false)
            }
            Err(trouble) => Err((Operation::Commit, trouble)),
        }
    }

    async fn read_one(&mut self, position: Position) -> Answer<Option<Ordered>> {
        let before = Position::new(position.get().saturating_sub(1));
        let (log, all) = (&self.projection.log, Filter::all());
        let clock = &self.projection.config.common.clock;
        let reading = || log.store().read_all(before, &all, 1);
        let page = ask(clock, Operation::Read.doing(), reading).await?;
        Ok(page.events.into_iter().find(|event| event.position == position))
    }
}
