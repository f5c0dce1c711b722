//! The way from the relay to the consumers. A broker adds a variant here, and a module with its publisher and source.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

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

/// The times of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pace {
    /// How long the shop sells.
    pub open: Duration,
    /// The range of a worker's life, in milliseconds.
    pub life: (u64, u64),
    /// The time limit of the last workers for the remaining work.
    pub last_work: Duration,
}

impl Broker {
    /// Returns the times of a run. A worker has to live longer than a take-over lasts: otherwise no worker handles an
    /// event before its end. A take-over lasts about a second, and on Kafka a session of 6 seconds and a rebalance.
    pub(crate) const fn pace(&self) -> Pace {
        match self {
            #[cfg(feature = "kafka")]
            Self::Kafka(_) => Pace {
                open: Duration::from_secs(40),
                life: (10_000, 14_000),
                last_work: Duration::from_secs(60),
            },
            _ => Pace {
                open: Duration::from_secs(10),
                life: (1_000, 2_500),
                last_work: Duration::from_secs(15),
            },
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

#[cfg(all(test, feature = "kafka"))]
mod tests {
    use super::*;
    use crate::over_kafka::SESSION;

    // The workers lived for 1 to 2.5 s, and their sessions for 6 s: no consumer handled an event before it was killed,
    // and the last ones did not finish in 15 s.
    #[test]
    fn workers_live_longer_than_a_take_over_from_a_killed_one() {
        let pace = Broker::Kafka("kafka://127.0.0.1:9092".to_owned()).pace();
        assert!(Duration::from_millis(pace.life.0) > SESSION, "{pace:?}");
        assert!(pace.open > 3 * SESSION && pace.last_work > 3 * SESSION, "{pace:?}");
    }
}
