//! Reads an event from a delivery of a transport.

use std::borrow::Cow;
use std::sync::Arc;

use buttress::{Codec, Format};

use super::attributes as names;
use super::domain::{DomainEvent, newest};
use super::envelope::Event;
use super::error::{DecodeError, UnknownEvent};
use super::id::EventId;
use super::timestamp;

/// A decoded event, or an event that this program does not know.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub enum Decoded<T> {
    /// An event of a kind and a version that this program knows.
    Known(Event<T>),
    /// An event of another kind, or of a newer version, with its bytes.
    Unknown(Event<Vec<u8>>),
}

impl<T> Decoded<T> {
    /// Returns the event.
    ///
    /// # Errors
    /// Returns [`UnknownEvent`] if this program does not know the event. A consumer's handler can return this error:
    /// the consumer then follows its configuration of unknown events.
    pub fn known(self) -> Result<Event<T>, UnknownEvent> {
        match self {
            Self::Known(event) => Ok(event),
            Self::Unknown(event) => {
                Err(UnknownEvent { kind: event.kind.into_owned(), version: event.version })
            }
        }
    }
}

impl Event<Vec<u8>> {
    /// Reads the envelope from headers that a [`Binding`](super::Binding) has translated. Leaves the data encoded.
    ///
    /// A malformed correlation id or trace counts as absent, and of two the first counts, because both serve observation
    /// only.
    ///
    /// # Errors
    /// Returns [`DecodeError`] if `id`, `source`, `type` or `specversion` is missing or empty, if an attribute occurs
    /// twice, or if the version of CloudEvents, the time or the version of the data is invalid.
    pub fn read(headers: Vec<(String, String)>, data: Vec<u8>) -> Result<Self, DecodeError> {
        let mut values: [Option<String>; names::OURS.len()] = Default::default();
        let mut others = Vec::new();
        for (name, value) in headers {
            let own = names::OURS.iter().zip(&mut values).find(|(known, _)| **known == name);
            match own {
                None => others.push((name, value)),
                // Both serve observation only, and a proxy may add its own.
                Some((&(names::CORRELATION | names::TRACE), Some(_))) => {}
                Some((known, Some(_))) => {
                    return Err(DecodeError::Repeated { field: names::field(known).to_owned() });
                }
                Some((_, place)) => *place = Some(value),
            }
        }
        let [spec, id, source, kind, subject, version, time, content, correlation, cause, trace] =
            values;
        let required = |value: Option<String>, name| {
            let field = names::field(name);
            value.filter(|value| !value.is_empty()).ok_or(DecodeError::Missing { field })
        };
        let spec = required(spec, names::SPEC_VERSION)?;
        if spec != names::VERSION {
            return Err(DecodeError::invalid("specversion", &spec, "1.0"));
        }
        let version = version.map_or(Ok(1), |text| {
            let wrong = || DecodeError::invalid("dataversion", &text, "a number below 2^32");
            text.parse().map_err(|_| wrong())
        })?;
        let time = time.map(|text| {
            let wrong = || DecodeError::invalid("time", &text, "a timestamp as in RFC 3339");
            timestamp::read(&text).ok_or_else(wrong)
        });
        Ok(Self {
            id: EventId::from(required(id, names::ID)?),
            kind: Cow::Owned(required(kind, names::KIND)?),
            subject: subject.unwrap_or_default(),
            source: Cow::Owned(required(source, names::SOURCE)?),
            time: time.transpose()?,
            version,
            content_type: content.map(Cow::Owned),
            correlation: correlation.and_then(|text| text.parse().ok()),
            causation: cause.map(EventId::from),
            trace: trace.and_then(|text| text.parse().ok()),
            headers: others,
            data,
        })
    }

    /// Decodes the data.
    ///
    /// # Errors
    /// Returns [`DecodeError::Data`] if `T` knows the kind and the codec cannot read the data.
    pub fn decode<T, C>(self, codec: &C) -> Result<Decoded<T>, DecodeError>
    where
        T: DomainEvent + Clone,
        C: Codec<T> + Format<Encoded = Vec<u8>>,
    {
        if newest::<T>(&self.kind).is_none_or(|newest| self.version > newest) {
            return Ok(Decoded::Unknown(self));
        }
        let event = self.try_map(|kind, version, bytes| match codec.decode(&bytes) {
            Ok(data) => Ok(Arc::try_unwrap(data).unwrap_or_else(|shared| (*shared).clone())),
            Err(source) => Err(DecodeError::Data { kind: kind.to_owned(), version, source }),
        });
        event.map(Decoded::Known)
    }
}
