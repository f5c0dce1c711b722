//! [`Publisher`]: publishes messages of an outbox, and waits for the confirmation of the brokers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use buttress::{Clock, InvalidConfig};
use buttress_durable::outbox::Message;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{ClientConfig, ClientContext};
use tokio::sync::oneshot;

use crate::error::{PublishError, SetupError};
use crate::headers;
use crate::kafka::{Kafka, refused};
use crate::topic::Topic;

/// The client looks for overdue messages once a second.
const OVERDUE: Duration = Duration::from_secs(2);

/// The settings of a publisher.
#[derive(Clone, Debug)]
#[must_use]
pub struct Publish {
    limit: Duration,
    clock: Clock,
}

impl Default for Publish {
    fn default() -> Self {
        Self { limit: Duration::from_secs(5), clock: Clock::default() }
    }
}

impl Publish {
    /// Creates the default settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long the brokers may take to confirm a message. Default: 5 seconds. Between 100 ms and 1 hour. The
    /// answer about an outage comes up to 2 seconds later. Keep it below the relay's `publish_timeout`, so that the
    /// relay gets the reason.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Sets the clock of the limit. Default: tokio's clock. The client has its own clock besides.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    pub(crate) fn check(&self) -> Result<(), InvalidConfig> {
        InvalidConfig::check_range(
            "limit",
            self.limit,
            Duration::from_millis(100)..=Duration::from_secs(3600),
        )
    }
}

/// The confirmation of the brokers.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Published {
    /// The partition of the message.
    pub partition: i32,
    /// The position of the message in the partition.
    pub offset: i64,
}

/// A publisher of messages to a topic: the publisher of a relay, as a [`Service`](tower::Service) of [`Message`]. Cheap
/// to clone.
///
/// A message goes to the partition of its key, by the hash that the clients for Java use. The response is the
/// confirmation that all replicas in sync have the message. [`Kafka::publisher`] makes a publisher.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
}

struct Shared {
    config: ClientConfig,
    topic: String,
    settings: Publish,
    client: Mutex<Arc<Client>>,
}

impl Publisher {
    pub(crate) fn new(kafka: &Kafka, topic: &Topic, settings: Publish) -> Result<Self, SetupError> {
        // Messages that are published concurrently share a request all the same.
        let defaults = [("linger.ms", "0")];
        let config = kafka.client(
            &defaults,
            &[
                // A repetition by the client neither doubles messages nor changes their order.
                ("enable.idempotence", "true"),
                ("acks", "all"),
                ("message.timeout.ms", &settings.limit.as_millis().to_string()),
                // The same partition as by a client for Java.
                ("partitioner", "murmur2_random"),
                ("allow.auto.create.topics", "false"),
            ],
        )?;
        let client = Mutex::new(Arc::new(Client::new(&config).map_err(refused)?));
        let shared = Shared { config, topic: topic.name.clone(), settings, client };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Publishes `message`, and waits for the confirmation.
    ///
    /// # Errors
    /// Returns [`PublishError`].
    ///
    /// # Cancel safety
    /// If the future is dropped, it is unknown whether the topic has the message.
    pub async fn publish(&self, message: Message) -> Result<Published, PublishError> {
        let shared = &*self.shared;
        let (headers, size) = headers::write(&message)?;
        let (id, key) = (message.id.to_string(), &*message.key);
        let size = size.saturating_add(key.len()).saturating_add(message.payload.len());
        let client = shared.client();
        let (confirm, confirmed) = oneshot::channel();
        let record = BaseRecord::with_opaque_to(&shared.topic, Box::new(confirm));
        let mut record = record.payload(&*message.payload).headers(headers);
        // A message without a key has no order, and goes anywhere.
        record.key = Some(key.as_bytes()).filter(|key| !key.is_empty());
        let sent = match &client.0 {
            Some(producer) => producer.send(record).map_err(|(error, _)| error),
            None => Err(KafkaError::Canceled),
        };
        let answer = match sent {
            Ok(()) => {
                let clock = &shared.settings.clock;
                tokio::select! {
                    biased;
                    confirmed = confirmed => confirmed.unwrap_or(Err(KafkaError::Canceled)),
                    () = clock.sleep(shared.settings.limit + OVERDUE) => {
                        return Err(shared.unconfirmed(id, None));
                    }
                }
            }
            Err(error) => Err(error),
        };
        answer.map_err(|error| {
            shared.replace(&client, &error);
            shared.error(id, size, error)
        })
    }
}

impl Shared {
    fn client(&self) -> Arc<Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces a client that has failed for good, e.g. because a broker has forgotten its sequence or refuses its
    /// identity.
    fn replace(&self, failed: &Arc<Client>, error: &KafkaError) {
        let fatal = failed.0.as_ref().and_then(|producer| producer.client().fatal_error());
        if fatal.is_none() && !refuses_the_client(error) {
            return;
        }
        let mut current = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current, failed) {
            return;
        }
        match Client::new(&self.config) {
            Ok(client) => *current = Arc::new(client),
            // The next message tries again.
            Err(error) => {
                tracing::warn!(target: "buttress", %error, "the publisher cannot create a new client");
            }
        }
    }

