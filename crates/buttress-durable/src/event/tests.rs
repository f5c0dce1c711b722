use std::time::Duration;

use buttress::context::Context;
use buttress::{Codec, CodecError, Format, Json, Rng, VirtualClock};
use proptest::prelude::*;
use std::sync::Arc;

use super::*;
use crate::outbox::{InvalidMessage, MessageId, NewMessage};

mod receipts;

/// Data whose codec keeps its bytes, so that a test chooses every byte.
#[derive(Clone, PartialEq, Debug)]
struct Paid {
    order: String,
    bytes: Vec<u8>,
}

impl DomainEvent for Paid {
    const KINDS: &'static [(&'static str, u32)] = &[("order.paid", 2)];

    fn kind(&self) -> &'static str {
        if self.bytes == b"unlisted" { "order.unlisted" } else { "order.paid" }
    }

    fn subject(&self) -> String {
        self.order.clone()
    }
}

#[derive(Clone, Debug)]
struct Raw;

impl Format for Raw {
    type Encoded = Vec<u8>;
    const NAME: &'static str = "raw";
}

impl Codec<Paid> for Raw {
    fn encode(&self, value: &Arc<Paid>) -> Result<Vec<u8>, CodecError> {
        Ok(value.bytes.clone())
    }

    fn decode(&self, encoded: &Vec<u8>) -> Result<Arc<Paid>, CodecError> {
        match encoded.first() {
            Some(0xff) => Err(CodecError::new(Self::NAME, "the first byte is 255")),
            _ => Ok(Arc::new(Paid { order: String::new(), bytes: encoded.clone() })),
        }
    }
}

fn events() -> Events {
    Events::new("https://shop.example/orders")
        .clock(VirtualClock::new().clock())
        .rng(Rng::seeded(7))
}

fn paid(order: &str, bytes: &[u8]) -> Event<Paid> {
    events().event(Paid { order: order.to_owned(), bytes: bytes.to_vec() })
}

fn read(message: NewMessage) -> Result<Event<Vec<u8>>, DecodeError> {
    Event::read(message.headers, message.payload)
}

/// The message of an event after a change of its headers.
fn changed(change: impl FnOnce(&mut Vec<(String, String)>)) -> Result<Event<Vec<u8>>, String> {
    let mut message = paid("order-7", b"x").encode(&Raw).unwrap();
    change(&mut message.headers);
    read(message).map_err(|error| error.to_string())
}

#[test]
fn an_event_becomes_a_message_with_topic_key_and_attributes() {
    let message = paid("order-7", b"x").encode(&Raw).unwrap();
    assert_eq!((&*message.topic, &*message.key), ("order.paid", "order-7"));
    let id = message.id.to_string();
    let header = |name: &str| {
        message.headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    };
    assert_eq!(header("ce-id"), Some(&*id));
    assert_eq!(header("ce-source"), Some("https://shop.example/orders"));
    assert_eq!(header("ce-specversion"), Some("1.0"));
    assert_eq!(header("ce-type"), Some("order.paid"));
    assert_eq!(header("ce-dataversion"), Some("2"));
    assert!(header("ce-time").unwrap().ends_with('Z'));
    assert_eq!(header("content-type"), None);
}

#[test]
fn events_1_1_an_attribute_that_is_missing_or_empty_is_named() {
    for field in ["id", "type", "source", "specversion"] {
        let is = |name: &String| *name == format!("ce-{field}");
        let error = changed(|headers| headers.retain(|(name, _)| !is(name))).unwrap_err();
        assert!(error.contains(&format!("`{field}`")), "{error}");
        let emptied = changed(|headers| {
            headers.iter_mut().filter(|(name, _)| is(name)).for_each(|(_, value)| value.clear());
        });
        assert_eq!(emptied.unwrap_err(), error);
        let twice = changed(|headers| headers.push((format!("ce-{field}"), "1.0".to_owned())));
        let twice = twice.unwrap_err();
        assert!(twice.contains(&format!("`{field}` occurs twice")), "{twice}");
    }
}

