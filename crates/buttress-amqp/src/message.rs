//! A message of the outbox as a message of AMQP, and back.

use buttress_durable::consume::Content;
use buttress_durable::event::Binding;
use buttress_durable::outbox::{Message, MessageId};
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::error::PublishError;

/// The header with the key.
const KEY: &str = "buttress-key";
/// The header with the topic.
const TOPIC: &str = "buttress-topic";
/// The header with the media type. AMQP has a property for it.
const CONTENT_TYPE: &str = "content-type";
/// The header in which a quorum queue counts the deliveries that were returned.
pub(crate) const DELIVERIES: &str = "x-delivery-count";
/// Headers that RabbitMQ adds to a message, or that it routes by.
const OF_THE_SERVER: [&str; 6] =
    [DELIVERIES, "x-acquired-count", "x-death", "x-opt-rk-sequence-number", "CC", "BCC"];
/// The server writes the message to its disk.
const PERSISTENT: u8 = 2;
/// Class, weight, size, flags, id, mode and lengths in the frame of the headers, and the frame itself.
const FRAME: usize = 128;
/// The lengths and the type of a header.
const PER_HEADER: usize = 6;

/// Returns `true` for headers that belong to the server.
fn is_of_the_server(name: &str) -> bool {
    let of_dead_letters = name.starts_with("x-first-death-") || name.starts_with("x-last-death-");
    of_dead_letters || OF_THE_SERVER.contains(&name)
}

/// Returns the properties of a message. `frame` is the largest frame of the connection.
pub(crate) fn write(message: &Message, frame: usize) -> Result<BasicProperties, PublishError> {
    let mut headers =
        Writer { table: FieldTable::default(), size: FRAME, id: message.id.to_string() };
    headers.insert(KEY, &message.key)?;
    headers.insert(TOPIC, &message.topic)?;
    let mut media = None;
    for (name, value) in &message.headers {
        if name == KEY || name == TOPIC || is_of_the_server(name) || is_an_attribute(name) {
            return Err(headers.refused(name, "the name is reserved"));
        }
        if name == CONTENT_TYPE {
            let fits = ShortString::try_new(value.as_str());
            let fits =
                fits.map_err(|_| headers.refused(name, "a media type has at most 255 bytes"))?;
            if media.replace(fits).is_some() {
                return Err(headers.refused(name, TWICE));
            }
            headers.size += value.len();
            continue;
        }
        let (name, value) = Binding::Amqp.write(name, value);
        headers.insert(&name, &value)?;
    }
    let Writer { table, size, id } = headers;
    if size > frame {
        return Err(PublishError::HeadersTooLarge { id, size, limit: frame });
    }
    let properties = BasicProperties::default()
        .with_message_id(id.as_str().into())
        .with_delivery_mode(PERSISTENT)
        .with_headers(table);
    Ok(match media {
        Some(media) => properties.with_content_type(media),
        None => properties,
    })
}

const TWICE: &str = "AMQP allows each name only once";

/// Returns `true` for names that a consumer would read as an attribute of an event.
fn is_an_attribute(name: &str) -> bool {
    name.starts_with("cloudEvents:") || name.starts_with("cloudEvents_")
}

struct Writer {
    table: FieldTable,
    size: usize,
    id: String,
}

impl Writer {
    fn insert(&mut self, name: &str, value: &str) -> Result<(), PublishError> {
        let Ok(short) = ShortString::try_new(name) else {
            return Err(self.refused(name, "a name has at most 255 bytes"));
        };
        if self.table.contains_key(name) {
            return Err(self.refused(name, TWICE));
        }
        self.size = self.size.saturating_add(PER_HEADER + name.len()).saturating_add(value.len());
        self.table.insert(short, AMQPValue::LongString(value.into()));
        Ok(())
    }

    fn refused(&self, name: &str, why: &'static str) -> PublishError {
        PublishError::Header { id: self.id.clone(), name: name.to_owned(), why }
    }
}

/// The values in the properties of a received message.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Read {
    /// The id of a message of an outbox. A message of another publisher has none: RabbitMQ does not make a
    /// `message_id` unique, and two messages with one id are two messages.
    pub id: Option<String>,
    /// Key, topic and headers, without the payload.
    pub content: Content,
    pub redeliveries: u32,
}

/// Reads a delivery.
pub(crate) fn read(delivery: &Delivery) -> Read {
    let mut read = properties(&delivery.properties, delivery.routing_key.as_str());
    if !delivery.redelivered {
        // The queue has counted nothing yet: the header is the publisher's, or of another queue.
        read.redeliveries = 0;
    }
    read
}

