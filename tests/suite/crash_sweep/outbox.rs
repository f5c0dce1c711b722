use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::Clock;
use buttress::retry::{Backoff, Jitter};
use buttress_durable::outbox::{
    Config, Inbox, MemoryStore, Message, MessageId, NewMessage, Outbox, Receipt, Relay, Store,
    Write,
};
use buttress_sim::crash::{CrashPoints, at_every_boundary, at_every_pair};
use tower::{BoxError, service_fn};

use super::store::{Crashing, Mortal};

const LEASE: Duration = Duration::from_secs(10);
const MESSAGES: u32 = 12;

/// The state that outlives the process: the store, and the consumer.
#[derive(Clone)]
struct World {
    store: MemoryStore,
    /// Every delivery, in order.
    delivered: Arc<Mutex<Vec<u32>>>,
    /// The effects of the consumer, in order. Its inbox allows each once.
    effects: Arc<Mutex<Vec<u32>>>,
}

impl World {
    async fn new() -> Self {
        let store = MemoryStore::new(Clock::default());
        let mut tx = store.begin();
        for number in 0..MESSAGES {
            let key = format!("key-{}", number % 3);
            let message = NewMessage::new(MessageId::new(u128::from(number)), key, "x");
            store.write(&mut tx, &message).await.unwrap();
        }
        tx.commit();
        Self { store, delivered: Arc::default(), effects: Arc::default() }
    }

    async fn consume(&self, message: &Message) -> Result<(), BoxError> {
        let number = message.id.get() as u32;
        self.delivered.lock().unwrap().push(number);
        if number == 4 && message.attempts == 0 {
            return Err("busy".into());
        }
        let mut tx = self.store.begin();
        if self.store.receive(&mut tx, "consumer", message.id).await? == Receipt::First {
            self.effects.lock().unwrap().push(number);
        }
        tx.commit();
        Ok(())
    }

    async fn is_done(&self) -> bool {
        self.store.backlog().await.unwrap().pending == 0
    }
}

async fn live(world: &World, points: &CrashPoints) {
    let consumer = world.clone();
    let publisher = service_fn(move |message: Message| {
        let consumer = consumer.clone();
        async move { consumer.consume(&message).await }
    });
    let backoff = Backoff::exponential(Duration::from_millis(100)).jitter(Jitter::None);
    let config = Config::new()
        .lease(LEASE)
        .batch(5)
        .retry(3, backoff)
        .spawner(points.spawner(buttress::Spawner::default()));
    let outbox = Outbox::new(Mortal::new(world.store.clone(), Crashing(points.clone())));
    let life = async {
        let relay = Relay::new(&outbox, publisher, config).unwrap().spawn();
        while !world.is_done().await {
            Clock::default().sleep(Duration::from_millis(50)).await;
        }
        relay.shut_down().await;
    };
    points.guard(life).await;
}

async fn check(world: &World, most_twice: usize) -> Result<(), String> {
    let delivered = world.delivered.lock().unwrap().clone();
    let effects = world.effects.lock().unwrap().clone();
    let all: BTreeSet<u32> = (0..MESSAGES).collect();
    if effects.iter().copied().collect::<BTreeSet<_>>() != all || effects.len() != all.len() {
        return Err(format!("not each once: {effects:?}"));
    }
    for key in 0..3 {
        if !effects.iter().filter(|number| *number % 3 == key).is_sorted() {
            return Err(format!("key {key} is out of order: {effects:?}"));
        }
    }
    // One delivery fails by itself.
    let twice = delivered.len() - all.len() - 1;
    if twice > most_twice {
        return Err(format!("{twice} were delivered twice: {delivered:?}"));
    }
    let backlog = world.store.backlog().await.unwrap();
    if (backlog.dead, backlog.held_keys) != (0, 0) {
        return Err(format!("{backlog:?}"));
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn every_message_arrives_in_order_wherever_its_relay_dies() {
    let report = at_every_boundary(
        World::new,
        live,
        // The messages in flight at the crash: at most one and a half batches.
        async |world| check(world, 8).await,
    )
    .await
    .unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.crashes >= 12, "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn and_when_the_next_one_dies_too() {
    let report = at_every_pair(World::new, live, async |world| check(world, 16).await).await;
    let report = report.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.crashes >= 144, "{report:?}");
}
