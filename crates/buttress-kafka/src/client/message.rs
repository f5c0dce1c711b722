//! [`Message`]: a message that the client has fetched. Also the headers of a message in both directions.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::error::KafkaResult;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message as _, OwnedHeaders};

use super::error::Error;

/// A message in the memory of the client.
pub(crate) struct Message<'a>(BorrowedMessage<'a>);

impl Message<'_> {
    pub(crate) fn topic(&self) -> &str {
        self.0.topic()
    }

    pub(crate) fn partition(&self) -> i32 {
        self.0.partition()
    }

    pub(crate) fn offset(&self) -> i64 {
        self.0.offset()
    }

    /// Returns the key. Empty if the message has none.
    pub(crate) fn key(&self) -> &[u8] {
        self.0.key().unwrap_or_default()
    }

    /// Returns the payload. Empty if the message has none.
    pub(crate) fn payload(&self) -> &[u8] {
        self.0.payload().unwrap_or_default()
    }

    /// Returns the names and values of the headers, in their order. A header without a value has an empty one. A header
    /// whose name is not UTF-8 is left out.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        pairs(self.0.headers())
    }
}

/// Converts the answer of a poll.
pub(super) fn polled(answer: KafkaResult<BorrowedMessage<'_>>) -> Result<Message<'_>, Error> {
    answer.map(Message).map_err(Error::from)
}

fn pairs(headers: Option<&impl Headers>) -> impl Iterator<Item = (&str, &[u8])> {
    (0..headers.map_or(0, Headers::count)).filter_map(move |at| {
        // The client panics at a name that is not UTF-8.
        let header = catch_unwind(AssertUnwindSafe(|| headers.and_then(|known| known.try_get(at))));
        header.ok().flatten().map(|Header { key, value }| (key, value.unwrap_or_default()))
    })
}

/// Returns headers for the client.
pub(super) fn owned(pairs: &[(Cow<'_, str>, Cow<'_, str>)]) -> OwnedHeaders {
    let headers = OwnedHeaders::new_with_capacity(pairs.len());
    pairs.iter().fold(headers, |headers, (key, value)| {
        headers.insert(Header { key, value: Some(value.as_bytes()) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_byte_for_byte() {
        let sent = [("ce_subject", "\u{fc}\u{20ac}\u{1f680} %\0\n"), ("x", ""), ("x", "again")];
        let sent_pairs = sent.map(|(name, value)| (Cow::Borrowed(name), Cow::Borrowed(value)));
        let headers = owned(&sent_pairs);
        let read: Vec<_> = pairs(Some(&headers)).collect();
        assert_eq!(read, sent.map(|(name, value)| (name, value.as_bytes())));
        assert_eq!(pairs(None::<&OwnedHeaders>).count(), 0);
    }

    #[test]
    fn a_header_without_a_value_has_an_empty_one() {
        let foreign = OwnedHeaders::new()
            .insert(Header { key: "binary", value: Some(&b"\xff1"[..]) })
            .insert(Header { key: "null", value: None::<&str> });
        let read: Vec<_> = pairs(Some(&foreign)).collect();
        assert_eq!(read, [("binary", &b"\xff1"[..]), ("null", &b""[..])]);
    }
}
