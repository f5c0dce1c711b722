//! The end of a call: what becomes of its key, its answer and those who wait for it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::backend::Backend;
use super::config::{Leave, LostClaim};
use super::owner::Owner;
use super::shared::{Counter, Shared};
use super::store::Immediate;
use crate::machinery::ended::polled_after_completion;
use crate::vocabulary::error::Error;
use crate::vocabulary::store_error::{StoreError, StoreErrorKind};

/// How a handler ended.
pub(super) enum Ending<V> {
    /// With an answer that is to be stored.
    Keep(V),
    /// With one that is not.
    Failed,
    /// With one that cannot be, though the work is done.
    Lost,
    /// With an answer, after it had stored this value in its own transaction.
    Committed(V),
    /// With a failure, after it had begun to: whether that was committed is unknown.
    InDoubt,
}

/// What the caller gets.
pub(super) enum Settled<V> {
    /// The answer of its handler.
    Answer,
    /// That of the value which turned out to be stored.
    Stored(V),
    /// An error: somebody else has the key.
    Lost(Error),
}

impl<V: Clone + Send + 'static> Shared<V> {
    /// Settles a call at once, in a store that can.
    #[inline(always)]
    pub(super) fn settle_now(
        &self,
        owner: &Owner,
        ending: Ending<V>,
    ) -> Result<Settled<V>, Ending<V>> {
        let Some(store) = self.store.at_once() else { return Err(ending) };
        let (key, claim) = (&owner.identity.key, owner.claim);
        Ok(match ending {
            Ending::Keep(value) => {
                let copy = (self.lines.waiting() > 0).then(|| value.clone());
                match store.complete_now(key, claim, value, self.config.result_lifetime) {
                    Err(error) if cannot_hold(&error) => {
                        let settled = self.lost_now(store, owner, copy);
                        self.store_failed("complete", &error);
                        self.not_kept();
                        settled
                    }
                    stored => self.completed(owner, copy, stored),
                }
            }
            Ending::Lost => {
                let settled = self.lost_now(store, owner, None);
                self.not_kept();
                settled
            }
            Ending::Failed => {
                let released = self.frees().then(|| store.release_claim_now(key, claim));
                self.failed(owner, released)
            }
            Ending::Committed(value) => self.committed(owner, value),
            Ending::InDoubt => {
                let released = self.frees().then(|| store.release_claim_now(key, claim));
                let outcome = store.outcome_now(key, claim);
                self.read_back(owner, released, outcome)
            }
        })
    }

    /// Settles a call, in a store that has to be waited for.
    pub(super) async fn settle(self: Arc<Self>, owner: Owner, ending: Ending<V>) -> Settled<V> {
        self.sweep(self.now());
        match ending {
            Ending::Keep(value) => {
                let lifetime = self.config.result_lifetime;
                let (known, claim) = (owner.identity.clone(), owner.claim);
                let copy = value.clone();
                let begin = move |store: Arc<dyn Backend<V>>| {
                    store.begin_complete(known.clone(), claim, copy.clone(), lifetime)
                };
                match self.attempt(begin).await {
                    Err(error) if cannot_hold(&error) => {
                        let settled = self.lost(&owner, Some(value)).await;
                        self.store_failed("complete", &error);
                        self.not_kept();
                        settled
                    }
                    stored => {
                        let worked = stored.is_ok();
                        let settled = self.completed(&owner, Some(value), stored);
                        if worked {
                            self.worked("complete");
                        }
                        settled
                    }
                }
            }
            Ending::Lost => {
                let settled = self.lost(&owner, None).await;
                self.not_kept();
                settled
            }
            Ending::Failed => {
                let released = self.release(&owner, self.config.patience).await;
                self.failed(&owner, released)
            }
            Ending::Committed(value) => self.committed(&owner, value),
            Ending::InDoubt => {
                let half = self.config.patience / 2;
                // Released before it is read back: a transaction that is still at it holds the row,
                // so that the release waits for its end and leaves alone what it completed.
                let released = self.release(&owner, half).await;
                let begin = |store: Arc<dyn Backend<V>>| {
                    store.begin_outcome(owner.identity.clone(), owner.claim)
                };
                let outcome = self.attempt_within(half, begin).await;
                self.read_back(&owner, released, outcome)
            }
        }
    }

    /// The work is done, and the store holds no answer of it: the key stays done without one, unless the
    /// handler is to run again. Calls that wait already get the answer if it is here.
    async fn lost(&self, owner: &Owner, answer: Option<V>) -> Settled<V> {
        self.counters.add(Counter::NotKept);
        if self.config.rerun_if_not_kept {
            let released = self.release(owner, self.config.patience).await;
            return self.failed(owner, released);
        }
        let lifetime = self.config.result_lifetime;
        let begin = |store: Arc<dyn Backend<V>>| {
            store.begin_complete_without_result(owner.identity.clone(), owner.claim, lifetime)
        };
        let recorded = self.attempt(begin).await;
        self.completed(owner, answer, recorded)
    }

    /// Returns the same in a store that answers at once.
    #[cold]
    fn lost_now(&self, store: &dyn Immediate<V>, owner: &Owner, answer: Option<V>) -> Settled<V> {
        self.counters.add(Counter::NotKept);
        let (key, claim) = (&owner.identity.key, owner.claim);
        if self.config.rerun_if_not_kept {
            let released = self.frees().then(|| store.release_claim_now(key, claim));
            return self.failed(owner, released);
        }
        let lifetime = self.config.result_lifetime;
        let recorded = store.complete_without_result_now(key, claim, lifetime);
        self.completed(owner, answer, recorded)
    }

    fn frees(&self) -> bool {
        self.config.failed_calls == Leave::Free
    }

    async fn release(&self, owner: &Owner, patience: Duration) -> Option<Result<(), StoreError>> {
        if !self.frees() {
            return None;
        }
        let Owner { identity, claim, .. } = owner;
        let begin = |store: Arc<dyn Backend<V>>| store.begin_release(identity.clone(), *claim);
        Some(self.attempt_within(patience, begin).await)
    }

    #[inline(always)]
    fn completed(
        &self,
        owner: &Owner,
        copy: Option<V>,
        stored: Result<(), StoreError>,
    ) -> Settled<V> {
        if let Err(error) = stored {
            return self.not_completed(owner, &error);
        }
        match copy {
            Some(value) => self.lines.answered(owner, value),
            None => self.lines.left(owner),
        }
        Settled::Answer
    }

    #[cold]
    fn not_completed(&self, owner: &Owner, error: &StoreError) -> Settled<V> {
        self.lines.left(owner);
        if error.is_fenced() {
            let lost = self.fenced();
            return match self.config.lost_claim {
                LostClaim::Refuse => Settled::Lost(lost),
                LostClaim::Answer => Settled::Answer,
            };
        }
        // The work is done and its caller hears so: an error would have it done again. The claim is
        // kept for as long as its lease lasts.
        self.store_failed("complete", error);
        Settled::Answer
    }

    /// The key is free, if its release succeeded. Those who wait are served before an observer, which may
    /// panic, is called.
    fn failed(&self, owner: &Owner, released: Option<Result<(), StoreError>>) -> Settled<V> {
        self.counters.add(Counter::Failed);
        self.lines.left(owner);
        released.map(|released| self.told("release", released));
        Settled::Answer
    }

    fn committed(&self, owner: &Owner, value: V) -> Settled<V> {
        self.lines.answered(owner, value);
        Settled::Answer
    }

    fn read_back(
        &self,
        owner: &Owner,
        released: Option<Result<(), StoreError>>,
        outcome: Result<Option<V>, StoreError>,
    ) -> Settled<V> {
        match outcome {
            Ok(Some(value)) => {
                self.committed(owner, value.clone());
                released.map(|released| self.told("release", released));
                Settled::Stored(value)
            }
            outcome => {
                let settled = self.failed(owner, released);
                self.told("read back", outcome);
                settled
            }
        }
    }
}

