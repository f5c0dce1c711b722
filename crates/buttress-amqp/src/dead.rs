//! [`Dead`]: messages that RabbitMQ does not deliver any more.

use buttress_durable::outbox::NewMessage;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Confirmation, Connection};

use crate::error::SetupError;
use crate::message;
use crate::rabbit::Rabbit;
use crate::topic::Topic;

/// The dead queue of a group: messages that RabbitMQ does not deliver any more after
/// [`delivery_limit`](crate::Subscribe::delivery_limit) deliveries. Made by [`Rabbit::dead`].
///
/// Messages that a handler could not handle are not here. They are in the
/// [dead letters](buttress_durable::consume::DeadLetters) of the consumer.
#[derive(Clone, Debug)]
pub struct Dead {
    rabbit: Rabbit,
    topic: Topic,
    group: String,
}

impl Dead {
    pub(crate) fn new(rabbit: Rabbit, topic: &Topic, group: &str) -> Self {
        Self { rabbit, topic: topic.clone(), group: group.to_owned() }
    }

    /// Returns how many messages are in the dead queue.
    ///
    /// # Errors
    /// Returns [`SetupError`], e.g. if the group does not exist.
    pub async fn count(&self) -> Result<u32, SetupError> {
        let (_connection, channel) = self.open().await?;
        let name = self.topic.dead_queue(&self.group);
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let counting = channel.queue_declare(name.as_str().into(), options, FieldTable::default());
        let counted = self.rabbit.within("counting", counting).await?;
        let queue = counted.map_err(|source| self.failed("count", source))?;
        Ok(queue.message_count())
    }

    /// Moves up to `most` messages to the retry queue, which returns them to the queues of their shards after
    /// [`retry_after`](crate::Subscribe::retry_after). Returns how many. Their deliveries count from zero again.
    ///
    /// A message that returns is behind later messages of its key.
    ///
    /// # Errors
    /// Returns [`SetupError`]. The messages before the error are moved.
    ///
    /// # Cancel safety
    /// If the future is dropped, the messages that were not moved stay. One message may then be in both queues.
    pub async fn retry(&self, most: u32) -> Result<u32, SetupError> {
        let (_connection, channel) = self.open().await?;
        let confirming = channel.confirm_select(ConfirmSelectOptions::default());
        let confirming = self.rabbit.within("opening a channel", confirming).await?;
        confirming.map_err(|source| self.failed("read", source))?;
        let mut moved = 0;
        while moved < most {
            let moving = self.rabbit.within("moving a message", self.next(&channel)).await?;
            match moving.map_err(|source| self.failed("read", source))? {
                None => break,
                Some(true) => moved += 1,
                Some(false) => {
                    let queue = self.topic.retry_queue(&self.group);
                    return Err(SetupError::Untaken { queue });
                }
            }
        }
        Ok(moved)
    }

    /// Moves the next message. Returns `false` if the retry queue did not take it.
    async fn next(&self, channel: &Channel) -> Result<Option<bool>, lapin::Error> {
        let queue = self.topic.dead_queue(&self.group);
        let read = channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await?;
        let Some(read) = read else { return Ok(None) };
        let (exchange, to) = (self.topic.retry_exchange(), self.target(&read.delivery));
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let properties = message::without_history(&read.properties);
        let (exchange, to) = (exchange.as_str().into(), to.as_str().into());
        let sent = channel.basic_publish(exchange, to, options, &read.data, properties).await?;
        if sent.await? != Confirmation::Ack(None) {
            return Ok(Some(false));
        }
        channel.basic_ack(read.delivery_tag, BasicAckOptions::default()).await?;
        Ok(Some(true))
    }

    /// Returns the queue that a message came from.
    fn target(&self, delivery: &Delivery) -> String {
        let known = message::first_queue(&delivery.properties);
        let of_group = self.topic.of_group(&self.group, "");
        known.filter(|queue| queue.starts_with(&of_group)).unwrap_or_else(|| {
            let shard =
                NewMessage::partition(&message::read(delivery).content.key, self.topic.shards);
            self.topic.queue(&self.group, shard)
        })
    }

    async fn open(&self) -> Result<(Connection, Channel), SetupError> {
        let connection = self.rabbit.connect().await?;
        let opened = self.rabbit.within("opening a channel", connection.create_channel()).await?;
        let channel = opened.map_err(|source| self.failed("read", source))?;
        Ok((connection, channel))
    }

    fn failed(&self, what: &str, source: lapin::Error) -> SetupError {
        let queue = self.topic.dead_queue(&self.group);
        SetupError::Server { doing: format!("{what} the queue `{queue}`"), source }
    }
}
