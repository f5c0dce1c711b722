//! Decoders and upcasters.

use buttress::Json;

use super::super::*;
use super::orders::{Order, OrderCommand as Command, OrderEvent};
use super::{chain, repository, store};
use crate::outbox::MessageId;

fn recorded(kind: &str, schema: u32, data: &str) -> Recorded {
    let event = NewEvent::new(MessageId::new(1), kind, data).schema(schema);
    let stream = StreamId::new("order", "7");
    Recorded::new(stream, Version::new(3), event, std::time::Duration::ZERO)
}

/// Version 0 had the number of the items only, version 1 a price for all of them.
fn upcasters() -> Upcasters {
    let replaced = |from: &'static str, to: &'static str| {
        move |data: Vec<u8>| Ok(String::from_utf8(data)?.replace(from, to).into_bytes())
    };
    Upcasters::new()
        .rename("order.item_added", "order.added")
        .step("order.added", 0, replaced("}}", r#","price":10}}"#))
        .step("order.added", 1, replaced("price", "cents"))
}

#[test]
fn events_6_10_upcasters_form_a_chain_by_kind_and_version() {
    let decoder = Decoder::new(Json).upcasters(upcasters());
    for (kind, schema, data) in [
        ("order.added", 2, r#"{"Added":{"number":2,"cents":10}}"#),
        ("order.added", 1, r#"{"Added":{"number":2,"price":10}}"#),
        ("order.added", 0, r#"{"Added":{"number":2}}"#),
        ("order.item_added", 0, r#"{"Added":{"number":2}}"#),
        ("order.item_added", 2, r#"{"Added":{"number":2,"cents":10}}"#),
    ] {
        let decoded = decoder.decode::<OrderEvent>(&recorded(kind, schema, data)).unwrap();
        assert_eq!(*decoded, OrderEvent::Added { number: 2, cents: 10 }, "{kind} {schema}");
    }
}

#[test]
fn events_6_10_a_missing_upcaster_is_named() {
    let only_last = Upcasters::new().step("order.added", 1, Ok);
    let decoder = Decoder::new(Json).upcasters(only_last);
    let ordered = Ordered::new(Position::new(12), recorded("order.added", 0, "{}"));
    let error = decoder.decode_at::<OrderEvent>(&ordered).unwrap_err();
    assert_eq!(
        chain(&error),
        "event at position 12, 3 of stream order/7, kind `order.added`, schema 0: cannot be decoded: \
         no upcaster of `order.added` from version 0: add it with `Upcasters::step`"
    );
    assert!(matches!(*error.fault, Fault::MissingUpcaster { version: 0, .. }));
    let error = decoder.decode::<OrderEvent>(&recorded("order.created", 0, "{}")).unwrap_err();
    assert!(
        matches!(&*error.fault, Fault::MissingUpcaster { kind, .. } if kind == "order.created")
    );
}

#[test]
fn what_cannot_be_decoded_says_why() {
    let fails = Upcasters::new().step("order.added", 1, |_| Err("no price".into()));
    let decoder = Decoder::new(Json).upcasters(fails);
    for (kind, schema, data, expected) in [
        ("order.paid", 1, "{}", "the program does not know the kind in this schema"),
        ("order.added", 3, "{}", "the program does not know the kind in this schema"),
        ("order.added", 1, "{}", "the upcaster of `order.added` from version 1 failed: no price"),
        ("order.added", 2, "{", "the codec cannot read the data: json: "),
    ] {
        let error = decoder.decode::<OrderEvent>(&recorded(kind, schema, data)).unwrap_err();
        let text = chain(&error);
        assert!(text.contains(expected), "{text}");
        let named = format!("event 3 of stream order/7, kind `{kind}`, schema {schema}");
        assert!(text.starts_with(&named), "{text}");
    }
}

#[tokio::test]
async fn events_6_10_a_repository_reads_old_events() {
    let store = store();
    let stream = StreamId::new("order", "7");
    let old = vec![
        NewEvent::new(MessageId::new(1), "order.created", r#""Created""#),
        NewEvent::new(MessageId::new(2), "order.item_added", r#"{"Added":{"number":2}}"#).schema(0),
    ];
    store.append_batch(&NewBatch::new(stream, Expected::New, old)).await.unwrap();
    let failed = repository(&store).load("7").await;
    assert!(matches!(failed, Err(Failed::Undecodable(_))), "{failed:?}");
    let text = chain(&failed.unwrap_err());
    assert!(text.starts_with("cannot load the aggregate: event 2 of stream order/7"), "{text}");
    let orders: Repository<Order, _, _> = repository(&store).upcasters(upcasters());
    assert_eq!(orders.load("7").await.unwrap().state.total(), 20);
    let done = orders.execute("7", &Command::Submit).await.unwrap();
    assert_eq!(done.version.get(), 3);
}
