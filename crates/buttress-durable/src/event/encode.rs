//! Encodes an event as a message of the outbox.

use std::borrow::Cow;
use std::sync::Arc;

use buttress::{Codec, Format};

use super::attributes as names;
use super::domain::{DomainEvent, newest};
use super::envelope::Event;
use super::error::EncodeError;
use crate::outbox::NewMessage;

impl<T: DomainEvent> Event<T> {
    /// Encodes the data and turns the event into a message for [`Outbox::write`](crate::outbox::Outbox::write).
    ///
    /// The topic is the kind, the key is the subject, and the headers are the attributes. A publisher translates the
    /// headers with the [`Binding`](super::Binding) of its transport. The media type of a codec with the name `json`
    /// is `application/json`, unless the event names another.
    ///
    /// # Errors
    /// Returns [`EncodeError`] if the codec cannot express the data, an attribute is empty or too long, or
    /// [`DomainEvent::KINDS`] does not name the kind and the version.
    pub fn encode<C>(self, codec: &C) -> Result<NewMessage, EncodeError>
    where
        C: Codec<T> + Format<Encoded = Vec<u8>>,
    {
        let mut event = self.try_map(|kind, version, data| {
            let kind = kind.to_owned();
            if newest::<T>(&kind).is_none_or(|newest| version > newest) {
                return Err(EncodeError::Unlisted { kind, version });
            }
            codec.encode(&Arc::new(data)).map_err(|source| EncodeError::Data { kind, source })
        })?;
        if event.content_type.is_none() && C::NAME == "json" {
            event.content_type = Some(Cow::Borrowed("application/json"));
        }
        event.into_message()
    }
}

impl Event<Vec<u8>> {
    /// Turns an event with encoded data into a message for [`Outbox::write`](crate::outbox::Outbox::write), as
    /// [`encode`](Event::encode) does.
    ///
    /// # Errors
    /// Returns [`EncodeError`] if an attribute is empty or too long, the id is not a
    /// [`MessageId`](crate::outbox::MessageId), or a header has the name of an attribute on some transport.
    pub fn into_message(self) -> Result<NewMessage, EncodeError> {
        for (field, value) in [("source", &self.source), ("type", &self.kind)] {
            if value.is_empty() {
                return Err(EncodeError::Empty { field });
            }
        }
        if let Some((name, _)) = self.headers.iter().find(|(name, _)| names::is_taken(name)) {
            return Err(EncodeError::Taken { name: name.clone() });
        }
        let id = self.id.message();
        let id = id.ok_or_else(|| EncodeError::OpaqueId { id: self.id.to_string() })?;
        let time = match self.time {
            Some(time) => Some(super::timestamp::write(time).ok_or(EncodeError::Time { time })?),
            None => None,
        };
        let optional = [
            (names::TIME, time),
            (names::CONTENT_TYPE, self.content_type.map(Cow::into_owned)),
            (names::CORRELATION, self.correlation.map(|id| id.to_string())),
            (names::CAUSATION, self.causation.map(|id| id.to_string())),
            (names::TRACE, self.trace.map(|trace| trace.to_string())),
        ];
        let mut message = NewMessage::new(id, self.subject.clone(), self.data)
            .header(names::SPEC_VERSION, names::VERSION)
            .header(names::ID, id.to_string())
            .header(names::SOURCE, self.source)
            .header(names::KIND, self.kind.clone())
            .header(names::SUBJECT, self.subject)
            .header(names::DATA_VERSION, self.version.to_string())
            .topic(self.kind);
        for (name, value) in optional {
            message.headers.extend(value.map(|value| (name.to_owned(), value)));
        }
        message.headers.extend(self.headers);
        message.check()?;
        Ok(message)
    }
}
