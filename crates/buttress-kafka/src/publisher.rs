//! [`Publisher`]: publishes messages of an outbox, and waits for the confirmation of the brokers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use buttress_durable::outbox::Message;
use tokio::sync::oneshot;

use crate::client::{Code, Confirmation, Error, Outgoing, Producer, Properties};
use crate::error::{PublishError, SetupError};
use crate::headers;
use crate::kafka::{Kafka, refused};
use crate::topic::Topic;

/// The client looks for overdue messages once a second.
const OVERDUE: Duration = Duration::from_secs(2);

buttress_durable::publish_settings! {
    /// Sets how long the brokers may take to confirm a message. Default: 5 seconds. Between 100 ms and 1 hour. The
    /// answer about an outage comes up to 2 seconds later. Keep it below the relay's `publish_timeout`, so that the
    /// relay gets the reason.
    limit: at least Duration::from_millis(100);
    /// Sets the clock of the limit. Default: tokio's clock. The client has its own clock besides.
    clock;
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
    properties: Properties,
    topic: String,
    settings: Publish,
    client: Mutex<Arc<Producer>>,
}

impl Publisher {
    pub(crate) fn new(kafka: &Kafka, topic: &Topic, settings: Publish) -> Result<Self, SetupError> {
        // Messages that are published concurrently share a request nevertheless.
        let defaults = [("linger.ms", "0")];
        let properties = kafka.client_properties(
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
        let client = Mutex::new(Arc::new(Producer::new(&properties).map_err(refused)?));
        let shared = Shared { properties, topic: topic.name.clone(), settings, client };
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
        let (id, client) = (message.id.to_string(), shared.client());
        let (size, sent) = shared.send(&client, &message)?;
        let answer = match sent {
            Ok(confirmed) => {
                let clock = &shared.settings.clock;
                tokio::select! {
                    biased;
                    confirmed = confirmed => confirmed.unwrap_or_else(|_| Err(Error::ended())),
                    () = clock.sleep(shared.settings.limit + OVERDUE) => {
                        return Err(shared.unconfirmed(id, None));
                    }
                }
            }
            Err(error) => Err(error),
        };
        let published = answer.map(|(partition, offset)| Published { partition, offset });
        published.map_err(|error| {
            shared.replace(&client, &error);
            shared.error(id, size, error)
        })
    }
}

/// A message that the client has taken and will confirm, or an error without an attempt.
type Sent = Result<oneshot::Receiver<Confirmation>, Error>;

impl Shared {
    fn client(&self) -> Arc<Producer> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives a message to the client. Returns the size of the message in bytes, and its future confirmation.
    fn send(&self, client: &Producer, message: &Message) -> Result<(usize, Sent), PublishError> {
        let (headers, size) = headers::write(message)?;
        let (key, payload) = (message.key.as_bytes(), &*message.payload);
        let size = size.saturating_add(key.len()).saturating_add(payload.len());
        // A message without a key has no order, and goes anywhere.
        let key = Some(key).filter(|key| !key.is_empty());
        let outgoing = Outgoing { topic: &self.topic, key, payload, headers: &headers };
        Ok((size, client.send(&outgoing)))
    }

    /// Replaces a client that has failed for good, e.g. because a broker has forgotten its sequence or refuses its
    /// identity.
    fn replace(&self, failed: &Arc<Producer>, error: &Error) {
        if !failed.has_failed() && !refuses_the_client(error) {
            return;
        }
        let mut current = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current, failed) {
            return;
        }
        match Producer::new(&self.properties) {
            Ok(client) => *current = Arc::new(client),
            // The next message tries again.
            Err(error) => {
                tracing::warn!(target: "buttress", %error, "the publisher cannot create a new client");
            }
        }
    }

    fn unconfirmed(&self, id: String, source: Option<Error>) -> PublishError {
        let source = source.map(Into::into);
        PublishError::Unconfirmed { id, limit: self.settings.limit, source }
    }

    fn error(&self, id: String, size: usize, error: Error) -> PublishError {
        match error.code() {
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
fn refuses_the_client(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(
            Code::ProducerFenced
                | Code::InvalidProducerEpoch
                | Code::InvalidProducerIdMapping
                | Code::UnknownProducerId
                | Code::OutOfOrderSequenceNumber
        )
    )
}

buttress_durable::publisher!(
    Published,
    |publisher| publisher.shared.topic,
    /// The classifier for a relay over a [`Publisher`]: an outage uses up no attempt.
    ///
    /// An error that [lasts](PublishError::is_lasting), or that the brokers gave for this message, is a failure: after
    /// its attempts the message becomes a dead letter. Every other error is ignored: the brokers are unavailable, did
    /// not confirm in time, or have no topic. The relay keeps the message and repeats it.
    ///
    /// With the relay's default classifier, an outage that outlasts all attempts makes dead letters.
);
