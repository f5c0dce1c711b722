//! Snapshots save reads, and can always be removed.

use buttress::Json;

use super::super::*;
use super::faulty::Faulty;
use super::orders::{Order, OrderCommand as Command};
use super::{repository, store};

/// Returns a repository with a snapshot every 10 events, and its store.
fn snapshotting(memory: MemoryStore, schema: u32) -> (Faulty, Repository<Order, Faulty, Json>) {
    let faulty = Faulty::new(memory, []);
    let orders = Repository::new(&Log::new(faulty.clone()), Json).snapshots(10, schema);
    (faulty, orders)
}

async fn version(store: &MemoryStore) -> Option<u64> {
    let found = store.load_snapshot(&StreamId::new("order", "7")).await.unwrap();
    found.map(|snapshot| snapshot.version.get())
}

fn reads(store: &Faulty) -> Vec<u64> {
    std::mem::take(&mut store.reads.lock().unwrap())
}

#[tokio::test]
async fn a_snapshot_is_saved_past_each_multiple_and_read_first() {
    let memory = store();
    let (faulty, orders) = snapshotting(memory.clone(), 1);
    orders.execute("7", &Command::Create).await.unwrap();
    for (many, saved) in [(8, None), (1, Some(10)), (5, Some(10)), (30, Some(45)), (4, Some(45))] {
        orders.execute("7", &Command::AddMany(many)).await.unwrap();
        assert_eq!(version(&memory).await, saved, "after {many} more");
    }
    reads(&faulty);
    let loaded = orders.load("7").await.unwrap();
    assert_eq!((loaded.version.get(), loaded.state.total()), (49, 48));
    assert_eq!(reads(&faulty), [45], "only the events after the snapshot");
    assert_eq!(repository(&memory).load("7").await.unwrap().state, loaded.state, "the same fold");
}

#[tokio::test]
async fn a_snapshot_of_no_use_is_thrown_away() {
    let memory = store();
    let (_, orders) = snapshotting(memory.clone(), 1);
    orders.execute("7", &Command::Create).await.unwrap();
    orders.execute("7", &Command::AddMany(20)).await.unwrap();
    let state = orders.load("7").await.unwrap().state;
    let damaged = |version, schema| {
        let stream = StreamId::new("order", "7");
        Snapshot::new(stream, Version::new(version), schema, b"{damaged".to_vec())
    };
    // Of another schema: not even decoded.
    let (faulty, newer) = snapshotting(memory.clone(), 2);
    assert_eq!(newer.load("7").await.unwrap().state, state);
    assert_eq!(reads(&faulty), [0]);
    // Damaged.
    memory.save_snapshot(&damaged(22, 1)).await.unwrap();
    let loaded = orders.load("7").await.unwrap();
    assert_eq!((loaded.version.get(), &loaded.state), (21, &state));
    let mut tx = memory.begin();
    let orders = Repository::<Order, _, _>::new(&Log::new(memory.clone()), Json).snapshots(10, 1);
    let done = orders.execute_in(&mut tx, "7", &Command::AddMany(1)).await.unwrap();
    assert_eq!(done.version.get(), 22);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_from_after_a_restore_is_thrown_away() {
    let memory = store();
    let (_, orders) = snapshotting(memory.clone(), 1);
    orders.execute("7", &Command::Create).await.unwrap();
    let ahead = Order { created: true, submitted: true, items: vec![(1, 1)] };
    let data = serde_json(&ahead);
    let snapshot = Snapshot::new(StreamId::new("order", "7"), Version::new(9), 1, data);
    memory.save_snapshot(&snapshot).await.unwrap();
    // The snapshot says that the order is submitted, so the aggregate refuses to add.
    assert!(orders.execute("7", &Command::AddMany(1)).await.is_err());
    let open = Order { created: true, submitted: false, items: vec![(1, 1)] };
    let snapshot =
        Snapshot::new(StreamId::new("order", "7"), Version::new(10), 1, serde_json(&open));
    memory.save_snapshot(&snapshot).await.unwrap();
    let in_transactions =
        Repository::<Order, _, _>::new(&Log::new(memory.clone()), Json).snapshots(10, 1);
    let mut tx = memory.begin();
    let done = in_transactions.execute_in(&mut tx, "7", &Command::AddMany(1)).await.unwrap();
    assert_eq!((done.version.get(), done.state.items.len()), (2, 1), "decided on the events alone");
    drop(tx);
    let done = orders.execute("7", &Command::AddMany(1)).await.unwrap();
    assert_eq!((done.version.get(), done.state.items.len()), (2, 1), "decided on the events alone");
}

fn serde_json(order: &Order) -> Vec<u8> {
    buttress::Codec::encode(&Json, &std::sync::Arc::new(order.clone())).unwrap()
}

#[tokio::test]
async fn a_snapshot_is_saved_on_request_after_a_transaction() {
    let memory = store();
    let orders = Repository::<Order, _, _>::new(&Log::new(memory.clone()), Json).snapshots(100, 1);
    let mut tx = memory.begin();
    let done = orders.execute_in(&mut tx, "7", &Command::Create).await.unwrap();
    tx.commit();
    orders.log().committed();
    assert_eq!(version(&memory).await, None);
    orders.save_snapshot("7", &done).await.unwrap();
    assert_eq!(version(&memory).await, Some(1));
    let never = Repository::<Order, _, _>::new(&Log::new(memory.clone()), Json).snapshots(0, 1);
    memory.purge_snapshots("order", 9).await.unwrap();
    never.save_snapshot("7", &done).await.unwrap();
    assert_eq!(version(&memory).await, None);
}