/// Reads the properties of a message. A message of another publisher has the subject of its event as the key, and the
/// type of its event, or else its routing key, as the topic.
fn properties(properties: &BasicProperties, routing_key: &str) -> Read {
    let mut read = Read::default();
    let (mut key, mut topic) = (None, None);
    for (name, value) in properties.headers().iter().flat_map(FieldTable::inner) {
        match name.as_str() {
            KEY => key = Some(text(value)),
            TOPIC => topic = Some(text(value)),
            DELIVERIES => read.redeliveries = number(value),
            name if is_of_the_server(name) => {}
            name => {
                let value = text(value);
                let known = Binding::Amqp.read(name, &value);
                let known = known.unwrap_or_else(|_| (name.to_owned(), value));
                read.content.headers.push(known);
            }
        }
    }
    if let Some(media) = properties.content_type() {
        read.content.headers.push((CONTENT_TYPE.to_owned(), media.to_string()));
    }
    if key.is_some() && topic.is_some() {
        let id = properties.message_id().as_ref().map(ToString::to_string);
        read.id = id.filter(|id| id.parse::<MessageId>().is_ok());
    }
    read.content.set_key_and_topic(key, topic, routing_key);
    read
}

/// Returns a count of the server. Another type than an integer is not the server's, and counts nothing.
fn number(value: &AMQPValue) -> u32 {
    let count = match value {
        AMQPValue::ShortShortInt(count) => i64::from(*count),
        AMQPValue::ShortShortUInt(count) => i64::from(*count),
        AMQPValue::ShortInt(count) => i64::from(*count),
        AMQPValue::ShortUInt(count) => i64::from(*count),
        AMQPValue::LongInt(count) => i64::from(*count),
        AMQPValue::LongUInt(count) => i64::from(*count),
        AMQPValue::LongLongInt(count) => *count,
        _ => 0,
    };
    u32::try_from(count.max(0)).unwrap_or(u32::MAX)
}

fn text(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        AMQPValue::ShortString(text) => text.to_string(),
        AMQPValue::Boolean(value) => value.to_string(),
        AMQPValue::ShortShortInt(value) => value.to_string(),
        AMQPValue::ShortShortUInt(value) => value.to_string(),
        AMQPValue::ShortInt(value) => value.to_string(),
        AMQPValue::ShortUInt(value) => value.to_string(),
        AMQPValue::LongInt(value) => value.to_string(),
        AMQPValue::LongUInt(value) => value.to_string(),
        AMQPValue::LongLongInt(value) => value.to_string(),
        AMQPValue::Timestamp(value) => value.to_string(),
        AMQPValue::Float(value) => value.to_string(),
        AMQPValue::Double(value) => value.to_string(),
        other => format!("{other:?}"),
    }
}

/// Returns the properties of a message without the headers that RabbitMQ added.
pub(crate) fn without_history(read: &BasicProperties) -> BasicProperties {
    let mut table = FieldTable::default();
    for (name, value) in read.headers().iter().flat_map(FieldTable::inner) {
        if !is_of_the_server(name.as_str()) {
            table.insert(name.clone(), value.clone());
        }
    }
    read.clone().with_headers(table)
}

