//! [`Publisher`]: publishes messages of an outbox, and waits for the confirmation of the server.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use async_nats::jetstream::context::{PublishError as ClientError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use buttress_durable::outbox::Message;

use crate::error::PublishError;
use crate::headers;
use crate::nats::Nats;
use crate::topic::Topic;

/// How often a publisher without a connection looks for it.
const LOOK: Duration = Duration::from_millis(20);

buttress_durable::publish_settings! {
    /// Sets how long the publisher waits for a connection and the confirmation of one message. Default: 5 seconds.
    /// Between 10 ms and 1 hour. Keep it below the relay's `publish_timeout`, so that the relay gets the reason.
    limit: at least Duration::from_millis(10);
    /// Sets the clock of the limit. Default: tokio's clock.
    clock;
}

/// The confirmation of the server.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Published {
    /// The position of the message in the stream.
    pub sequence: u64,
    /// Whether the stream had the message already.
    pub duplicate: bool,
}

/// A publisher of messages to a topic: the publisher of a relay, as a [`Service`](tower::Service) of [`Message`]. Cheap
/// to clone.
///
/// A message goes to the shard of its key, with its id as `Nats-Msg-Id`. The response is the server's confirmation
/// that the stream has the message, also if it was a duplicate. [`Nats::publisher`] makes a publisher.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
}

struct Shared {
    nats: Nats,
    topic: Topic,
    settings: Publish,
}

impl Publisher {
    pub(crate) fn new(nats: Nats, topic: &Topic, settings: Publish) -> Self {
        Self { shared: Arc::new(Shared { nats, topic: topic.clone(), settings }) }
    }

    /// Publishes `message`, and waits for the confirmation.
    ///
    /// # Errors
    /// Returns [`PublishError`].
    ///
    /// # Cancel safety
    /// If the future is dropped, it is unknown whether the stream has the message.
    pub async fn publish(&self, message: Message) -> Result<Published, PublishError> {
        let shared = &*self.shared;
        let clock = &shared.settings.clock;
        let ends = clock.now() + shared.settings.limit;
        let (headers, size) = headers::write(&message, &shared.topic.name)?;
        let id = message.id.to_string();
        shared.connected(ends).await?;
        let (size, limit) =
            (size.saturating_add(message.payload.len()), shared.nats.client.max_payload());
        if size > limit {
            return Err(PublishError::TooLarge { id, size, limit });
        }
        let subject = shared.topic.subject(shared.topic.shard_of(&message.key));
        let connects = shared.nats.connects();
        let sent = PublishMessage::build().headers(headers).payload(message.payload.into());
        let publishing = async {
            let waiting = shared.nats.jetstream.send_publish(subject.clone(), sent).await?;
            waiting.await
        };
        let confirmed = match shared.confirmation(publishing, connects, ends).await {
            Some(confirmed) => confirmed,
            None => return Err(shared.unconfirmed(id)),
        };
        match confirmed {
            Ok(confirmed) => {
                Ok(Published { sequence: confirmed.sequence, duplicate: confirmed.duplicate })
            }
            Err(error) => Err(shared.error(id, subject, error)),
        }
    }
}

impl Shared {
    /// Waits for the connection until `ends`.
    async fn connected(&self, ends: Instant) -> Result<(), PublishError> {
        let clock = &self.settings.clock;
        while !self.nats.is_connected() {
            if clock.now() >= ends {
                return Err(PublishError::Disconnected { limit: self.settings.limit });
            }
            clock.sleep(LOOK).await;
        }
        Ok(())
    }

    /// Waits for the result of `publishing` until `ends`, or until the connection is another one. A confirmation that
    /// was on its way over the earlier connection never comes.
    async fn confirmation<T>(
        &self,
        publishing: impl Future<Output = T>,
        connects: u64,
        ends: Instant,
    ) -> Option<T> {
        let clock = &self.settings.clock;
        let mut publishing = pin!(publishing);
        // Boxed, and created when the server does not answer immediately.
        let mut timer: Option<Pin<Box<_>>> = None;
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(result) = publishing.as_mut().poll(cx) {
                    return Poll::Ready(Some(result));
                }
                let now = clock.now();
                if now >= ends || (self.nats.connects() != connects && self.nats.is_connected()) {
                    return Poll::Ready(None);
                }
                let next =
                    timer.get_or_insert_with(|| Box::pin(clock.sleep_until(ends.min(now + LOOK))));
                if next.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                timer = None;
            }
        })
        .await
    }

    fn unconfirmed(&self, id: String) -> PublishError {
        PublishError::Unconfirmed { id, limit: self.settings.limit }
    }

    fn error(&self, id: String, subject: String, error: ClientError) -> PublishError {
        use async_nats::jetstream::{Error as ServerError, ErrorCode};
        let of_the_server =
            std::error::Error::source(&error).and_then(|error| error.downcast_ref::<ServerError>());
        match (error.kind(), of_the_server.map(ServerError::error_code)) {
            (PublishErrorKind::StreamNotFound, _) | (_, Some(ErrorCode::STREAM_NOT_MATCH)) => {
                PublishError::NoStream { subject }
            }
            (
                PublishErrorKind::TimedOut
                | PublishErrorKind::BrokenPipe
                | PublishErrorKind::MaxAckPending,
                _,
            ) => self.unconfirmed(id),
            (
                _,
                Some(
                    ErrorCode::STREAM_STORE_FAILED
                    | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
                    | ErrorCode::STORAGE_RESOURCES_EXCEEDED
                    | ErrorCode::MEMORY_RESOURCES_EXCEEDED
                    | ErrorCode::INSUFFICIENT_RESOURCES,
                ),
            ) => PublishError::Full { id, stream: self.topic.name.clone(), source: error.into() },
            _ => PublishError::Refused { id, source: error.into() },
        }
    }
}

buttress_durable::publisher!(
    Published,
    |publisher| publisher.shared.topic.name,
    /// The classifier for a relay over a [`Publisher`]: an outage uses up no attempt.
    ///
    /// An error that [lasts](PublishError::is_lasting), or that the server gave for this message, is a failure: after its
    /// attempts the message becomes a dead letter. Every other error is ignored: the server is unavailable, did not
    /// confirm in time, is full, or has no stream. The relay keeps the message and repeats it.
    ///
    /// With the relay's default classifier, a restart of the server that outlasts all attempts makes dead letters.
);
