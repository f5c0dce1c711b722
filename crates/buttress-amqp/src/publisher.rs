//! [`Publisher`]: publishes messages of an outbox, and waits for the confirmation of the server.

use std::sync::Arc;
use std::time::Duration;

use buttress_durable::outbox::Message;
use lapin::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::error::PublishError;
use crate::message;
use crate::rabbit::Rabbit;
use crate::topic::Topic;

mod confirms;
mod driver;
mod shared;
#[cfg(test)]
mod tests;

use driver::Publishing;
use shared::{Failure, Job, Shared, Ticket};

/// How many messages wait for the task that publishes, before a caller waits.
const QUEUE: usize = 1024;

buttress_durable::publish_settings! {
    /// Sets how long the publisher waits for a connection and the confirmation of one message. Default: 5 seconds.
    /// Between 10 ms and 1 hour. Keep it below the relay's `publish_timeout`, so that the relay gets the reason.
    limit: at least Duration::from_millis(10);
    /// Sets the clock of the limit. Default: tokio's clock.
    clock;
    /// Sets the largest payload in bytes. Default: 16 MiB, as RabbitMQ 4 has it. Between 1 and 512 MiB.
    ///
    /// The server closes the channel after a message above its own `max_message_size`, and everything else that is
    /// being published has to be sent again.
    largest(bytes: usize) = 16 << 20, in 1..=512 << 20;
}

/// A publisher of messages to a topic: the publisher of a relay, as a [`Service`](tower::Service) of [`Message`]. Cheap
/// to clone.
///
/// A message goes to the shard of its key, persistent, with its id as `message_id`. The response means that RabbitMQ
/// has confirmed the message: every queue of the shard has it, on the disks of most of its replicas.
/// [`Rabbit::publisher`] makes a publisher.
#[derive(Clone)]
pub struct Publisher {
    jobs: mpsc::Sender<Job>,
    shared: Arc<Shared>,
    settings: Publish,
}

impl Publisher {
    pub(crate) fn spawn(
        rabbit: Rabbit,
        topic: &Topic,
        settings: Publish,
        connection: Connection,
    ) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared::new(topic, &connection));
        tokio::spawn(
            Publishing::new(rabbit, shared.clone(), settings.clock.clone()).run(queue, connection),
        );
        Self { jobs, shared, settings }
    }

    /// Publishes `message`, and waits for the confirmation.
    ///
    /// # Errors
    /// Returns [`PublishError`].
    ///
    /// # Cancel safety
    /// If the future is dropped, it is unknown whether the queues have the message.
    pub async fn publish(&self, message: Message) -> Result<(), PublishError> {
        let Self { shared, settings, .. } = self;
        let properties = message::write(&message, shared.frame())?;
        let (id, size, limit) = (message.id.to_string(), message.payload.len(), settings.largest);
        if size > limit {
            return Err(PublishError::TooLarge { id, size, limit });
        }
        let shard = shared.topic.shard_of(&message.key, &id);
        let (ticket, (answer, mut answered)) = (Ticket::default(), oneshot::channel());
        let payload = message.payload;
        let job =
            Job { id: id.clone(), shard, properties, payload, ticket: ticket.clone(), answer };
        let publishing = async {
            // The task ends after the last publisher, or with the runtime.
            self.jobs.send(job).await.map_err(|_| Failure::Lost)?;
            (&mut answered).await.unwrap_or(Err(Failure::Lost))
        };
        let limit = settings.limit;
        match settings.clock.within(limit, publishing).await {
            Some(Ok(())) => Ok(()),
            Some(Err(failure)) => Err(shared.error(id, shard, size, limit, failure)),
            None if !ticket.give_up() => Err(PublishError::Unconfirmed { id, limit }),
            None if shared.is_blocked() => Err(PublishError::Blocked),
            None => Err(PublishError::Disconnected { limit }),
        }
    }
}

buttress_durable::publisher!(
    (),
    |publisher| publisher.shared.topic.name,
    /// The classifier for a relay over a [`Publisher`]: an outage uses up no attempt.
    ///
    /// An error that [lasts](PublishError::is_lasting), or that the server gave for this message, is a failure: after its
    /// attempts the message becomes a dead letter. Every other error is ignored: the server is unavailable, did not
    /// confirm in time, is short of memory or disk, or has no queue that takes the message. The relay keeps the message
    /// and repeats it.
    ///
    /// With the relay's default classifier, a restart of the server that outlasts all attempts makes dead letters.
);
