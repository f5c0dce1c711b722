//! Consumers of a case, and the messages that their handlers saw.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use buttress::Clock;
use buttress::retry::Backoff;
use buttress_durable::consume::{
    Batch, Config, Consumer, ConsumerHandle, DeadLetters as _, Delivery, Letter, LetterPage,
    MemoryDeadLetters, Select, Source,
};
use buttress_durable::outbox::{MessageId, NewMessage};
use tokio::sync::Notify;
use tower::{BoxError, service_fn};

use super::super::unless;
use super::between::Between;
use super::{PATIENCE, Transport};

/// More deliveries than a case needs.
const MOST_DELIVERIES: usize = 5000;

/// A call of a handler.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// The key of the message.
    pub key: String,
    /// The destination that the publisher named.
    pub topic: String,
    /// The payload of the message.
    pub payload: Vec<u8>,
    /// The headers of the message.
    pub headers: Vec<(String, String)>,
    /// The number of the attempt.
    pub attempt: u32,
    /// The time since 1970 by the clock of the transport.
    pub at: Duration,
}

/// One consumer group of a case: the messages that its handlers saw, and its dead letters.
#[derive(Clone, Debug)]
pub struct Group {
    name: String,
    clock: Clock,
    /// The dead letters of the group.
    pub letters: MemoryDeadLetters,
    seen: Arc<Mutex<Vec<Seen>>>,
    delivered: Arc<AtomicUsize>,
    /// Notified when there were more deliveries than a case needs.
    flooded: Arc<Notify>,
}

impl Group {
    /// Creates a group without a consumer.
    #[must_use]
    pub fn new(name: &str, clock: Clock) -> Self {
        let letters = MemoryDeadLetters::new(clock.clone());
        let (seen, delivered, flooded) = (Arc::default(), Arc::default(), Arc::default());
        Self { name: name.to_owned(), clock, letters, seen, delivered, flooded }
    }

    /// Returns the configuration of a case: five attempts, 50 ms apart.
    pub fn config(&self) -> Config {
        let config = Config::new().clock(self.clock.clone());
        config.retry(5, Backoff::fixed(Duration::from_millis(50)))
    }

    /// Adds a consumer whose handler follows `script`.
    pub async fn consumer<T: Transport, F>(
        &self,
        transport: &T,
        config: Config,
        script: impl Fn(Delivery) -> F + Clone + Send + Sync + 'static,
    ) -> ConsumerHandle
    where
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.build(transport, config, script).await.0
    }

    /// Adds a consumer, and returns the task that runs it too.
    pub async fn build<T: Transport, F>(
        &self,
        transport: &T,
        config: Config,
        script: impl Fn(Delivery) -> F + Clone + Send + Sync + 'static,
    ) -> (ConsumerHandle, tokio::task::JoinHandle<()>)
    where
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let group = self.clone();
        let handler = service_fn(move |delivery: Delivery| {
            group.saw(&delivery);
            script(delivery)
        });
        let source = self.counting(transport.subscribe(&self.name).await);
        let consumer = match Consumer::new(source, handler, config) {
            Ok(consumer) => consumer.dead_letters(self.letters.clone()),
            Err(error) => panic!("a case's configuration: {error}"),
        };
        (consumer.handle(), tokio::spawn(consumer.run()))
    }

    pub(super) fn saw(&self, delivery: &Delivery) {
        let seen = Seen {
            key: delivery.key().to_owned(),
            topic: delivery.topic().to_owned(),
            payload: delivery.payload().to_vec(),
            headers: delivery.headers().to_vec(),
            attempt: delivery.attempt(),
            at: self.clock.unix(),
        };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    }

    /// Counts the deliveries of a source.
    pub(super) fn counting<S: Source>(&self, source: S) -> Between<S> {
        let (delivered, flooded) = (self.delivered.clone(), self.flooded.clone());
        let count = move |batch: &mut Batch<S::Token>| {
            let all = delivered.fetch_add(batch.messages.len(), Ordering::Relaxed);
            if all > MOST_DELIVERIES {
                flooded.notify_one();
            }
        };
        Between::new(source, count, |how| how)
    }

    /// Returns the calls so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the payloads of the calls so far, as text.
    #[must_use]
    pub fn payloads(&self) -> Vec<String> {
        let seen = self.seen().into_iter();
        seen.map(|seen| String::from_utf8_lossy(&seen.payload).into_owned()).collect()
    }

    /// Returns the dead letters.
    pub async fn dead(&self) -> Vec<Letter> {
        match self.letters.list_letters(LetterPage::first(&self.name, &Select::All, 10_000)).await {
            Ok(letters) => letters,
            Err(error) => panic!("the dead letters in memory: {error}"),
        }
    }

    /// Waits until `is_met` is true.
    pub async fn until(&self, what: &str, mut is_met: impl FnMut() -> bool) {
        let begun = self.clock.now();
        while !is_met() {
            let waited = self.clock.now().saturating_duration_since(begun);
            assert!(waited < PATIENCE, "{what}: not within {PATIENCE:?}; seen: {:?}", self.seen());
            // A transport that delivers again and again keeps a paused clock from moving.
            let flooded = self.flooded.notified();
            if unless(self.clock.sleep(Duration::from_millis(5)), flooded).await.is_none() {
                panic!("{what}: {MOST_DELIVERIES} deliveries: settled messages come again");
            }
        }
    }
}

/// Returns a message of `key` with a new id.
pub(super) fn message(key: &str, payload: impl Into<Vec<u8>>) -> NewMessage {
    NewMessage::new(MessageId::random(&buttress::Rng::default()), key, payload).topic("order.paid")
}
