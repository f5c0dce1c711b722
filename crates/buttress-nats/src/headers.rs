//! A message of the outbox as headers of NATS, and back.

use std::str::FromStr;

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use buttress_durable::consume::Content;
use buttress_durable::event::Binding;
use buttress_durable::outbox::Message;

use crate::error::PublishError;

/// The header with the id that the server recognises a repeated message by.
const ID: &str = "Nats-Msg-Id";
/// The header with the name of the stream that must take the message.
const STREAM: &str = "Nats-Expected-Stream";
/// Headers of the server begin with this, in lower case.
const OF_THE_SERVER: &str = "nats-";
/// The header with the key, percent-encoded.
const KEY: &str = "buttress-key";
/// The header with the topic, percent-encoded.
const TOPIC: &str = "buttress-topic";
/// "NATS/1.0", and the empty line at the end.
const FRAME: usize = 12;
/// ": " and the end of the line.
const PER_LINE: usize = 4;

/// Returns the headers of a message, and their size on the wire.
pub(crate) fn write(message: &Message, stream: &str) -> Result<(HeaderMap, usize), PublishError> {
    let mut headers = Writer { headers: HeaderMap::new(), size: FRAME, id: message.id.to_string() };
    headers.append(ID, &headers.id.clone())?;
    headers.append(STREAM, stream)?;
    headers.append(KEY, &encoded(&message.key))?;
    headers.append(TOPIC, &encoded(&message.topic))?;
    for (name, value) in &message.headers {
        let lower = name.to_ascii_lowercase();
        if lower.starts_with(OF_THE_SERVER) || lower == KEY || lower == TOPIC {
            return Err(headers.refused(name, "the name is reserved"));
        }
        let (name, value) = Binding::Nats.write(name, value);
        headers.append(&name, &value)?;
    }
    Ok((headers.headers, headers.size))
}

struct Writer {
    headers: HeaderMap,
    size: usize,
    id: String,
}

impl Writer {
    fn append(&mut self, name: &str, value: &str) -> Result<(), PublishError> {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':') {
            return Err(self.refused(name, "a name has visible ASCII characters, without `:`"));
        }
        // The client cuts these off when it reads.
        if value.trim() != value || value.chars().any(|c| matches!(c, '\r' | '\n')) {
            return Err(
                self.refused(name, "a value has no line break, and no white space at its ends")
            );
        }
        let parsed = (HeaderName::from_str(name), HeaderValue::from_str(value));
        let (Ok(known), Ok(parsed)) = parsed else {
            return Err(self.refused(name, "the client refuses it"));
        };
        self.headers.append(known, parsed);
        self.size = self
            .size
            .saturating_add(name.len())
            .saturating_add(value.len())
            .saturating_add(PER_LINE);
        Ok(())
    }

    fn refused(&self, name: &str, why: &'static str) -> PublishError {
        PublishError::Header { id: self.id.clone(), name: name.to_owned(), why }
    }
}

/// Returns a text percent-encoded, as the binding encodes the value of an attribute.
fn encoded(text: &str) -> String {
    Binding::Nats.write("ce-text", text).1.into_owned()
}

fn decoded(text: &str) -> Option<String> {
    Binding::Nats.read("ce-text", text).ok().map(|(_, value)| value)
}

/// Returns the key, the topic and the other headers of a message. A message of another publisher has the subject of its
/// event as the key, and the type of its event, or else `subject`, as the topic.
pub(crate) fn read(headers: Option<&HeaderMap>, subject: &str) -> Content {
    let mut read = Content::default();
    let (mut key, mut topic) = (None, None);
    for (name, values) in headers.into_iter().flat_map(HeaderMap::iter) {
        for value in values {
            let (raw, value): (&str, &str) = (name.as_ref(), value.as_str());
            let lower = raw.to_ascii_lowercase();
            match &*lower {
                KEY => key = decoded(value),
                TOPIC => topic = decoded(value),
                _ if lower.starts_with(OF_THE_SERVER) => {}
                // A value that is not percent-encoded stays unchanged. The handler can refuse it.
                _ => read.headers.push(
                    Binding::Nats
                        .read(raw, value)
                        .unwrap_or_else(|_| (lower.clone(), value.to_owned())),
                ),
            }
        }
    }
    // The client keeps headers in no order.
    read.headers.sort();
    read.set_key_and_topic(key, topic, subject);
    read
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

    #[test]
    fn events_1_4_an_event_comes_back_byte_for_byte() {
        let subject = "\u{fc}\u{20ac}\u{1f680} %".repeat(30);
        let event = Event::new(MessageId::new(7), "shop", "order.paid", &*subject, Vec::new());
        let message = message(event.into_message().unwrap());
        let (headers, _) = write(&message, "orders").unwrap();
        let read = read(Some(&headers), "orders.1");
        assert_eq!((&read.key, &read.topic), (&message.key, &message.topic));
        let mut expected = message.headers.clone();
        expected.sort();
        assert_eq!(read.headers, expected);
        assert_eq!(headers.get(ID).unwrap().as_str(), message.id.to_string());
    }

    #[test]
    fn events_2_14_a_header_that_nats_would_change_is_refused() {
        for (name, value) in [
            ("x-a", "two\nlines"),
            ("x-a", "one\r"),
            ("x-a", " begins"),
            ("x-a", "ends\u{a0}"),
            ("x:a", "1"),
            ("", "1"),
            ("x a", "1"),
            ("x-\u{e4}", "1"),
            ("Nats-Msg-Id", "1"),
            ("Buttress-Key", "1"),
        ] {
            let refused = write(&message(new().header(name, value)), "orders").unwrap_err();
            assert!(matches!(&refused, PublishError::Header { .. }), "{refused}");
            assert!(
                refused.is_lasting() && refused.to_string().contains(&format!("header `{name}`")),
                "{refused}"
            );
        }
        let kept = new().header("X-Odd", "\u{20ac} \0 \u{1f680}").header("x-empty", "");
        let (headers, size) = write(&message(kept), "orders").unwrap();
        let read = read(Some(&headers), "orders.1");
        let odd = ("x-odd".to_owned(), "\u{20ac} \0 \u{1f680}".to_owned());
        assert_eq!(read.headers, [("x-empty".to_owned(), String::new()), odd]);
        assert!(size > 100, "{size}");
    }

    #[test]
    fn a_message_of_another_publisher_has_the_key_and_topic_of_its_event() {
        let mut headers = HeaderMap::new();
        headers.append("CE-Subject", "order%207");
        headers.append("ce-type", "order.paid");
        headers.append("ce-id", "100%");
        let found = read(Some(&headers), "orders.1");
        assert_eq!((&*found.key, &*found.topic), ("order 7", "order.paid"));
        assert!(found.headers.contains(&("ce-id".to_owned(), "100%".to_owned())));
        let plain = read(None, "orders.1");
        assert_eq!((&*plain.key, &*plain.topic, plain.headers.len()), ("", "orders.1", 0));
    }
}