#[test]
fn events_1_1_a_wrong_value_is_named_with_its_field() {
    let long = "\n".repeat(1000);
    for (field, value, expected) in [
        ("specversion", "0.3", "`specversion` is `0.3`: expected 1.0"),
        ("dataversion", "-1", "`dataversion` is `-1`: expected a number"),
        ("dataversion", "4294967296", "`dataversion` is `4294967296`"),
        ("time", "yesterday", "`time` is `yesterday`: expected a timestamp"),
        ("time", &long, &format!("`time` is `{}`: expected", "\\n".repeat(64))),
    ] {
        let error = changed(|headers| {
            let name = format!("ce-{field}");
            headers.retain(|(known, _)| *known != name);
            headers.push((name, value.to_owned()));
        });
        let error = error.unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn events_1_2_an_id_of_another_system_stays_the_same_text() {
    for id in [
        "7",
        "invoice/2024 #7",
        "00112233445566778899AABBCCDDEEFF",
        "00112233-4455-6677-8899-AABBCCDDEEFF",
        "00112233445566778899aabbccddeeff",
        "\u{e9}",
    ] {
        let event = changed(|headers| {
            headers.retain(|(name, _)| name != "ce-id");
            headers.push(("ce-id".to_owned(), id.to_owned()));
        });
        let event = event.unwrap();
        assert_eq!((event.id.to_string(), event.id.message()), (id.to_owned(), None));
        let error = event.into_message().unwrap_err();
        assert!(error.to_string().contains(id), "{error}");
    }
    let ours = MessageId::new(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
    assert_eq!(EventId::from(ours.to_string()).message(), Some(ours));
}

#[test]
fn events_1_3_an_unknown_kind_or_a_newer_version_is_an_outcome() {
    let decode = |kind: &'static str, version| {
        let mut event = paid("order-7", b"\xff").try_map(|_, _, data| Ok::<_, ()>(data.bytes));
        let event = event.as_mut().unwrap();
        (event.kind, event.version) = (kind.into(), version);
        read(event.clone().into_message().unwrap()).unwrap().decode::<Paid, _>(&Raw)
    };
    for (kind, version) in [("order.paid", 3), ("order.shipped", 1), ("order.pai", 2)] {
        let unknown = decode(kind, version).unwrap();
        assert!(matches!(&unknown, Decoded::Unknown(event) if event.data == b"\xff"));
        let error = unknown.known().unwrap_err();
        assert_eq!((&*error.kind, error.version), (kind, version));
    }
    for version in [1, 2] {
        let error = decode("order.paid", version).unwrap_err();
        assert!(matches!(&error, DecodeError::Data { version: wrong, .. } if *wrong == version));
        assert_eq!(
            std::error::Error::source(&error).unwrap().to_string(),
            "raw: the first byte is 255"
        );
    }
}

/// Passes a message through the headers of a transport.
fn carried(binding: Binding, message: &NewMessage) -> Vec<(String, String)> {
    let there = message.headers.iter().map(|(name, value)| binding.write(name, value));
    let there: Vec<(String, String)> =
        there.map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    let plain = matches!(binding, Binding::Http | Binding::Nats);
    for (name, value) in &there {
        let ours = name.starts_with("ce-");
        assert!(!(plain && ours) || value.bytes().all(|b| matches!(b, b'!'..=b'~')), "{value}");
    }
    there.iter().map(|(name, value)| binding.read(name, value).unwrap()).collect()
}

#[test]
fn events_1_4_each_binding_writes_its_own_names() {
    let names = Binding::ALL.map(|binding| binding.write("ce-id", "a b").0.into_owned());
    assert_eq!(names, ["ce_id", "ce-id", "ce-id", "cloudEvents:id", "id"]);
    let values = Binding::ALL.map(|binding| binding.write("ce-id", "a b").1.into_owned());
    assert_eq!(values, ["a b", "a%20b", "a%20b", "a b", "a b"]);
    let of = |binding: Binding, name| binding.read(name, "x").unwrap().0;
    assert_eq!(of(Binding::Http, "CE-Id"), "ce-id");
    assert_eq!(of(Binding::Amqp, "cloudEvents_id"), "ce-id");
    assert_eq!(of(Binding::Kafka, "ce-id"), "ce-id", "a user's header");
    assert_eq!(of(Binding::Redis, ":id"), "id");
    let error = Binding::Nats.read("ce-subject", "%f").unwrap_err().to_string();
    assert!(error.contains("`subject` is `%f`"), "{error}");
}

proptest! {
    #[test]
    fn events_1_4_an_event_is_the_same_after_every_binding(
        subject in prop_oneof!["\\PC{1,128}", Just("s".repeat(512)), Just("\u{1f680}".repeat(128))],
        bytes in prop_oneof![Just(Vec::new()), any::<Vec<u8>>()],
        source in "\\PC{1,60}",
        nanos in any::<u32>(),
        header in ("[a-z]{1,9}", "\\PC{0,20}"),
        cause in proptest::option::of("\\PC{1,40}"),
    ) {
        prop_assume!(!["traceparent", "id", "type"].contains(&&*header.0));
        let mut event = paid(&subject, &bytes).try_map(|_, _, data| Ok::<_, ()>(data.bytes)).unwrap();
        event.source = source.into();
        event.time = std::time::UNIX_EPOCH.checked_add(Duration::from_nanos(nanos.into()));
        event.content_type = Some("application/json".into());
        event.correlation = Some("order-7:a.b_c".parse().unwrap());
        event.causation = cause.map(EventId::from);
        event.trace = Some(buttress::context::TraceContext::root());
        event.headers.push(header);
        let message = event.clone().into_message().unwrap();
        for binding in Binding::ALL {
            let headers = carried(binding, &message);
            prop_assert_eq!(&headers, &message.headers, "{:?}", binding);
            let back = Event::read(headers, message.payload.clone()).unwrap();
            prop_assert_eq!(&back, &event, "{:?}", binding);
        }
    }

    #[test]
    fn no_headers_panic(headers in proptest::collection::vec(("ce-(id|time|type)|.{0,9}", ".{0,30}"), 0..9)) {
        for binding in Binding::ALL {
            let read: Result<Vec<_>, _> =
                headers.iter().map(|(name, value)| binding.read(name, value)).collect();
            let _ = read.and_then(|headers| Event::read(headers, Vec::new()));
        }
    }
}

#[test]
fn events_1_4_empty_data_and_text_that_is_not_ascii_come_back_decoded() {
    for data in ["", "\u{20ac} \u{1f680}"] {
        let message = paid("bestellung-\u{e9}", data.as_bytes()).encode(&Raw).unwrap();
        let decoded = read(message).unwrap().decode::<Paid, _>(&Raw).unwrap().known().unwrap();
        assert_eq!(decoded.data.bytes, data.as_bytes());
        assert_eq!(decoded.subject, "bestellung-\u{e9}");
    }
}

#[tokio::test]
async fn events_1_5_correlation_causation_and_trace_come_from_the_context() {
    let trace: buttress::context::TraceContext =
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
    let context = Context::new().with_correlation("order-7".parse().unwrap());
    let context = context.with_trace(trace.clone());
    let first = context.scope(async { paid("order-7", b"x") }).await;
    assert_eq!(first.causation, None);
    let message = first.clone().encode(&Raw).unwrap();
    let received = read(message).unwrap();
    assert_eq!(received.correlation, Some("order-7".parse().unwrap()));
    let kept = received.trace.clone().unwrap();
    assert_eq!(kept.trace_id(), trace.trace_id());
    assert_ne!(kept.parent_id(), trace.parent_id(), "each hop has its own parent");
    // The next service handles the event, and makes another one.
    let next = received.scope(async { paid("invoice-1", b"y") }).await;
    assert_eq!(next.causation, Some(first.id.clone()));
    assert_eq!(next.correlation, first.correlation);
    assert_eq!(next.trace.clone().unwrap().trace_id(), trace.trace_id());
    let stored = read(next.clone().encode(&Raw).unwrap()).unwrap();
    assert_eq!((stored.causation, stored.trace), (next.causation, next.trace));
    let later = paid("order-7", b"z");
    assert_eq!((later.causation, later.correlation), (None, None), "after the handler");
}

#[test]
fn a_malformed_correlation_id_or_trace_counts_as_absent() {
    let event = changed(|headers| {
        headers.push(("x-correlation-id".to_owned(), "two words\r\n".to_owned()));
        headers.push(("traceparent".to_owned(), "00-0-0-00".to_owned()));
    });
    let event = event.unwrap();
    assert_eq!((event.correlation, event.trace), (None, None));
    assert_eq!(event.headers, []);
}

#[test]
fn what_cannot_be_a_message_is_an_error_that_names_the_field() {
    let error = |event: Event<Paid>| event.encode(&Raw).unwrap_err();
    let mut empty = paid("order-7", b"x");
    empty.source = "".into();
    assert!(matches!(error(empty), EncodeError::Empty { field: "source" }));
    let text = error(paid("order-7", b"unlisted")).to_string();
    assert!(text.contains("order.unlisted"), "{text}");
    let mut newer = paid("order-7", b"x");
    newer.version = 3;
    assert!(matches!(error(newer), EncodeError::Unlisted { version: 3, .. }));
    for subject in ["", &"s".repeat(513)] {
        let wrong = error(paid(subject, b"x"));
        let EncodeError::Message(InvalidMessage::Key { length, .. }) = wrong else { panic!() };
        assert_eq!(length, subject.len());
    }
    let mut late = paid("order-7", b"x");
    late.time = Some(std::time::UNIX_EPOCH + Duration::from_secs(253_402_300_800));
    assert!(matches!(error(late), EncodeError::Time { .. }));
}

#[test]
fn json_names_its_media_type() {
    #[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
    struct Shipped {
        order: u64,
    }

    impl DomainEvent for Shipped {
        const KINDS: &'static [(&'static str, u32)] = &[("order.shipped", 1)];

        fn kind(&self) -> &'static str {
            "order.shipped"
        }

        fn subject(&self) -> String {
            format!("order-{}", self.order)
        }
    }
    let event = events().event(Shipped { order: 7 });
    let message = event.clone().encode(&Json).unwrap();
    assert_eq!(message.payload, br#"{"order":7}"#);
    let back = read(message).unwrap().decode::<Shipped, _>(&Json).unwrap().known().unwrap();
    assert_eq!(back.content_type.as_deref(), Some("application/json"));
    assert_eq!((back.data, back.id), (event.data, event.id));
}

