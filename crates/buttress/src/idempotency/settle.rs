//! The end of a call: decides about its key, its answer and its waiters.

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
use crate::vocabulary::store_error::{Answer, StoreError, StoreErrorKind};

/// The end of a handler.
pub(super) enum Ending<V> {
    /// An answer that must be stored.
    Keep(V),
    /// An answer that is not stored.
    Failed,
    /// An answer that cannot be stored, although the work is done.
    Lost,
    /// An answer, after the handler has stored this value in its own transaction.
    Committed(V),
    /// A failure, after the handler has begun to store a value: the outcome of the transaction is
    /// unknown. `fenced` if the store refused a later value.
    InDoubt { fenced: bool },
    /// A failure, after the store refused the handler's own completion: another call has the key.
    Fenced,
}

/// The result for the caller.
pub(super) enum Settled<V> {
    /// The answer of the handler.
    Answer,
    /// The answer from the value that was found in the store.
    Stored(V),
    /// An error: another call has the key.
    Lost(Error),
}

impl<V: Clone + Send + 'static> Shared<V> {
    /// Settles a call without waiting, in a store that supports it.
    #[inline(always)]
    pub(super) fn settle_now(
        &self,
        owner: &Owner,
        ending: Ending<V>,
    ) -> Result<Settled<V>, Ending<V>> {
        let Some(store) = self.store.immediate() else { return Err(ending) };
        let claim = owner.claim();
        Ok(match ending {
            Ending::Keep(value) => {
                let copy = (self.waiters.waiting() > 0).then(|| value.clone());
                match store.complete_now(claim, value, self.config.result_lifetime) {
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
                let released = self.frees().then(|| store.release_claim_now(claim));
                self.failed(owner, released)
            }
            Ending::Committed(value) => self.committed(owner, value),
            Ending::Fenced => self.claim_lost(owner),
            Ending::InDoubt { fenced } => {
                let released = self.frees().then(|| store.release_claim_now(claim));
                let outcome = store.outcome_now(claim);
                self.read_back(owner, fenced, released, outcome)
            }
        })
    }

    /// Settles a call in a store that may make it wait.
    pub(super) async fn settle(self: Arc<Self>, owner: Owner, ending: Ending<V>) -> Settled<V> {
        self.sweep(self.now());
        match ending {
            Ending::Keep(value) => {
                let lifetime = self.config.result_lifetime;
                let (known, copy) = (owner.clone(), value.clone());
                let begin = move |store: Arc<dyn Backend<V>>| {
                    store.begin_complete(known.clone(), copy.clone(), lifetime)
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
            Ending::Fenced => self.claim_lost(&owner),
            Ending::InDoubt { fenced } => {
                let half = self.config.patience / 2;
                // Released before it is read back. A transaction that is still running holds the
                // row, so the release waits for its end, and does not remove a completed claim.
                let released = self.release(&owner, half).await;
                let begin = |store: Arc<dyn Backend<V>>| store.begin_outcome(owner.clone());
                let outcome = self.attempt_within(half, begin).await;
                self.read_back(&owner, fenced, released, outcome)
            }
        }
    }

    /// Marks the key as done without an answer, because the store cannot hold the answer. If the
    /// handler must run again, releases the key instead. Waiting calls still get the answer if it
    /// is here.
    async fn lost(&self, owner: &Owner, answer: Option<V>) -> Settled<V> {
        self.counters.add(Counter::NotKept);
        if self.config.rerun_if_not_kept {
            let released = self.release(owner, self.config.patience).await;
            return self.failed(owner, released);
        }
        let lifetime = self.config.result_lifetime;
        let begin = |store: Arc<dyn Backend<V>>| {
            store.begin_complete_without_result(owner.clone(), lifetime)
        };
        let recorded = self.attempt(begin).await;
        self.completed(owner, answer, recorded)
    }

    /// Settles like [`lost`](Self::lost), in a store that answers without waiting.
    #[cold]
    fn lost_now(&self, store: &dyn Immediate<V>, owner: &Owner, answer: Option<V>) -> Settled<V> {
        self.counters.add(Counter::NotKept);
        let claim = owner.claim();
        if self.config.rerun_if_not_kept {
            let released = self.frees().then(|| store.release_claim_now(claim));
            return self.failed(owner, released);
        }
        let lifetime = self.config.result_lifetime;
        let recorded = store.complete_without_result_now(claim, lifetime);
        self.completed(owner, answer, recorded)
    }

    fn frees(&self) -> bool {
        self.config.failed_calls == Leave::Free
    }

    async fn release(&self, owner: &Owner, patience: Duration) -> Option<Answer<()>> {
        if !self.frees() {
            return None;
        }
        let begin = |store: Arc<dyn Backend<V>>| store.begin_release(owner.clone());
        Some(self.attempt_within(patience, begin).await)
    }

    #[inline(always)]
    fn completed(&self, owner: &Owner, copy: Option<V>, stored: Answer<()>) -> Settled<V> {
        if let Err(error) = stored {
            return self.not_completed(owner, &error);
        }
        match copy {
            Some(value) => self.waiters.answered(owner, value),
            None => self.waiters.left(owner),
        }
        Settled::Answer
    }

    #[cold]
    fn not_completed(&self, owner: &Owner, error: &StoreError) -> Settled<V> {
        if error.is_fenced() {
            return self.claim_lost(owner);
        }
        self.waiters.left(owner);
        // The work is done, so the caller gets its answer: an error would make the caller repeat
        // the work. The claim stays until its lease ends.
        self.store_failed("complete", error);
        Settled::Answer
    }

    /// Settles a call whose key another call has taken over. Waiters find the new owner.
    #[cold]
    fn claim_lost(&self, owner: &Owner) -> Settled<V> {
        self.waiters.left(owner);
        let lost = self.fenced();
        match self.config.lost_claim {
            LostClaim::Refuse => Settled::Lost(lost),
            LostClaim::Answer => Settled::Answer,
        }
    }

    /// Settles a failed call. The key is free if its release succeeded. Waiters are served before
    /// an observer is called, which may panic.
    fn failed(&self, owner: &Owner, released: Option<Answer<()>>) -> Settled<V> {
        self.counters.add(Counter::Failed);
        self.waiters.left(owner);
        released.map(|released| self.told("release", released));
        Settled::Answer
    }

    fn committed(&self, owner: &Owner, value: V) -> Settled<V> {
        self.waiters.answered(owner, value);
        Settled::Answer
    }

    fn read_back(
        &self,
        owner: &Owner,
        fenced: bool,
        released: Option<Answer<()>>,
        outcome: Answer<Option<V>>,
    ) -> Settled<V> {
        match outcome {
            Ok(Some(value)) => {
                self.committed(owner, value.clone());
                released.map(|released| self.told("release", released));
                Settled::Stored(value)
            }
            Ok(None) if fenced => {
                let settled = self.claim_lost(owner);
                released.map(|released| self.told("release", released));
                settled
            }
            outcome => {
                let settled = self.failed(owner, released);
                self.told("read back", outcome);
                settled
            }
        }
    }
}

/// Returns `true` if the store can never hold this result.
fn cannot_hold(error: &StoreError) -> bool {
    error.kind() == StoreErrorKind::Invalid
}

/// A call that is being settled. Dropping it moves the rest to a separate task: the handler is
/// done, so its answer must still be stored.
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
