//! A message of the outbox as headers of Kafka, and back.

use std::borrow::Cow;

use buttress_durable::event::Binding;
use buttress_durable::outbox::Message;

use crate::error::PublishError;

/// The header with the topic of the message, unless that is the type of its event.
const TOPIC: &str = "buttress-topic";

/// Names of headers and their values.
pub(crate) type Pairs<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// Returns the headers of a message, and their size in bytes.
pub(crate) fn write(message: &Message) -> Result<(Pairs<'_>, usize), PublishError> {
    let mut pairs = Vec::with_capacity(message.headers.len() + 1);
    let of_the_event = message.headers.iter().find(|(name, _)| name == "ce-type");
    if of_the_event.is_none_or(|(_, kind)| *kind != message.topic) {
        pairs.push((Cow::Borrowed(TOPIC), Cow::Borrowed(&*message.topic)));
    }
    for (name, value) in &message.headers {
        let refused = |why| {
            let (id, name) = (message.id.to_string(), name.clone());
            Err(PublishError::Header { id, name, why })
        };
        if name.is_empty() || name.contains('\0') {
            return refused("a name has at least one character, and no NUL");
        }
        let pair = Binding::Kafka.write(name, value);
        let read = Binding::Kafka.read(&pair.0, &pair.1);
        if *name == TOPIC || read.is_ok_and(|(read, _)| read != *name) {
            return refused("the name is reserved");
        }
        pairs.push(pair);
    }
    let size = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
    Ok((pairs, size))
}

/// Returns the topic and the other headers of a message. A message of another publisher has the type of its event as
/// the topic, or else `topic`. A value that is not UTF-8 is read with replacement characters.
pub(crate) fn read<'a>(
    headers: impl Iterator<Item = (&'a str, &'a [u8])>,
    topic: &str,
) -> (String, Vec<(String, String)>) {
    let (mut named, mut read) = (None, Vec::new());
    for (key, value) in headers {
        let value = String::from_utf8_lossy(value);
        if key == TOPIC {
            named = Some(value.into_owned());
        } else if let Ok(header) = Binding::Kafka.read(key, &value) {
            read.push(header);
        }
    }
    let kind = || read.iter().find(|(name, _)| name == "ce-type").map(|(_, value)| value.clone());
    let named = named.or_else(kind).unwrap_or_else(|| topic.to_owned());
    (named, read)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use buttress_durable::event::Event;
    use buttress_durable::outbox::{MessageId, NewMessage};

    use super::*;

    fn message(new: NewMessage) -> Message {
        Message::new(new, 0, 0, Duration::ZERO)
    }

    fn new() -> NewMessage {
        NewMessage::new(MessageId::new(7), "order-7", "paid")
    }

    /// Reads headers that a message has been written with.
    fn back(pairs: &Pairs<'_>) -> (String, Vec<(String, String)>) {
        read(pairs.iter().map(|(name, value)| (&**name, value.as_bytes())), "orders")
    }

    #[test]
    fn events_1_4_an_event_comes_back_byte_for_byte() {
        let subject = "\u{fc}\u{20ac}\u{1f680} %\0".repeat(30);
        let event = Event::new(MessageId::new(7), "shop", "order.paid", &*subject, Vec::new());
        let message = message(event.into_message().unwrap());
        let (headers, _) = write(&message).unwrap();
        assert_eq!(headers.first().unwrap().0, "ce_specversion");
        assert_eq!(back(&headers), (message.topic.clone(), message.headers.clone()));
    }

    #[test]
    fn events_2_14_a_header_that_kafka_would_change_is_refused() {
        for (name, value) in [("", "1"), ("x\0a", "1"), ("ce_id", "1"), ("buttress-topic", "1")] {
            let refused = write(&message(new().header(name, value))).unwrap_err();
            assert!(matches!(&refused, PublishError::Header { .. }), "{refused}");
            let named = refused.to_string().contains(&format!("header `{name}`"));
            assert!(refused.is_lasting() && named, "{refused}");
        }
        let kept = new().topic("paid").header("X-Odd", "\n\u{20ac} \0 \u{1f680} ").header("x", "");
        let kept = message(kept);
        let (headers, size) = write(&kept).unwrap();
        assert_eq!(back(&headers), ("paid".to_owned(), kept.headers.clone()));
        assert!(size > 30, "{size}");
    }

    #[test]
    fn a_message_of_another_publisher_has_the_topic_of_its_event() {
        let foreign =
            [("ce_type", &b"order.paid"[..]), ("binary", &b"\xff1"[..]), ("null", &b""[..])];
        let (topic, headers) = read(foreign.into_iter(), "orders");
        assert_eq!((&*topic, headers.len()), ("order.paid", 3));
        assert!(headers.contains(&("binary".to_owned(), "\u{fffd}1".to_owned())), "{headers:?}");
        assert_eq!(read(std::iter::empty(), "orders"), ("orders".to_owned(), Vec::new()));
    }
}