#[test]
fn events_1_4_a_header_that_would_not_come_back_the_same_is_refused() {
    let with = |name: &str| {
        let mut event = events().event(Paid { order: "7".to_owned(), bytes: vec![1] });
        event.headers.push((name.to_owned(), "x".to_owned()));
        event.encode(&Raw)
    };
    for name in [
        "ce-id",
        "CE-ID",
        "ce-type",
        "content-type",
        "x-correlation-id",
        "traceparent",
        "ce_tenant",
        "cloudEvents:tenant",
        "cloudEvents_tenant",
    ] {
        let error = with(name).unwrap_err();
        assert!(matches!(&error, EncodeError::Taken { name: given } if given == name), "{error}");
    }
    for name in ["ce-partitionkey", "x-tenant", "tracestate"] {
        assert_eq!(read(with(name).unwrap()).unwrap().headers, [(name.into(), "x".into())]);
    }
}

#[test]
fn events_1_5_a_second_correlation_or_trace_is_no_error() {
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let event = changed(|headers| {
        for (name, value) in [
            ("x-correlation-id", "a"),
            ("x-correlation-id", "b"),
            ("traceparent", trace),
            ("traceparent", "x"),
        ] {
            headers.push((name.to_owned(), value.to_owned()));
        }
    });
    let event = event.unwrap();
    assert_eq!(event.correlation.unwrap().as_str(), "a");
    assert_eq!(event.trace.unwrap().to_string(), trace);
}
