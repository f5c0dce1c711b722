//! The store without its type.

use std::time::Duration;

use super::super::*;
use super::store;
use crate::outbox::MessageId;

#[tokio::test]
async fn a_boxed_store_passes_every_operation_on() {
    let (stream, lease) = (StreamId::new("order", "7"), Duration::from_secs(15));
    let store = BoxStore::new(store());
    let event = NewEvent::new(MessageId::new(1), "order.placed", "7 books");
    let batch = NewBatch::new(stream.clone(), Expected::New, vec![event]);
    assert_eq!(store.append_batch(&batch).await.unwrap().last.get(), 1);
    assert_eq!(store.read_stream(&stream, Version::START, 9).await.unwrap().events.len(), 1);
    let page = store.read_all(Position::START, &Filter::all(), 9).await.unwrap();
    assert_eq!((page.events.len(), page.through.get()), (1, 1));
    let state = store.stream_state(&stream).await.unwrap();
    assert_eq!(state, Some(StreamState::new(Version::new(1), false)));
    let snapshot = Snapshot::new(stream.clone(), Version::new(1), 1, b"state".to_vec());
    store.save_snapshot(&snapshot).await.unwrap();
    assert_eq!(store.load_snapshot(&stream).await.unwrap(), Some(snapshot));
    assert_eq!(store.purge_snapshots("order", 9).await.unwrap(), 1);
    assert_eq!(store.archive_stream(&stream).await.unwrap(), Some(Version::new(1)));
    let owned = async |name| {
        let claim = ProjectionClaim::new(name, ProjectorId::new(1), lease);
        store.lease_projection(claim).await.unwrap().unwrap().lease
    };
    let (list, built) = (owned("list").await, owned("built").await);
    let advance = Advance::new(built.clone(), Position::START, Position::new(1));
    store.advance_projection(&advance).await.unwrap();
    store.swap_projection(&Swap::new(built, Position::new(1), "list")).await.unwrap();
    store.release_projection(&list).await.unwrap();
    let states = store.projections().await.unwrap();
    assert_eq!((states.len(), &*states[0].name, states[0].checkpoint.get()), (1, "list", 1));
    assert!(store.remove_projection("list").await.unwrap());
    assert_eq!(store.event_stats().await.unwrap().last, 1);
}
