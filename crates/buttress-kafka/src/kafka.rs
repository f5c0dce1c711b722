//! [`Kafka`]: the address of a cluster, and its publishers, subscriptions and topics.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use buttress::{Clock, InvalidConfig};
use tokio::runtime::Handle;

use crate::check::check_brokers;
use crate::client::{Admin, Code, Error, Found, Properties};
use crate::error::SetupError;
use crate::publisher::{Publish, Publisher};
use crate::start;
use crate::subscribe::Subscribe;
use crate::subscription::Subscription;
use crate::topic::Topic;

/// The longest wait for the answer of a broker to a request.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);
/// How often the metadata of a new topic is asked for.
const LOOK: Duration = Duration::from_millis(100);
/// The longest time between two heartbeats. A take-over lasts this long after the end of the session.
const HEARTBEAT: Duration = Duration::from_millis(600);
/// Properties that this crate sets. Another value would lose messages or their order.
const OURS: [&str; 21] = [
    "acks",
    "auto.commit.enable",
    "auto.offset.reset",
    "bootstrap.servers",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.protocol",
    "heartbeat.interval.ms",
    "message.timeout.ms",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "partitioner",
    "request.required.acks",
    "session.timeout.ms",
    "transactional.id",
    "allow.auto.create.topics",
];

/// The address of a Kafka cluster, and how to connect. Cheap to clone.
///
/// It opens no connection. Each publisher and each subscription has its own.
#[derive(Clone, PartialEq, Eq)]
#[must_use]
pub struct Kafka {
    brokers: String,
    properties: BTreeMap<String, String>,
}

impl Kafka {
    /// Names some brokers of the cluster, with commas in between: "kafka-1:9092,kafka-2:9092". The client gets the
    /// other addresses from them. A publisher or a subscription is refused if there is no address, or if an address has a
    /// scheme such as `kafka://`.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self { brokers: brokers.into(), properties: BTreeMap::new() }
    }

    /// Sets a property of the client, for publishers and subscriptions, e.g. `client.id` or `sasl.password`. The
    /// [list of librdkafka](https://github.com/confluentinc/librdkafka/blob/v2.12.1/CONFIGURATION.md) has all of them.
    ///
    /// A property replaces a value that this crate sets for speed: a publisher has `linger.ms` 0; a subscription has
    /// `queued.min.messages` 1000, `queued.max.messages.kbytes` 8192, `fetch.queue.backoff.ms` 10 and `fetch.wait.max.ms`
    /// 50. The properties that delivery and order depend on are refused when a publisher or a subscription is made. TLS and
    /// SASL need the feature `tls`.
    pub fn set(mut self, property: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(property.into(), value.into());
        self
    }

    /// Returns a publisher to `topic`, and declares the topic.
    ///
    /// # Errors
    /// Returns [`SetupError`].
    ///
    /// # Panics
    /// Panics outside of a tokio runtime.
    pub async fn publisher(
        &self,
        topic: &Topic,
        settings: Publish,
    ) -> Result<Publisher, SetupError> {
        settings.check()?;
        self.declare(topic).await?;
        Publisher::new(self, topic, settings)
    }

    /// Adds a member to a group of `topic`, and declares the topic and the group.
    ///
    /// The member owns no partition before a consumer runs over the [`Subscription`].
    ///
    /// # Errors
    /// Returns [`SetupError`].
    ///
    /// # Panics
    /// Panics outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// If the future is dropped, topic and group may exist. A repeated call continues with them.
    pub async fn subscribe(
        &self,
        topic: &Topic,
        settings: Subscribe,
    ) -> Result<Subscription, SetupError> {
        settings.check()?;
        self.declare(topic).await?;
        let properties = self.member_properties(&settings)?;
        let (kafka, name, group) = (self.clone(), topic.name.clone(), settings.clone());
        let beginning = properties.clone();
        blocking(move || start::begin(&kafka, &beginning, &name, &group)).await?;
        Ok(Subscription::new(properties, topic, settings))
    }

    /// Returns the properties of a client with `settings`. A property of the user replaces one of the `defaults`.
    pub(crate) fn client_properties(
        &self,
        defaults: &[(&str, &str)],
        settings: &[(&str, &str)],
    ) -> Result<Properties, SetupError> {
        check_brokers(&self.brokers)?;
        let mut all = Properties::new();
        let mut set =
            |property: &str, value: &str| all.insert(property.to_owned(), value.to_owned());
        // Outages are shorter than the client's longest wait of 10 s before it connects again.
        set("reconnect.backoff.max.ms", "1000");
        for (property, value) in defaults {
            set(property, value);
        }
        for (property, value) in &self.properties {
            if OURS.contains(&&**property) {
                let bound = "left to buttress-kafka, which sets it";
                return Err(InvalidConfig::new(property, "(set)", bound).into());
            }
            set(property, value);
        }
        set("bootstrap.servers", &self.brokers);
        for (property, value) in settings {
            set(property, value);
        }
        Ok(all)
    }

    /// Returns the properties of a member of a group.
    fn member_properties(&self, settings: &Subscribe) -> Result<Properties, SetupError> {
        let session = settings.session.as_millis();
        // Members are notified of a rebalance in the answer to a heartbeat.
        let heartbeat = (session / 10).clamp(1, HEARTBEAT.as_millis());
        let defaults = [
            // For each partition. The client has 100 000 and 64 MiB.
            ("queued.min.messages", "1000"),
            ("queued.max.messages.kbytes", "8192"),
            ("fetch.queue.backoff.ms", "10"),
            // The client asks a broker for all partitions with one request at a time. One for partitions without new
            // messages holds up those that have room again. The client has 500.
            ("fetch.wait.max.ms", "50"),
        ];
        self.client_properties(
            &defaults,
            &[
                ("group.id", &*settings.group),
                ("session.timeout.ms", &session.to_string()),
                ("heartbeat.interval.ms", &heartbeat.to_string()),
                // Partitions that stay with their member are not interrupted.
                ("partition.assignment.strategy", "cooperative-sticky"),
                // The client would commit messages that no handler has seen.
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                // The member looks where to continue, and counts the lost messages.
                ("auto.offset.reset", "error"),
                ("allow.auto.create.topics", "false"),
            ],
        )
    }

    /// Returns an error about a request to the brokers.
    pub(crate) fn failed(&self, doing: String, error: Error) -> SetupError {
        match error.code() {
            Some(
                Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::Resolve
                | Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::TimedOutQueue
                | Code::WaitingForCoordinator
                | Code::CoordinatorNotAvailable
                | Code::CoordinatorLoadInProgress,
            ) => {
                let brokers = self.brokers.clone();
                SetupError::Unavailable { doing, brokers, source: error.into() }
            }
            _ => SetupError::Refused { doing, source: error.into() },
        }
    }

    /// Creates the topic, or compares it.
    async fn declare(&self, topic: &Topic) -> Result<(), SetupError> {
        topic.check()?;
        let properties = self.client_properties(&[], &[("allow.auto.create.topics", "false")])?;
        let (kafka, topic) = (self.clone(), topic.clone());
        blocking(move || kafka.declare_with(&properties, &topic)).await
    }

    fn declare_with(&self, properties: &Properties, topic: &Topic) -> Result<(), SetupError> {
        let name = &*topic.name;
        let admin = Admin::new(properties).map_err(refused)?;
        let clock = Clock::default();
        let ends = clock.now() + ANSWER;
        let mut created = false;
        loop {
            let finding = |error| self.failed(format!("find the topic `{name}`"), error);
            let Found { partitions, error } = admin.find(name, ANSWER).map_err(finding)?;
            let Some(error) = error else {
                let found = i32::try_from(partitions.len()).unwrap_or(i32::MAX);
                let (wanted, topic) = (topic.partitions, name.to_owned());
                if found == wanted {
                    return Ok(());
                }
                return Err(SetupError::Mismatch { wanted, found, topic });
            };
            match error.code() {
                Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) if !created => {
                    if !topic.create {
                        return Err(SetupError::Missing { topic: name.to_owned() });
                    }
                    let creating = admin.create(name, topic.partitions, topic.replicas, ANSWER);
                    // Another program may have been faster.
                    let _is_new = Handle::current().block_on(creating).map_err(|error| {
                        self.failed(format!("create the topic `{name}`"), error)
                    })?;
                    created = true;
                }
                // A new topic is not known to all brokers immediately.
                Some(
                    Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::LeaderNotAvailable,
                ) if clock.now() < ends => {}
                _ => return Err(finding(error)),
            }
            Handle::current().block_on(clock.sleep(LOOK));
        }
    }
}