/// Returns the queue that gave a message up.
pub(crate) fn first_queue(read: &BasicProperties) -> Option<String> {
    let headers = read.headers().as_ref()?.inner();
    headers.get("x-first-death-queue").map(text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use buttress_durable::event::Event;
    use buttress_durable::outbox::{MessageId, NewMessage};

    use super::*;

    const ROOM: usize = 100_000;

    fn message(new: NewMessage) -> Message {
        Message::new(new, 0, 0, Duration::ZERO)
    }

    fn new() -> NewMessage {
        NewMessage::new(MessageId::new(7), "order-7", "paid")
    }

    #[test]
    fn events_1_4_an_event_comes_back_byte_for_byte() {
        let subject = "\u{fc}\u{20ac}\u{1f680} %".repeat(30);
        let mut event = Event::new(MessageId::new(7), "shop", "order.paid", &*subject, Vec::new());
        event.headers =
            vec![("x-odd".into(), "\u{20ac} \0\r\n".into()), ("x-empty".into(), "".into())];
        let message = message(event.into_message().unwrap().header("content-type", "text/plain"));
        let written = write(&message, ROOM).unwrap();
        assert!(written.headers().as_ref().unwrap().contains_key("cloudEvents:type"));
        assert_eq!(written.content_type().as_ref().unwrap().as_str(), "text/plain");
        let Read { id, mut content, .. } = properties(&written, "1");
        assert_eq!((&content.key, &content.topic), (&message.key, &message.topic));
        assert_eq!(id, Some(message.id.to_string()));
        let mut expected = message.headers.clone();
        expected.sort();
        content.headers.sort();
        assert_eq!(content.headers, expected);
    }

    #[test]
    fn events_2_14_a_header_that_amqp_would_change_is_refused() {
        let long = "x".repeat(256);
        for name in [
            "CC",
            "BCC",
            "x-death",
            "x-delivery-count",
            "buttress-key",
            "cloudEvents:id",
            "cloudEvents_id",
            &long,
        ] {
            let refused = write(&message(new().header(name, "1")), ROOM).unwrap_err();
            assert!(
                matches!(&refused, PublishError::Header { name: named, .. } if named == name),
                "{refused}"
            );
            assert!(refused.is_lasting());
        }
        for name in ["x-a", "content-type"] {
            let twice = new().header(name, "1").header(name, "2");
            let refused = write(&message(twice), ROOM).unwrap_err();
            assert!(matches!(&refused, PublishError::Header { why: TWICE, .. }), "{refused}");
        }
        let media = new().header("content-type", &*long);
        assert!(matches!(write(&message(media), ROOM), Err(PublishError::Header { .. })));
        let large = new().header("x-a", "x".repeat(ROOM));
        let refused = write(&message(large), ROOM).unwrap_err();
        assert!(matches!(refused, PublishError::HeadersTooLarge { limit: ROOM, .. }), "{refused}");
        assert!(refused.is_lasting());
    }

    #[test]
    fn a_message_of_another_publisher_has_the_key_and_topic_of_its_event() {
        let mut headers = FieldTable::default();
        headers
            .insert("cloudEvents_subject".into(), AMQPValue::LongString("order 7".into()))
            .insert("cloudEvents:type".into(), AMQPValue::LongString("order.paid".into()))
            .insert("x-number".into(), AMQPValue::LongLongInt(-7))
            .insert("x-delivery-count".into(), AMQPValue::LongLongInt(3))
            .insert("x-first-death-queue".into(), AMQPValue::LongString("orders.billing.3".into()));
        let foreign = BasicProperties::default().with_headers(headers);
        let Read { id, content, redeliveries } = properties(&foreign, "1");
        assert_eq!((&*content.key, &*content.topic, redeliveries), ("order 7", "order.paid", 3));
        assert!(content.headers.contains(&("x-number".to_owned(), "-7".to_owned())));
        assert_eq!((content.headers.len(), id), (3, None));
        assert_eq!(first_queue(&foreign).as_deref(), Some("orders.billing.3"));
        let clean = without_history(&foreign);
        assert_eq!((first_queue(&clean), properties(&clean, "1").redeliveries), (None, 0));
        let plain = properties(&BasicProperties::default(), "1").content;
        assert_eq!((&*plain.key, &*plain.topic, plain.headers.len()), ("", "1", 0));
    }

    #[test]
    fn an_id_of_another_publisher_is_no_identity() {
        let foreign = BasicProperties::default().with_message_id("order-7".into());
        assert_eq!(properties(&foreign, "1").id, None);
        let own = write(&message(new()), ROOM).unwrap();
        assert_eq!(properties(&own, "1").id, Some(MessageId::new(7).to_string()));
        assert_eq!(properties(&own.with_message_id("order-7".into()), "1").id, None);
        let id = MessageId::new(7).to_string().as_str().into();
        assert_eq!(properties(&foreign.with_message_id(id), "1").id, None, "no header of ours");
    }

    #[test]
    fn a_count_that_no_queue_has_written_counts_nothing() {
        let count = |value| {
            let mut headers = FieldTable::default();
            headers.insert(DELIVERIES.into(), value);
            let foreign = BasicProperties::default().with_headers(headers);
            let read = |redelivered| {
                let mut delivery =
                    Delivery::mock(1, "orders".into(), "1".into(), redelivered, Vec::new());
                delivery.properties = foreign.clone();
                read(&delivery).redeliveries
            };
            (read(false), read(true))
        };
        assert_eq!(count(AMQPValue::LongString("abc".into())), (0, 0));
        assert_eq!(count(AMQPValue::LongString("25".into())), (0, 0));
        assert_eq!(count(AMQPValue::LongLongInt(-1)), (0, 0));
        assert_eq!(count(AMQPValue::LongLongInt(25)), (0, 25));
        assert_eq!(count(AMQPValue::LongLongInt(i64::MAX)), (0, u32::MAX));
    }
}
