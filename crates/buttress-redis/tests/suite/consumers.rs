//! Consumers that remember what they handled, and messages for them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::retry::Backoff;
use buttress::{Clock, Rng};
use buttress_durable::consume::{
    Config, Consumer, ConsumerHandle, Delivery, MemoryDeadLetters, Source,
};
use buttress_durable::outbox::{Message, MessageId, NewMessage};
use buttress_redis::Error;
use buttress_redis::streams::Publisher;
use tower::{BoxError, Service as _, service_fn};

use crate::server::until;

pub(crate) fn message(key: &str, payload: impl Into<Vec<u8>>) -> Message {
    let message = NewMessage::new(MessageId::random(&Rng::default()), key, payload);
    Message::new(message.topic("order.paid"), 0, 0, Duration::ZERO)
}

pub(crate) async fn try_publish(publisher: &mut Publisher, message: Message) -> Result<(), Error> {
    publisher.call(message).await
}

pub(crate) async fn publish(publisher: &mut Publisher, message: Message) {
    try_publish(publisher, message).await.unwrap();
}

pub(crate) type Handled = Arc<Mutex<Vec<(String, String)>>>;

/// A consumer, and the keys and payloads that it handled.
pub(crate) struct Collected {
    pub consumer: ConsumerHandle,
    handled: Handled,
}

impl Collected {
    /// Handles each message after the wait that `wait` returns.
    pub(crate) fn after(source: impl Source, wait: fn(&Delivery) -> Duration) -> Self {
        Self::into(Handled::default(), source, wait)
    }

    /// As [`after`](Self::after), with one record of several consumers.
    pub(crate) fn into(
        handled: Handled,
        source: impl Source,
        wait: fn(&Delivery) -> Duration,
    ) -> Self {
        let theirs = handled.clone();
        let handler = service_fn(move |delivery: Delivery| {
            let theirs = theirs.clone();
            async move {
                Clock::default().sleep(wait(&delivery)).await;
                let payload = String::from_utf8_lossy(delivery.payload()).into_owned();
                theirs.lock().unwrap().push((delivery.key().to_owned(), payload));
                Ok::<(), BoxError>(())
            }
        });
        let config = Config::new().retry(1000, Backoff::fixed(Duration::from_millis(20)));
        let letters = MemoryDeadLetters::new(Clock::default());
        let consumer =
            Consumer::new(source, handler, config).unwrap().dead_letters(letters).spawn();
        Self { consumer, handled }
    }

    pub(crate) fn by(source: impl Source) -> Self {
        Self::after(source, |_| Duration::ZERO)
    }

    pub(crate) fn handled(&self) -> Vec<(String, String)> {
        self.handled.lock().unwrap().clone()
    }

    pub(crate) fn payloads(&self) -> Vec<String> {
        self.handled().into_iter().map(|(_, payload)| payload).collect()
    }

    pub(crate) async fn until_has(&self, count: usize) {
        until("the messages are handled", async || self.handled.lock().unwrap().len() >= count)
            .await;
    }
}
