//! The treatment of an event that the handler of a projection does not handle.

use std::time::Duration;

use buttress::StoreError;

use super::batch::Handles;
use super::config::OnFailure;
use super::mode::Mode;
use super::running::Running;
use super::shared::Stopped;
use super::state::After;
use super::troubles::{Fault, Operation, Trouble, ask};
use crate::event_store::recorded::{Page, Unreadable};
use crate::event_store::store::Store;
use crate::event_store::stream::Position;

impl<St, H, M> Running<St, H, M>
where
    St: Store,
    M: Mode<St>,
    H: Handles<M::Tx>,
{
    /// Takes in an event that the store cannot read.
    pub(super) async fn unreadable(&mut self, event: Unreadable, error: StoreError) {
        let (at, now) = (event.position, self.projection.config.common.clock.now());
        self.troubles.worked(Operation::Read);
        self.progress.read(Page::new(vec![event.stub()], at, false), now);
        self.failed(1, at, Fault::unreadable(&error)).await;
    }

    /// Takes in a failed call of the handler.
    pub(super) async fn failed(&mut self, events: usize, to: Position, fault: Fault) {
        self.projection.shared.count(|stats| stats.failed += 1);
        let (config, shared) = (self.projection.config.clone(), self.projection.shared.clone());
        let now = config.common.clock.now();
        let wait = |retry| config.backoff.delay(retry, Duration::ZERO, &config.common.rng);
        let after = self.progress.failed(events, fault.counts, fault.is_final, wait, now);
        let (layer, projection, error) = (shared.layer.as_str(), &*shared.name, &*fault.text);
        let Some(first) = self.progress.waiting(1).pop() else { return };
        let (position, stream) = (first.position.get(), &first.event.stream);
        let kind = &*first.event.kind;
        // A rebuild parks no events: its dead letters would belong to its own name, which ends with the swap.
        let on_failure = match config.on_failure {
            OnFailure::Park if self.progress.is_rebuilding() => OnFailure::Stop,
            policy => policy,
        };
        match (after, on_failure) {
            (After::Singly, _) => tracing::debug!(
                target: "buttress", layer, projection, position, events, error,
                "a batch of a projection failed; its events are handled one by one"
            ),
            (After::Again(_), _) => tracing::debug!(
                target: "buttress", layer, projection, position, %stream, kind, error,
                "an event of a projection failed; it is attempted again"
            ),
            (After::GiveUp, OnFailure::Stop) => {
                tracing::error!(
                    target: "buttress", layer, projection, position, %stream, kind, error,
                    "the projection stops at an event; resume it after the cause is fixed"
                );
                shared.numbers().stopped = Some(Stopped {
                    position: first.position,
                    stream: stream.clone(),
                    version: first.event.version,
                    kind: kind.to_owned(),
                    error: fault.text.clone(),
                });
                self.release().await;
                self.progress.stop();
            }
            (After::GiveUp, OnFailure::Skip) => match self.advance(to).await {
                Ok(()) => {
                    tracing::warn!(
                        target: "buttress", layer, projection, position, %stream, kind, error,
                        "the projection skips an event"
                    );
                    shared.count(|stats| stats.skipped += 1);
                    self.handled(events, to);
                }
                Err(trouble) => self.troubled(Operation::Commit, trouble),
            },
            (After::GiveUp, OnFailure::Park) => {
                // A worker that was late must not hold a stream of the worker that took over.
                if let Err(trouble) = self.advance(self.progress.checkpoint()).await {
                    return self.troubled(Operation::Commit, trouble);
                }
                if let Some(letters) = config.letters.clone() {
                    let at = config.common.clock.unix();
                    let parking = || letters.park(projection, &first, fault.reason, error, at);
                    let doing = Operation::Park.doing();
                    let parked = ask(&config.common.clock, doing, parking).await;
                    if let Err(error) = parked {
                        return self.troubled(Operation::Park, Trouble::Store(error));
                    }
                }
                match self.advance(to).await {
                    Ok(()) => {
                        tracing::warn!(
                            target: "buttress", layer, projection, position, %stream, kind, error,
                            "the projection parks an event and the later ones of its stream"
                        );
                        shared.count(|stats| stats.parked += 1);
                        self.handled(events, to);
                    }
                    Err(trouble) => self.troubled(Operation::Commit, trouble),
                }
            }
        }
    }
}
