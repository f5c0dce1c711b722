//! The operations of stores of claims and results.

use std::time::Duration;

use buttress::StoreError;
use buttress::idempotency::{ClaimId, Claimed, CompleteIn, Fingerprint, Key, Size, Store};

use super::{Hook, Hooked};

/// An operation of a [`Store`], with its arguments.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the methods of the store have the names and the arguments")]
pub enum Operation<V> {
    Claim { key: Key, claim: ClaimId, fingerprint: Option<Fingerprint>, lease: Duration },
    RenewClaim { key: Key, claim: ClaimId, lease: Duration },
    Complete { key: Key, claim: ClaimId, value: V, lifetime: Duration },
    CompleteWithoutResult { key: Key, claim: ClaimId, lifetime: Duration },
    ReleaseClaim { key: Key, claim: ClaimId },
    Outcome { key: Key, claim: ClaimId },
    SweepExpired { limit: usize },
}

impl<V: Send + 'static> super::Operation for Operation<V> {
    fn name(&self) -> &'static str {
        match self {
            Self::Claim { .. } => "claim",
            Self::RenewClaim { .. } => "renew_claim",
            Self::Complete { .. } => "complete",
            Self::CompleteWithoutResult { .. } => "complete_without_result",
            Self::ReleaseClaim { .. } => "release_claim",
            Self::Outcome { .. } => "outcome",
            Self::SweepExpired { .. } => "sweep_expired",
        }
    }
}

/// A hooked store has no [`immediate`](Store::immediate) operations, because a hook can wait.
impl<V, S, H> Store<V> for Hooked<S, H>
where
    V: Clone + Send + Sync + 'static,
    S: Store<V> + Clone,
    H: Hook<Operation<V>>,
{
    async fn claim(
        &self,
        key: &Key,
        claim: ClaimId,
        fingerprint: Option<Fingerprint>,
        lease: Duration,
    ) -> Result<Claimed<V>, StoreError> {
        let own = key.clone();
        let operation = Operation::Claim { key: own.clone(), claim, fingerprint, lease };
        let run = async move |store: S| store.claim(&own, claim, fingerprint, lease).await;
        self.pass(operation, run).await
    }

    async fn renew_claim(
        &self,
        key: &Key,
        claim: ClaimId,
        lease: Duration,
    ) -> Result<(), StoreError> {
        let own = key.clone();
        let operation = Operation::RenewClaim { key: own.clone(), claim, lease };
        self.pass(operation, async move |store: S| store.renew_claim(&own, claim, lease).await)
            .await
    }

    async fn complete(
        &self,
        key: &Key,
        claim: ClaimId,
        value: V,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        let own = key.clone();
        let operation =
            Operation::Complete { key: own.clone(), claim, value: value.clone(), lifetime };
        let run = async move |store: S| store.complete(&own, claim, value, lifetime).await;
        self.pass(operation, run).await
    }

    async fn complete_without_result(
        &self,
        key: &Key,
        claim: ClaimId,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        let own = key.clone();
        let operation = Operation::CompleteWithoutResult { key: own.clone(), claim, lifetime };
        let run = async move |store: S| store.complete_without_result(&own, claim, lifetime).await;
        self.pass(operation, run).await
    }

    async fn release_claim(&self, key: &Key, claim: ClaimId) -> Result<(), StoreError> {
        let own = key.clone();
        let operation = Operation::ReleaseClaim { key: own.clone(), claim };
        self.pass(operation, async move |store: S| store.release_claim(&own, claim).await).await
    }

    async fn outcome(&self, key: &Key, claim: ClaimId) -> Result<Option<V>, StoreError> {
        let own = key.clone();
        let operation = Operation::Outcome { key: own.clone(), claim };
        self.pass(operation, async move |store: S| store.outcome(&own, claim).await).await
    }

    async fn sweep_expired(&self, limit: usize) -> Result<usize, StoreError> {
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
    async fn complete_in(
        &self,
        tx: &mut Tx,
        key: &Key,
        claim: ClaimId,
        value: &V,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        self.hook.complete_in(tx, key, claim, value, lifetime).await
    }
}
