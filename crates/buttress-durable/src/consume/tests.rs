use std::collections::VecDeque;
use std::future::{Future, pending};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::context::Context;
use buttress::health::{Status, Watch};
use buttress::retry::Backoff;
use buttress::{Clock, StoreError};
use tokio::sync::Notify;
use tower::{BoxError, service_fn};

use super::*;
use crate::bus::{Bus, Pattern, Subscribe};
use crate::event::{DecodeError, Event, UnknownEvent};
use crate::outbox::{self, Message, MessageId, NewMessage};

mod backoff;
mod drops;
mod faulty;
mod replay;
mod replays;
mod shell;
mod torture;
mod transport;

const MS: Duration = Duration::from_millis(1);

/// A handler that follows a script, over a bus. Records the time and the attempt of each call.
#[derive(Clone)]
struct World {
    bus: Bus,
    letters: MemoryDeadLetters,
    seen: Arc<Mutex<Vec<(Duration, String, u32)>>>,
    clock: Clock,
    start: std::time::Instant,
}

impl World {
    fn new() -> Self {
        let clock = Clock::default();
        let (bus, letters) = (Bus::new(), MemoryDeadLetters::new(clock.clone()));
        let start = clock.now();
        Self { bus, letters, seen: Arc::default(), clock, start }
    }

    fn subscribe(&self) -> crate::bus::Subscription {
        self.bus.subscribe("billing", Subscribe::new(Pattern::all())).unwrap()
    }

    fn consumer<F>(
        &self,
        config: Config,
        script: impl Fn(Delivery) -> F + Clone + Send + Sync + 'static,
    ) -> ConsumerHandle
    where
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.over(self.subscribe(), config, script)
    }

    fn over<S: Source, F>(
        &self,
        source: S,
        config: Config,
        script: impl Fn(Delivery) -> F + Clone + Send + Sync + 'static,
    ) -> ConsumerHandle
    where
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let world = self.clone();
        let handler = service_fn(move |delivery: Delivery| {
            let payload = String::from_utf8_lossy(delivery.payload()).into_owned();
            let at = world.clock.now() - world.start;
            world.seen.lock().unwrap().push((at, payload, delivery.attempt()));
            script(delivery)
        });
        let consumer = Consumer::new(source, handler, config).unwrap();
        consumer.dead_letters(self.letters.clone()).spawn()
    }

    async fn publish(&self, key: &str, payload: &str) {
        let id = MessageId::random(&buttress::Rng::default());
        let new = NewMessage::new(id, key, payload).topic("order.paid").header("x-tenant", "7");
        self.publish_new(new).await;
    }

    async fn publish_new(&self, new: NewMessage) {
        self.bus.publish(Message::new(new, 0, 0, Duration::ZERO)).await.unwrap();
    }

    /// Returns the calls since the last time: milliseconds, payload and attempt.
    fn seen(&self) -> Vec<(u128, String, u32)> {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        seen.into_iter().map(|(at, payload, attempt)| (at.as_millis(), payload, attempt)).collect()
    }

    fn payloads(&self) -> Vec<String> {
        self.seen().into_iter().map(|(_, payload, _)| payload).collect()
    }

    async fn dead(&self) -> Vec<Letter> {
        let page = LetterPage::first("billing", &Select::All, 100);
        self.letters.list_letters(page).await.unwrap()
    }
}

/// Attempts with constant waits.
fn config() -> Config {
    Config::new().retry(5, Backoff::fixed(200 * MS))
}

/// Lets the paused clock run for `time`.
async fn pass(time: Duration) {
    Clock::default().sleep(time).await;
}

async fn done_after(time: Duration) -> Result<(), BoxError> {
    pass(time).await;
    Ok(())
}

fn no() -> Result<(), BoxError> {
    Err("away".into())
}

fn spawn<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(task)
}