    fn unconfirmed(&self, id: String, source: Option<KafkaError>) -> PublishError {
        let source = source.map(Into::into);
        PublishError::Unconfirmed { id, limit: self.settings.limit, source }
    }

    fn error(&self, id: String, size: usize, error: KafkaError) -> PublishError {
        match error.rdkafka_error_code() {
            Some(Code::MessageSizeTooLarge | Code::MessageBatchTooLarge) => {
                PublishError::TooLarge { id, size }
            }
            Some(Code::QueueFull) => PublishError::Full { id },
            Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition) => {
                PublishError::NoTopic { topic: self.topic.clone(), source: error.into() }
            }
            Some(
                Code::InvalidMessage
                | Code::InvalidMessageSize
                | Code::InvalidRecord
                | Code::InvalidTimestamp
                | Code::PolicyViolation,
            ) => PublishError::Refused { id, source: error.into() },
            _ => self.unconfirmed(id, Some(error)),
        }
    }
}

/// Returns whether `error` is about the identity of the producer, which a new client does not have. The client counts
/// these errors as errors of one message, and sends the next message with the same identity.
fn refuses_the_client(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::ProducerFenced
                | Code::InvalidProducerEpoch
                | Code::InvalidProducerIdMapping
                | Code::UnknownProducerId
                | Code::OutOfOrderSequenceNumber
        )
    )
}

type Confirm = Box<oneshot::Sender<Result<Published, KafkaError>>>;

/// Passes the confirmations on.
struct Confirmations;

impl ClientContext for Confirmations {}

impl ProducerContext for Confirmations {
    type DeliveryOpaque = Confirm;

    fn delivery(&self, result: &DeliveryResult<'_>, confirm: Confirm) {
        let answer = match result {
            Ok(message) => {
                Ok(Published { partition: message.partition(), offset: message.offset() })
            }
            Err((error, _)) => Err(error.clone()),
        };
        // The caller may have dropped its future.
        let _gone = confirm.send(answer);
    }
}

/// A client with its thread. `None` only while it is dropped.
struct Client(Option<ThreadedProducer<Confirmations>>);

impl Client {
    fn new(config: &ClientConfig) -> Result<Self, KafkaError> {
        config.create_with_context(Confirmations).map(|producer| Self(Some(producer)))
    }
}

impl Drop for Client {
    /// Ends the client on a thread, because it waits for its own threads.
    fn drop(&mut self) {
        let producer = self.0.take();
        let ending = std::thread::Builder::new().name("kafka-end".to_owned());
        // Without a thread the client ends here.
        let _ended = ending.spawn(move || drop(producer));
    }
}

buttress_durable::publisher!(
    Published,
    |publisher| publisher.shared.topic,
    /// The classifier for a relay over a [`Publisher`]: an outage uses up no attempt.
    ///
    /// An error that [lasts](PublishError::is_lasting), or that the brokers gave for this message, is a failure: after its
    /// attempts the message becomes a dead letter. Every other error is ignored: the brokers are unavailable, did not
    /// confirm in time, or have no topic. The relay keeps the message and repeats it.
    ///
    /// With the relay's default classifier, an outage that outlasts all attempts makes dead letters.
);
