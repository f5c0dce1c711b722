//! Messages, consumers that handle them, and what the handlers saw.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::{Clock, Rng};
use buttress_durable::consume::{
    Batch, Config, Consumer, ConsumerHandle, Delivery, MemoryDeadLetters, Source,
};
use buttress_durable::outbox::{Message, MessageId, NewMessage};
use buttress_kafka::{Publisher, Subscription, Token};
use tower::{BoxError, service_fn};

use crate::cluster::SECOND;

pub(crate) fn message(key: &str, payload: &str) -> Message {
    let new = NewMessage::new(MessageId::random(&Rng::default()), key, payload);
    Message::new(new, 0, 0, Duration::ZERO)
}

/// Publishes as a relay does: again until it is confirmed.
pub(crate) async fn publish(publisher: &Publisher, key: &str, payload: &str) {
    let message = message(key, payload);
    while let Err(error) = publisher.publish(message.clone()).await {
        assert!(!error.is_lasting(), "{error}");
        Clock::default().sleep(Duration::from_millis(10)).await;
    }
}

/// Receives until `is_enough` is true. The source must answer within a minute.
pub(crate) async fn receive(
    source: &Subscription,
    mut is_enough: impl FnMut(&Batch<Token>) -> bool,
) -> Batch<Token> {
    let clock = Clock::default();
    let ends = clock.now() + 60 * SECOND;
    let mut all = Batch::default();
    while !is_enough(&all) {
        let batch = tokio::select! {
            batch = source.receive() => batch.unwrap(),
            () = clock.sleep_until(ends) => panic!("not within a minute: {all:?}"),
        };
        all.messages.extend(batch.messages);
        all.revoked.extend(batch.revoked);
    }
    all
}

/// The calls of handlers: key and payload.
#[derive(Clone, Default)]
pub(crate) struct Handled(Arc<Mutex<Vec<(String, String)>>>);

impl Handled {
    pub(crate) fn of(calls: Vec<(String, String)>) -> Self {
        Self(Arc::new(Mutex::new(calls)))
    }

    pub(crate) fn all(&self) -> Vec<(String, String)> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn distinct(&self) -> usize {
        self.all().into_iter().collect::<BTreeSet<_>>().len()
    }

    /// Checks that the first handlings of each key are the numbers from 0 on.
    pub(crate) fn assert_first_in_order(&self) {
        let mut next: BTreeMap<String, u32> = BTreeMap::new();
        for (key, payload) in self.all() {
            let number = payload.parse::<u32>().unwrap();
            let next = next.entry(key.clone()).or_default();
            assert!(number <= *next, "{key}: {number} came before {next}");
            *next = (*next).max(number + 1);
        }
    }

    /// Runs a consumer whose handler takes `takes`.
    pub(crate) fn consumer(&self, source: impl Source, takes: Duration) -> ConsumerHandle {
        let handled = self.clone();
        let handler = service_fn(move |delivery: Delivery| {
            let payload = String::from_utf8_lossy(delivery.payload()).into_owned();
            let call = (delivery.key().to_owned(), payload);
            let handled = handled.clone();
            async move {
                Clock::default().sleep(takes).await;
                handled.0.lock().unwrap().push(call);
                Ok::<(), BoxError>(())
            }
        });
        let letters = MemoryDeadLetters::new(Clock::default());
        let consumer = Consumer::new(source, handler, Config::new()).unwrap();
        consumer.dead_letters(letters).spawn()
    }
}

/// Waits until `is_met` is true.
pub(crate) async fn until(what: &str, mut is_met: impl FnMut() -> bool) {
    let (clock, begun) = (Clock::default(), Clock::default().now());
    while !is_met() {
        assert!(clock.now() - begun < 60 * SECOND, "{what}: not within a minute");
        clock.sleep(Duration::from_millis(5)).await;
    }
}
