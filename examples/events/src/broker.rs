//! The way from the relay to the consumers. A broker adds a variant here, and a module with its publisher and source.

use std::fmt;
use std::str::FromStr;

/// The parts of the system that one process runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// Relay and consumers, because the bus has them in one process.
    All,
    /// Only the relay.
    #[cfg(any(feature = "amqp", feature = "kafka", feature = "nats", feature = "redis"))]
    Relay,
    /// Only the consumers.
    #[cfg(any(feature = "amqp", feature = "kafka", feature = "nats", feature = "redis"))]
    Consumers,
}

/// The way of the events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Broker {
    /// A bus in the process of the relay.
    InProcess,
    /// Quorum queues of the RabbitMQ at this address.
    #[cfg(feature = "amqp")]
    Amqp(String),
    /// Topics of the Kafka with this broker.
    #[cfg(feature = "kafka")]
    Kafka(String),
    /// JetStream of the NATS at this address.
    #[cfg(feature = "nats")]
    Nats(String),
    /// Streams of the Redis at this address.
    #[cfg(feature = "redis")]
    Redis(String),
}

impl Broker {
    /// Returns the roles: a process runs each.
    pub(crate) const fn roles(&self) -> &'static [Role] {
        match self {
            Self::InProcess => &[Role::All],
            #[cfg(any(feature = "amqp", feature = "kafka", feature = "nats", feature = "redis"))]
            _ => &[Role::Relay, Role::Consumers, Role::Consumers],
        }
    }
}

/// A broker that this program cannot use.
#[derive(Debug, thiserror::Error)]
#[error(
    "no broker for `{0}`: build with the feature of the broker, e.g. `--features redis` for `redis://localhost:6379`, \
     or leave `--broker` out"
)]
pub(crate) struct UnknownBroker(String);

const IN_PROCESS: &str = "in-process";

impl FromStr for Broker {
    type Err = UnknownBroker;

    fn from_str(url: &str) -> Result<Self, UnknownBroker> {
        match url {
            IN_PROCESS => Ok(Self::InProcess),
            #[cfg(feature = "amqp")]
            url if url.starts_with("amqp://") => Ok(Self::Amqp(url.to_owned())),
            #[cfg(feature = "kafka")]
            url if url.starts_with("kafka://") => Ok(Self::Kafka(url.to_owned())),
            #[cfg(feature = "nats")]
            url if url.starts_with("nats://") => Ok(Self::Nats(url.to_owned())),
            #[cfg(feature = "redis")]
            url if url.starts_with("redis://") => Ok(Self::Redis(url.to_owned())),
            other => Err(UnknownBroker(other.to_owned())),
        }
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InProcess => IN_PROCESS,
            #[cfg(feature = "amqp")]
            Self::Amqp(url) => url,
            #[cfg(feature = "kafka")]
            Self::Kafka(url) => url,
            #[cfg(feature = "nats")]
            Self::Nats(url) => url,
            #[cfg(feature = "redis")]
            Self::Redis(url) => url,
        })
    }
}
