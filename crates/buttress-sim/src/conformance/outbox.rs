//! Cases for stores of messages.

mod deliveries;
mod lazy;
mod leases;
mod poison;
mod writing;

use std::time::Duration;

use buttress::StoreErrorKind;
use buttress_durable::outbox::{
    Fetched, Lease, Message, MessageId, NewMessage, RelayId, Renewal, Settled, Store, Verdict,
    Write,
};

use super::{Harness, Transactions, expect};

const LEASE: Duration = Duration::from_secs(10);
const HOLD: Duration = Duration::from_secs(3);
const ONE: RelayId = RelayId::new(1);
const TWO: RelayId = RelayId::new(2);
const FENCED: StoreErrorKind = StoreErrorKind::Fenced;

/// Runs every case.
pub async fn all<S: Store + Write<Tx>, Tx, H: Transactions<S, Tx>>(harness: &H) {
    writing::all(harness).await;
    leases::all(harness).await;
    lazy::all(harness).await;
    poison::all(harness).await;
    deliveries::all(harness).await;
}

/// Returns keys in separate partitions, as far as possible.
fn key(number: u32) -> String {
    format!("key-{number}")
}

fn message(id: u32, key_number: u32) -> NewMessage {
    NewMessage::new(MessageId::new(u128::from(id) << 64 | 1), key(key_number), id.to_be_bytes())
}

async fn write<S, Tx, H>(harness: &H, store: &S, messages: &[NewMessage])
where
    S: Write<Tx>,
    H: Transactions<S, Tx>,
{
    let mut tx = harness.begin(store).await;
    for message in messages {
        expect(store.write(&mut tx, message).await, "write");
    }
    harness.commit(tx).await;
}

/// Returns a store in which relay one owns every partition.
async fn leased<S: Store>(harness: &impl Harness<S>) -> (S, Vec<Lease>) {
    let store = harness.fresh().await;
    let leases = lease(&store, ONE).await;
    (store, leases)
}

/// Returns a store as [`leased`] does, with these messages.
async fn written<S: Store + Write<Tx>, Tx, H: Transactions<S, Tx>>(
    harness: &H,
    messages: &[NewMessage],
) -> (S, Vec<Lease>) {
    let (store, leases) = leased(harness).await;
    write(harness, &store, messages).await;
    (store, leases)
}

/// Returns a store as [`written`] does, from which relay one has fetched the messages.
async fn fetched<S: Store + Write<Tx>, Tx, H: Transactions<S, Tx>>(
    harness: &H,
    messages: &[NewMessage],
) -> (S, Vec<Lease>, Vec<Message>) {
    let (store, leases) = written(harness, messages).await;
    let fetched = fetch(&store, &leases, 9).await.messages;
    (store, leases, fetched)
}

async fn lease<S: Store>(store: &S, relay: RelayId) -> Vec<Lease> {
    expect(store.lease_partitions(Renewal::new(relay, LEASE, &[])).await, "lease").leases
}

async fn fetch<S: Store>(store: &S, leases: &[Lease], limit: usize) -> Fetched {
    expect(store.fetch(ONE, leases, limit).await, "fetch")
}

/// Returns the numbers of the messages that a new fetch finds.
async fn found<S: Store>(store: &S, leases: &[Lease]) -> Vec<u32> {
    numbers(&fetch(store, leases, 10_000).await.messages)
}

fn numbers(messages: &[Message]) -> Vec<u32> {
    messages.iter().map(|message| (message.id.get() >> 64) as u32).collect()
}

fn settled(message: &Message, leases: &[Lease], verdict: Verdict) -> Settled {
    let lease = leases.iter().find(|lease| lease.partition == message.partition);
    Settled::new(message, *lease.unwrap(), verdict)
}

fn retry() -> Verdict {
    Verdict::Retry { counts: true, after: HOLD, error: "away".to_owned() }
}

fn dead(hold_key: bool) -> Verdict {
    Verdict::Dead { error: "no".to_owned(), hold_key }
}

/// Settles messages. The store must accept it.
async fn settle<S: Store>(store: &S, settled: Vec<Settled>) {
    assert_eq!(expect(store.settle(settled).await, "settle"), [0u16; 0]);
}
