//! The operations of stores of messages.

use std::time::Duration;

use buttress::StoreError;
use buttress_durable::outbox::{
    Backlog, DeadLetter, Fetched, Lease, MessageId, NewMessage, Owned, RelayId, Settled, Store,
    Write,
};

use super::{Hook, Hooked};

/// An operation of a [`Store`], with its arguments.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the methods of the store have the names and the arguments")]
pub enum Operation {
    LeasePartitions { relay: RelayId, lease: Duration, busy: Vec<u16> },
    ReleasePartitions { relay: RelayId },
    Fetch { relay: RelayId, leases: Vec<Lease>, limit: usize },
    RecordStart { lease: Lease, id: MessageId, claim: u64 },
    ClearSuspects { lease: Lease },
    Settle { settled: Vec<Settled> },
    DeadLetters { after: u64, limit: usize },
    Requeue { ids: Vec<MessageId> },
    Discard { ids: Vec<MessageId> },
    Backlog,
    PurgeReceipts { age: Duration, limit: usize },
    PurgeDelivered { age: Duration, limit: usize },
}

impl super::Operation for Operation {
    fn name(&self) -> &'static str {
        match self {
            Self::LeasePartitions { .. } => "lease_partitions",
            Self::ReleasePartitions { .. } => "release_partitions",
            Self::Fetch { .. } => "fetch",
            Self::RecordStart { .. } => "record_start",
            Self::ClearSuspects { .. } => "clear_suspects",
            Self::Settle { .. } => "settle",
            Self::DeadLetters { .. } => "dead_letters",
            Self::Requeue { .. } => "requeue",
            Self::Discard { .. } => "discard",
            Self::Backlog => "backlog",
            Self::PurgeReceipts { .. } => "purge_receipts",
            Self::PurgeDelivered { .. } => "purge_delivered",
        }
    }
}

impl<S: Store + Clone, H: Hook<Operation>> Store for Hooked<S, H> {
    async fn lease_partitions(
        &self,
        relay: RelayId,
        lease: Duration,
        busy: &[u16],
    ) -> Result<Owned, StoreError> {
        let partitions = busy.to_vec();
        let operation = Operation::LeasePartitions { relay, lease, busy: partitions.clone() };
        let run = async move |store: S| store.lease_partitions(relay, lease, &partitions).await;
        self.pass(operation, run).await
    }

    async fn release_partitions(&self, relay: RelayId) -> Result<(), StoreError> {
        let run = async move |store: S| store.release_partitions(relay).await;
        self.pass(Operation::ReleasePartitions { relay }, run).await
    }

    async fn fetch(
        &self,
        relay: RelayId,
        leases: &[Lease],
        limit: usize,
    ) -> Result<Fetched, StoreError> {
        let own = leases.to_vec();
        let operation = Operation::Fetch { relay, leases: own.clone(), limit };
        self.pass(operation, async move |store: S| store.fetch(relay, &own, limit).await).await
    }

    async fn record_start(
        &self,
        lease: Lease,
        id: MessageId,
        claim: u64,
    ) -> Result<u32, StoreError> {
        let run = async move |store: S| store.record_start(lease, id, claim).await;
        self.pass(Operation::RecordStart { lease, id, claim }, run).await
    }

    async fn clear_suspects(&self, lease: Lease) -> Result<(), StoreError> {
        let run = async move |store: S| store.clear_suspects(lease).await;
        self.pass(Operation::ClearSuspects { lease }, run).await
    }

    async fn settle(&self, settled: Vec<Settled>) -> Result<Vec<u16>, StoreError> {
        let operation = Operation::Settle { settled: settled.clone() };
        self.pass(operation, async move |store: S| store.settle(settled).await).await
    }

    async fn dead_letters(&self, after: u64, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        let run = async move |store: S| store.dead_letters(after, limit).await;
        self.pass(Operation::DeadLetters { after, limit }, run).await
    }

    async fn requeue(&self, ids: &[MessageId]) -> Result<usize, StoreError> {
        let own = ids.to_vec();
        let operation = Operation::Requeue { ids: own.clone() };
        self.pass(operation, async move |store: S| store.requeue(&own).await).await
    }

    async fn discard(&self, ids: &[MessageId]) -> Result<usize, StoreError> {
        let own = ids.to_vec();
        let operation = Operation::Discard { ids: own.clone() };
        self.pass(operation, async move |store: S| store.discard(&own).await).await
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        self.pass(Operation::Backlog, async move |store: S| store.backlog().await).await
    }

    async fn purge_receipts(&self, age: Duration, limit: usize) -> Result<usize, StoreError> {
        let run = async move |store: S| store.purge_receipts(age, limit).await;
        self.pass(Operation::PurgeReceipts { age, limit }, run).await
    }

    fn receipts_kept(&self) -> Option<Duration> {
        self.store.receipts_kept()
    }

    async fn purge_delivered(&self, age: Duration, limit: usize) -> Result<usize, StoreError> {
        let run = async move |store: S| store.purge_delivered(age, limit).await;
        self.pass(Operation::PurgeDelivered { age, limit }, run).await
    }
}

impl<Tx: Send, S: Send + Sync, H: Write<Tx>> Write<Tx> for Hooked<S, H> {
    async fn write(&self, tx: &mut Tx, message: &NewMessage) -> Result<(), StoreError> {
        self.hook.write(tx, message).await
    }

    async fn lock_key(&self, tx: &mut Tx, key: &str) -> Result<(), StoreError> {
        self.hook.lock_key(tx, key).await
    }
}
