//! What the measurements of all brokers share.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use buttress::Clock;
use buttress_durable::consume::{Config, Consumer, Delivery, MemoryDeadLetters, Source};
use buttress_durable::outbox::{self, MemoryStore, Message, MessageId, NewMessage, Outbox, Relay};
use futures_util::stream::{self, StreamExt as _};
use tokio::sync::Notify;
use tower::{BoxError, Service, service_fn};

/// Any failure of a measurement.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Messages of a round.
pub const MESSAGES: usize = 50_000;
/// Rounds of each candidate, unless an argument says otherwise. They take turns.
pub const ROUNDS: usize = 5;
/// Messages under way.
pub const IN_FLIGHT: usize = 256;
/// Bytes of a payload.
const PAYLOAD: usize = 200;
/// Different keys.
const KEYS: usize = 1000;

/// Two rates beside each other, in messages per second.
pub struct Row {
    pub what: String,
    pub raw: f64,
    pub ours: f64,
    /// The least ratio.
    pub target: f64,
}

impl Row {
    /// Returns the row of the medians of two candidates.
    pub fn new(what: &str, raw: &[f64], ours: &[f64], target: f64) -> Self {
        Self { what: what.to_owned(), raw: median(raw), ours: median(ours), target }
    }
}

/// The rates of a broker: of the raw loops and of ours, round by round.
#[derive(Default)]
pub struct Rates {
    pub raw_out: Vec<f64>,
    pub raw_in: Vec<f64>,
    pub ours_out: Vec<f64>,
    pub ours_relayed: Vec<f64>,
    pub ours_in: Vec<f64>,
}

impl Rates {
    /// Returns the rows of the broker. `least_in` is the least ratio of the consumer.
    pub fn rows(&self, broker: &str, least_in: f64) -> [Row; 3] {
        let name = |what: &str| format!("{broker}: {what}");
        [
            Row::new(&name("publish, 256 under way"), &self.raw_out, &self.ours_out, 0.8),
            Row::new(&name("relay of an outbox in memory"), &self.raw_out, &self.ours_relayed, 0.8),
            Row::new(&name("consume, order by key"), &self.raw_in, &self.ours_in, least_in),
        ]
    }
}

/// Returns the middle of the figures.
pub fn median(rates: &[f64]) -> f64 {
    let mut sorted = rates.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

pub fn key(number: usize) -> String {
    format!("key-{}", number % KEYS)
}

pub fn payload() -> Vec<u8> {
    vec![b'x'; PAYLOAD]
}

/// Returns a message of a round.
pub fn new_message(number: usize) -> NewMessage {
    let id = MessageId::new(number as u128 + 1);
    NewMessage::new(id, key(number), payload()).topic("order.paid")
}

/// Returns how many messages per second a measurement has done.
pub fn rate(begun: Instant) -> f64 {
    MESSAGES as f64 / begun.elapsed().as_secs_f64()
}

/// Publishes the messages of a round through a publisher, with [`IN_FLIGHT`] under way.
pub async fn publish<P>(publisher: &P) -> Result<f64, Error>
where
    P: Service<Message, Error: Into<Error>> + Clone,
{
    let begun = Instant::now();
    let calls = (0..MESSAGES).map(|number| {
        let message = Message::new(new_message(number), 0, 0, Duration::ZERO);
        let call = publisher.clone().call(message);
        async move { call.await.map(drop).map_err(Into::into) }
    });
    all(calls).await?;
    Ok(rate(begun))
}

/// Waits for calls, with [`IN_FLIGHT`] under way.
pub async fn all<C>(calls: impl Iterator<Item = C>) -> Result<(), Error>
where
    C: Future<Output = Result<(), Error>>,
{
    let mut calls = stream::iter(calls).buffer_unordered(IN_FLIGHT);
    while let Some(done) = calls.next().await {
        done?;
    }
    Ok(())
}

/// Relays the messages of a round from an outbox in memory.
pub async fn relay<P>(publisher: &P) -> Result<f64, Error>
where
    P: Service<Message, Response: Send, Error: Into<BoxError>, Future: Send + 'static>
        + Clone
        + Send
        + 'static,
{
    let store = MemoryStore::new(Clock::default());
    let outbox = Outbox::new(store.clone());
    for from in (0..MESSAGES).step_by(1000) {
        let mut tx = store.begin();
        for number in from..from + 1000 {
            let _written = outbox.write(&mut tx, new_message(number)).await?;
        }
        tx.commit();
    }
    let config = outbox::Config::new().concurrency(IN_FLIGHT).batch(1000);
    let begun = Instant::now();
    let relay = Relay::new(&outbox, publisher.clone(), config)?.spawn();
    while relay.stats().relayed < MESSAGES as u64 {
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    let rate = rate(begun);
    relay.shut_down().await;
    Ok(rate)
}

/// Handles the messages of a round with an empty handler, in the order of their keys.
pub async fn consume(source: impl Source) -> Result<f64, Error> {
    let begun = OnceLock::from(Instant::now());
    consume_since(Arc::new(begun), source).await
}

/// Handles the messages of a round as [`consume`] does. The time begins with the first message, because the brokers need seconds to admit a member to its group.
pub async fn consume_once_admitted(source: impl Source) -> Result<f64, Error> {
    consume_since(Arc::default(), source).await
}

async fn consume_since(begun: Arc<OnceLock<Instant>>, source: impl Source) -> Result<f64, Error> {
    let (handled, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (count, all, first) = (handled.clone(), done.clone(), begun.clone());
    let handler = service_fn(move |_: Delivery| {
        first.get_or_init(Instant::now);
        if count.fetch_add(1, Ordering::Relaxed) + 1 == MESSAGES {
            all.notify_one();
        }
        std::future::ready(Ok::<(), BoxError>(()))
    });
    let letters = MemoryDeadLetters::new(Clock::default());
    let consumer = Consumer::new(source, handler, Config::new())?.dead_letters(letters).spawn();
    done.notified().await;
    let rate = rate(*begun.get().ok_or("nothing was handled")?);
    consumer.shut_down().await;
    Ok(rate)
}