/// Returns `true` if the store holds no such result, whatever is tried.
fn cannot_hold(error: &StoreError) -> bool {
    error.kind() == StoreErrorKind::Invalid
}

/// A call that is being settled. Dropping it leaves the rest to a task of its own: the handler is
/// done, so its answer is stored all the same.
pub(super) struct Settling<V> {
    shared: Arc<Shared<V>>,
    rest: Option<Rest<V>>,
    finish: fn(&Arc<Shared<V>>, Rest<V>),
}

type Rest<V> = Pin<Box<dyn Future<Output = Settled<V>> + Send>>;

impl<V: Clone + Send + 'static> Settling<V> {
    pub(super) fn begin(shared: Arc<Shared<V>>, owner: Owner, ending: Ending<V>) -> Self {
        let rest: Rest<V> = Box::pin(shared.clone().settle(owner, ending));
        let finish = |shared: &Arc<Shared<V>>, rest: Rest<V>| {
            // Without a runtime the lease ends, and the answer is lost.
            shared.spawn(async move {
                rest.await;
            });
        };
        Self { shared, rest: Some(rest), finish }
    }
}

impl<V> Future for Settling<V> {
    type Output = Settled<V>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Settled<V>> {
        let Some(rest) = &mut self.rest else {
            polled_after_completion("idempotency::ResponseFuture")
        };
        let settled = rest.as_mut().poll(cx);
        if settled.is_ready() {
            self.rest = None;
        }
        settled
    }
}

impl<V> Drop for Settling<V> {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take() {
            (self.finish)(&self.shared, rest);
        }
    }
}

impl<V> fmt::Debug for Settling<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settling").finish_non_exhaustive()
    }
}
