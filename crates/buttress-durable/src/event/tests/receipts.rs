//! Events as receipts of an inbox.

use super::*;
use crate::outbox::{MemoryStore, Receipt};

#[tokio::test]
async fn events_1_2_an_event_of_another_system_is_received_once_with_its_source() {
    let store = MemoryStore::new(VirtualClock::new().clock());
    let first = async |event: &Event<Vec<u8>>| {
        let mut tx = store.begin();
        let receipt = event.first(&mut tx, &store, "billing").await.unwrap();
        tx.commit();
        receipt
    };
    let of = |source: &str, id: &str| {
        let change = |headers: &mut Vec<(String, String)>| {
            headers.retain(|(name, _)| name != "ce-id" && name != "ce-source");
            headers.push(("ce-id".to_owned(), id.to_owned()));
            headers.push(("ce-source".to_owned(), source.to_owned()));
        };
        changed(change).unwrap()
    };
    let ours = MessageId::new(7).to_string();
    // An id in the form of ours can be another system's.
    let ids = [("shop", "7"), ("bank", "7"), ("shop", "8"), ("shop", &*ours), ("bank", &*ours)];
    for (source, id) in ids {
        let event = of(source, id);
        assert_eq!(first(&event).await, Receipt::First, "{source} {id}");
        assert_eq!(first(&event).await, Receipt::Repeated, "{source} {id}");
    }
}
