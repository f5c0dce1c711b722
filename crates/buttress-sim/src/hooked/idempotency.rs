//! The operations of stores of claims and results.

use std::time::Duration;

use buttress::Answer;
use buttress::idempotency::{
    ClaimId, Claimed, CompleteIn, Completion, Fingerprint, Key, KeyClaim, Size, Store,
};

use super::{Hook, Hooked, operations};

operations! {
    /// An operation of a [`Store`], with its arguments.
    <V>
    Claim "claim" { key: Key, claim: ClaimId, fingerprint: Option<Fingerprint>, lease: Duration }
    RenewClaim "renew_claim" { key: Key, claim: ClaimId, lease: Duration }
    Complete "complete" { key: Key, claim: ClaimId, value: V, lifetime: Duration }
    CompleteWithoutResult "complete_without_result" { key: Key, claim: ClaimId, lifetime: Duration }
    ReleaseClaim "release_claim" { key: Key, claim: ClaimId }
    Outcome "outcome" { key: Key, claim: ClaimId }
    SweepExpired "sweep_expired" { limit: usize }
}

/// A hooked store has no [`immediate`](Store::immediate) operations, because a hook can wait.
impl<V, S, H> Store<V> for Hooked<S, H>
where
    V: Clone + Send + Sync + 'static,
    S: Store<V> + Clone,
    H: Hook<Operation<V>>,
{
    async fn claim(&self, claim: KeyClaim<'_>, lease: Duration) -> Answer<Claimed<V>> {
        let own = Own::from(claim);
        let (key, fingerprint) = (own.key.clone(), own.fingerprint);
        let operation = Operation::Claim { key, claim: own.id, fingerprint, lease };
        self.pass(operation, async move |store: S| store.claim(own.claim(), lease).await).await
    }

    async fn renew_claim(&self, claim: KeyClaim<'_>, lease: Duration) -> Answer<()> {
        let own = Own::from(claim);
        let operation = Operation::RenewClaim { key: own.key.clone(), claim: own.id, lease };
        let run = async move |store: S| store.renew_claim(own.claim(), lease).await;
        self.pass(operation, run).await
    }

    async fn complete(&self, claim: KeyClaim<'_>, value: V, lifetime: Duration) -> Answer<()> {
        let (own, copy) = (Own::from(claim), value.clone());
        let (key, claim) = (own.key.clone(), own.id);
        let operation = Operation::Complete { key, claim, value: copy, lifetime };
        let run = async move |store: S| store.complete(own.claim(), value, lifetime).await;
        self.pass(operation, run).await
    }

    async fn complete_without_result(&self, claim: KeyClaim<'_>, lifetime: Duration) -> Answer<()> {
        let own = Own::from(claim);
        let (key, claim) = (own.key.clone(), own.id);
        let operation = Operation::CompleteWithoutResult { key, claim, lifetime };
        let run = async move |store: S| store.complete_without_result(own.claim(), lifetime).await;
        self.pass(operation, run).await
    }

    async fn release_claim(&self, claim: KeyClaim<'_>) -> Answer<()> {
        let own = Own::from(claim);
        let operation = Operation::ReleaseClaim { key: own.key.clone(), claim: own.id };
        self.pass(operation, async move |store: S| store.release_claim(own.claim()).await).await
    }

    async fn outcome(&self, claim: KeyClaim<'_>) -> Answer<Option<V>> {
        let own = Own::from(claim);
        let operation = Operation::Outcome { key: own.key.clone(), claim: own.id };
        self.pass(operation, async move |store: S| store.outcome(own.claim()).await).await
    }

    async fn sweep_expired(&self, limit: usize) -> Answer<usize> {
        let run = async move |store: S| store.sweep_expired(limit).await;
        self.pass(Operation::SweepExpired { limit }, run).await
    }

    fn size(&self) -> Option<Size> {
        self.store.size()
    }
}

impl<Tx, V, S, H> CompleteIn<Tx, V> for Hooked<S, H>
where
    Tx: Send,
    V: Sync,
    S: Send + Sync,
    H: CompleteIn<Tx, V>,
{
    async fn complete_in(&self, tx: &mut Tx, completion: Completion<'_, V>) -> Answer<()> {
        self.hook.complete_in(tx, completion).await
    }
}

/// A [`KeyClaim`] that outlives its caller.
struct Own {
    key: Key,
    id: ClaimId,
    fingerprint: Option<Fingerprint>,
}

impl Own {
    fn claim(&self) -> KeyClaim<'_> {
        KeyClaim::new(&self.key, self.id).fingerprint(self.fingerprint)
    }
}

impl From<KeyClaim<'_>> for Own {
    fn from(claim: KeyClaim<'_>) -> Self {
        let KeyClaim { key, id, fingerprint, .. } = claim;
        Self { key: key.clone(), id, fingerprint }
    }
}
