//! The operations of stores of messages.

use std::time::Duration;

use buttress_durable::Answer;
use buttress_durable::outbox::{
    Backlog, DeadLetter, Fetched, Lease, MessageId, NewMessage, Owned, RelayId, Renewal, Settled,
    Store, Write,
};

use super::{Hook, Hooked, operations};

operations! {
    /// An operation of a [`Store`], with its arguments.
    LeasePartitions "lease_partitions" { relay: RelayId, lease: Duration, busy: Vec<u16> }
    ReleasePartitions "release_partitions" { relay: RelayId }
    Fetch "fetch" { relay: RelayId, leases: Vec<Lease>, limit: usize }
    RecordStart "record_start" { lease: Lease, id: MessageId, claim: u64 }
    ClearSuspects "clear_suspects" { lease: Lease }
    Settle "settle" { settled: Vec<Settled> }
    DeadLetters "dead_letters" { after: u64, limit: usize }
    Requeue "requeue" { ids: Vec<MessageId> }
    Discard "discard" { ids: Vec<MessageId> }
    Backlog "backlog" {}
    PurgeReceipts "purge_receipts" { age: Duration, limit: usize }
    PurgeDelivered "purge_delivered" { age: Duration, limit: usize }
}

impl<S: Store + Clone, H: Hook<Operation>> Store for Hooked<S, H> {
    async fn lease_partitions(&self, renewal: Renewal<'_>) -> Answer<Owned> {
        let Renewal { relay, lease, busy, .. } = renewal;
        let own = busy.to_vec();
        let operation = Operation::LeasePartitions { relay, lease, busy: own.clone() };
        let run =
            async move |store: S| store.lease_partitions(Renewal::new(relay, lease, &own)).await;
        self.pass(operation, run).await
    }

    async fn release_partitions(&self, relay: RelayId) -> Answer<()> {
        let run = async move |store: S| store.release_partitions(relay).await;
        self.pass(Operation::ReleasePartitions { relay }, run).await
    }

    async fn fetch(&self, relay: RelayId, leases: &[Lease], limit: usize) -> Answer<Fetched> {
        let own = leases.to_vec();
        let operation = Operation::Fetch { relay, leases: own.clone(), limit };
        self.pass(operation, async move |store: S| store.fetch(relay, &own, limit).await).await
    }

    async fn record_start(&self, lease: Lease, id: MessageId, claim: u64) -> Answer<u32> {
        let run = async move |store: S| store.record_start(lease, id, claim).await;
        self.pass(Operation::RecordStart { lease, id, claim }, run).await
    }

    async fn clear_suspects(&self, lease: Lease) -> Answer<()> {
        let run = async move |store: S| store.clear_suspects(lease).await;
        self.pass(Operation::ClearSuspects { lease }, run).await
    }

    async fn settle(&self, settled: Vec<Settled>) -> Answer<Vec<u16>> {
        let operation = Operation::Settle { settled: settled.clone() };
        self.pass(operation, async move |store: S| store.settle(settled).await).await
    }

    async fn dead_letters(&self, after: u64, limit: usize) -> Answer<Vec<DeadLetter>> {
        let run = async move |store: S| store.dead_letters(after, limit).await;
        self.pass(Operation::DeadLetters { after, limit }, run).await
    }

    async fn requeue(&self, ids: &[MessageId]) -> Answer<usize> {
        let own = ids.to_vec();
        let operation = Operation::Requeue { ids: own.clone() };
        self.pass(operation, async move |store: S| store.requeue(&own).await).await
    }

    async fn discard(&self, ids: &[MessageId]) -> Answer<usize> {
        let own = ids.to_vec();
        let operation = Operation::Discard { ids: own.clone() };
        self.pass(operation, async move |store: S| store.discard(&own).await).await
    }

    async fn backlog(&self) -> Answer<Backlog> {
        self.pass(Operation::Backlog {}, async move |store: S| store.backlog().await).await
    }

    async fn purge_receipts(&self, age: Duration, limit: usize) -> Answer<usize> {
        let run = async move |store: S| store.purge_receipts(age, limit).await;
        self.pass(Operation::PurgeReceipts { age, limit }, run).await
    }

    fn receipts_kept(&self) -> Option<Duration> {
        self.store.receipts_kept()
    }

    async fn purge_delivered(&self, age: Duration, limit: usize) -> Answer<usize> {
        let run = async move |store: S| store.purge_delivered(age, limit).await;
        self.pass(Operation::PurgeDelivered { age, limit }, run).await
    }
}

impl<Tx: Send, S: Send + Sync, H: Write<Tx>> Write<Tx> for Hooked<S, H> {
    async fn write(&self, tx: &mut Tx, message: &NewMessage) -> Answer<()> {
        self.hook.write(tx, message).await
    }

    async fn lock_key(&self, tx: &mut Tx, key: &str) -> Answer<()> {
        self.hook.lock_key(tx, key).await
    }
}
