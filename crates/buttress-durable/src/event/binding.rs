//! [`Binding`]: how the headers of an event are written on a transport.

use std::borrow::Cow;

use super::attributes::PREFIX;
use super::error::DecodeError;
use super::percent;

/// The names and values that headers of an event have on a transport.
///
/// | binding | the attribute `id` | values |
/// |---|---|---|
/// | [Kafka](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md) | `ce_id` | UTF-8 |
/// | [HTTP](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md) | `ce-id` | percent-encoded |
/// | [NATS](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/nats-protocol-binding.md) | `ce-id` | percent-encoded |
/// | [AMQP](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/amqp-protocol-binding.md) | `cloudEvents:id` | UTF-8 |
/// | Redis | field `id` | UTF-8 |
///
/// The media type is `content-type` everywhere; AMQP has a property for it. Headers that are not attributes keep their
/// names and values. CloudEvents has no binding for Redis. There they are fields with `:` in front, so that none can
/// be taken for an attribute.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Binding {
    /// Records of Kafka.
    Kafka,
    /// Requests and responses of HTTP.
    Http,
    /// Messages of NATS.
    Nats,
    /// Messages of AMQP.
    Amqp,
    /// Entries of a Redis stream.
    Redis,
}

impl Binding {
    /// Every binding.
    pub const ALL: [Self; 5] = [Self::Kafka, Self::Http, Self::Nats, Self::Amqp, Self::Redis];

    /// Returns a header of a message as this transport writes it: its name and its value.
    #[must_use]
    pub fn write<'a>(self, name: &'a str, value: &'a str) -> (Cow<'a, str>, Cow<'a, str>) {
        let Some(attribute) = name.strip_prefix(PREFIX) else {
            let name = match self {
                Self::Redis => Cow::Owned(format!(":{name}")),
                _ => Cow::Borrowed(name),
            };
            return (name, Cow::Borrowed(value));
        };
        let value = match self {
            Self::Http | Self::Nats => percent::encode(value),
            Self::Kafka | Self::Amqp | Self::Redis => Cow::Borrowed(value),
        };
        (Cow::Owned(format!("{}{attribute}", self.prefix())), value)
    }

    /// Returns a header that this transport delivered as a header of a message.
    ///
    /// Names of HTTP and NATS are compared without regard to case, and are returned in lower case. AMQP's
    /// `cloudEvents_` is read too.
    ///
    /// # Errors
    /// Returns [`DecodeError::Invalid`] if the value of an attribute is not percent-encoded UTF-8 where it has to be.
    pub fn read(self, name: &str, value: &str) -> Result<(String, String), DecodeError> {
        let name = match self {
            Self::Http | Self::Nats => Cow::Owned(name.to_ascii_lowercase()),
            Self::Kafka | Self::Amqp | Self::Redis => Cow::Borrowed(name),
        };
        let other = name.strip_prefix(':').filter(|_| self == Self::Redis);
        if let Some(other) = other {
            return Ok((other.to_owned(), value.to_owned()));
        }
        let attribute = name.strip_prefix(self.prefix());
        let attribute = match self {
            Self::Amqp => attribute.or_else(|| name.strip_prefix("cloudEvents_")),
            _ => attribute,
        };
        let Some(attribute) = attribute else { return Ok((name.into_owned(), value.to_owned())) };
        let value = match self {
            Self::Http | Self::Nats => percent::decode(value)
                .ok_or_else(|| DecodeError::invalid(attribute, value, "percent-encoded UTF-8"))?,
            Self::Kafka | Self::Amqp | Self::Redis => Cow::Borrowed(value),
        };
        Ok((format!("{PREFIX}{attribute}"), value.into_owned()))
    }

    const fn prefix(self) -> &'static str {
        match self {
            Self::Kafka => "ce_",
            Self::Http | Self::Nats => PREFIX,
            Self::Amqp => "cloudEvents:",
            Self::Redis => "",
        }
    }
}