/// Returns the error about a client that could not be created. A wrong property is named.
pub(crate) fn refused(error: Error) -> SetupError {
    match error.property() {
        Some((property, value, why)) => InvalidConfig::new(property, value, why).into(),
        None => SetupError::Refused { doing: "create a client".to_owned(), source: error.into() },
    }
}

/// Runs a closure that blocks its thread, outside of the threads of tasks.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SetupError> + Send + 'static,
) -> Result<T, SetupError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(SetupError::Refused {
            doing: "declare topic and group".to_owned(),
            source: error.into(),
        }),
    }
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values of properties can be secrets.
        let properties: Vec<&String> = self.properties.keys().collect();
        f.debug_struct("Kafka")
            .field("brokers", &self.brokers)
            .field("properties", &properties)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_of_the_user_replaces_a_default_and_none_that_delivery_depends_on() {
        let kafka = Kafka::new("localhost:1").set("fetch.wait.max.ms", "7").set("client.id", "a");
        let properties = kafka.member_properties(&Subscribe::new("group")).unwrap();
        let expected = [
            ("fetch.wait.max.ms", "7"),
            ("fetch.queue.backoff.ms", "10"),
            ("client.id", "a"),
            ("enable.auto.commit", "false"),
        ];
        for (property, value) in expected {
            assert_eq!(properties.get(property).map(String::as_str), Some(value), "{property}");
        }
        let kafka = kafka.set("enable.auto.commit", "true");
        let refused = kafka.member_properties(&Subscribe::new("group"));
        assert!(matches!(refused, Err(SetupError::Invalid(_))), "{refused:?}");
    }
}
