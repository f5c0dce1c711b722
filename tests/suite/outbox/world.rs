//! A publisher that follows a script, and records the messages that reach it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::Clock;
use buttress::retry::{Backoff, Jitter};
use buttress_durable::outbox::{
    Config, MemoryStore, Message, MessageId, NewMessage, Outbox, Relay, RelayHandle,
};
use tokio::time::Instant;
use tower::{BoxError, service_fn};

type Answer = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;
type Script = Arc<dyn Fn(&Message) -> Answer + Send + Sync>;

#[derive(Clone)]
pub(super) struct World {
    pub store: MemoryStore,
    pub outbox: Outbox<MemoryStore>,
    seen: Arc<Mutex<Vec<(Duration, u32)>>>,
    script: Arc<Mutex<Script>>,
    start: Instant,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "the paused clock")]
    pub(super) fn new() -> Self {
        let store = MemoryStore::new(Clock::default());
        let script: Script = Arc::new(|_| Box::pin(async { Ok(()) }));
        let outbox = Outbox::new(store.clone());
        let script = Arc::new(Mutex::new(script));
        Self { store, outbox, seen: Arc::default(), script, start: Instant::now() }
    }

    /// Sets the behaviour of the publisher from now on.
    pub(super) fn publish<F>(&self, script: impl Fn(&Message) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        *self.script.lock().unwrap() = Arc::new(move |message| Box::pin(script(message)));
    }

    /// Makes each publication take `time`.
    pub(super) fn publishing_takes(&self, time: Duration) {
        self.publish(move |_| async move {
            pass(time).await;
            Ok(())
        });
    }

    /// Makes each publication of the message with this number fail.
    pub(super) fn publishing_fails(&self, failing: u32) {
        self.publish(move |message| {
            let fails = number(message) == failing;
            async move { if fails { Err(BoxError::from("no")) } else { Ok(()) } }
        });
    }

    pub(super) fn relay(&self, config: Config) -> RelayHandle {
        self.relay_of(config).spawn()
    }

    pub(super) fn relay_of(
        &self,
        config: Config,
    ) -> Relay<
        MemoryStore,
        impl tower::Service<Message, Response = (), Error = BoxError, Future: Send>
        + Clone
        + Send
        + use<>,
    > {
        let world = self.clone();
        let publisher = service_fn(move |message: Message| {
            world.saw(&message);
            let script = world.script.lock().unwrap().clone();
            script(&message)
        });
        Relay::new(&self.outbox, publisher, config).unwrap()
    }

    /// Records that a message has reached a publisher.
    pub(super) fn saw(&self, message: &Message) {
        #[expect(clippy::disallowed_methods, reason = "the paused clock")]
        let at = self.start.elapsed();
        self.seen.lock().unwrap().push((at, number(message)));
    }

    /// Writes messages `(number, key)` in one transaction each.
    pub(super) async fn write(&self, messages: &[(u32, &str)]) {
        for (number, key) in messages {
            self.write_one(message(*number, key)).await;
        }
    }

    pub(super) async fn write_one(&self, message: NewMessage) {
        let mut tx = self.store.begin();
        let written = self.outbox.write(&mut tx, message).await.unwrap();
        tx.commit();
        written.committed();
    }

    pub(super) fn seen(&self) -> Vec<u32> {
        self.seen.lock().unwrap().iter().map(|(_, number)| *number).collect()
    }

    /// Returns the messages with their times in milliseconds.
    pub(super) fn times(&self) -> Vec<(u128, u32)> {
        self.seen.lock().unwrap().iter().map(|(at, number)| (at.as_millis(), *number)).collect()
    }
}

pub(super) fn message(number: u32, key: &str) -> NewMessage {
    NewMessage::new(MessageId::new(u128::from(number)), key, number.to_be_bytes())
}

pub(super) fn number(message: &Message) -> u32 {
    message.id.get() as u32
}

/// Waits of 100, 200, 400 ms ..., without jitter.
pub(super) fn config() -> Config {
    let backoff = Backoff::exponential(Duration::from_millis(100)).jitter(Jitter::None);
    Config::new().retry(3, backoff).lease(Duration::from_secs(10))
}

/// Advances the paused clock by `time`, to the millisecond.
pub(super) async fn pass(time: Duration) {
    Clock::default().sleep(time).await;
}
