//! From an outbox over a relay and the bus to a handler, while parts of it are killed and cut at random.

use std::collections::{BTreeMap, BTreeSet};

use buttress::Rng;
use tokio::task::JoinHandle;

use super::*;
use crate::outbox::{MemoryStore, Outbox, Receipt, Relay, Store as _, Write as _};

const KEYS: u64 = 50;
const PER_SECOND: u64 = 500;

/// How long messages are written. `.ci/long` sets a minute.
fn seconds() -> u64 {
    let asked = std::env::var("BUTTRESS_TORTURE_SECONDS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(15)
}

#[derive(Clone)]
struct Torture {
    bus: Bus,
    outbox: Outbox<MemoryStore>,
    inbox: MemoryStore,
    letters: MemoryDeadLetters,
    rng: Rng,
    /// The effects, in the order in which they were committed.
    effects: Arc<Mutex<Vec<(String, u64)>>>,
    handled: Arc<Mutex<u64>>,
    cuts: Arc<Mutex<u64>>,
}

impl Torture {
    fn new(seed: u64) -> Self {
        let clock = Clock::default();
        let store = MemoryStore::new(clock.clone());
        let rng = Rng::seeded(seed);
        Self {
            bus: Bus::new(),
            outbox: Outbox::new(store).rng(rng.clone()),
            inbox: MemoryStore::new(clock.clone()),
            letters: MemoryDeadLetters::new(clock),
            rng,
            effects: Arc::default(),
            handled: Arc::default(),
            cuts: Arc::default(),
        }
    }

    fn chance(&self, of: u64) -> bool {
        self.rng.next_u64() % of == 0
    }

    /// A relay whose connection to the bus is cut at random: before the message is there, or after it.
    fn relay(&self) -> JoinHandle<()> {
        let torture = self.clone();
        let publisher = service_fn(move |message: Message| {
            let torture = torture.clone();
            async move {
                let is_cut = torture.chance(200);
                if is_cut {
                    *torture.cuts.lock().unwrap() += 1;
                    if torture.chance(3) {
                        return Err("cut before the message".into());
                    }
                }
                torture.bus.publish(message).await?;
                if is_cut {
                    if torture.chance(2) {
                        pending::<()>().await;
                    }
                    return Err("cut before the confirmation".into());
                }
                Ok::<(), BoxError>(())
            }
        });
        let config = outbox::Config::new().lease(1000 * MS).publish_timeout(300 * MS);
        let config = config
            .poll(10 * MS)
            .retry(1000, Backoff::fixed(20 * MS))
            .max_hint(1000 * MS)
            .rng(self.rng.clone());
        spawn(Relay::new(&self.outbox, publisher, config).unwrap().run())
    }

    fn consumer(&self) -> JoinHandle<()> {
        let torture = self.clone();
        let handler = service_fn(move |delivery: Delivery| {
            let torture = torture.clone();
            async move {
                *torture.handled.lock().unwrap() += 1;
                pass(MS).await;
                let mut tx = torture.inbox.begin();
                if delivery.first(&mut tx, &torture.inbox, "billing").await? == Receipt::First {
                    let number = std::str::from_utf8(delivery.payload())?.parse()?;
                    let effect = (delivery.key().to_owned(), number);
                    torture.effects.lock().unwrap().push(effect);
                }
                tx.commit();
                if torture.chance(100) {
                    return Err("the handler fails after its commit".into());
                }
                Ok::<(), BoxError>(())
            }
        });
        let settings = Subscribe::new(Pattern::all()).capacity(10_000);
        let source = self.bus.subscribe("billing", settings).unwrap();
        let config = Config::new().retry(20, Backoff::fixed(20 * MS)).rng(self.rng.clone());
        let consumer = Consumer::new(source, handler, config).unwrap();
        spawn(consumer.dead_letters(self.letters.clone()).run())
    }

    /// Writes the messages, ten transactions every 20 ms.
    async fn write(self) {
        for number in 0..PER_SECOND * seconds() {
            let store = self.outbox.store().clone();
            let mut tx = store.begin();
            let event = Event::new(
                MessageId::random(&self.rng),
                "shop",
                "order.paid",
                format!("order-{}", self.rng.next_u64() % KEYS),
                number.to_string().into_bytes(),
            );
            store.write(&mut tx, &event.into_message().unwrap()).await.unwrap();
            tx.commit();
            if number % 10 == 9 {
                pass(20 * MS).await;
            }
        }
    }

    /// Kills what `start` starts, at random, and starts it again. Returns how often it was killed.
    async fn kill(self, start: impl Fn(&Self) -> JoinHandle<()>, writing: Arc<Notify>) -> u64 {
        let mut kills = 0;
        let mut task = start(&self);
        let mut over = std::pin::pin!(writing.notified());
        loop {
            let wait = Duration::from_millis(200 + self.rng.next_u64() % 1800);
            let mut sleep = std::pin::pin!(Clock::default().sleep(wait));
            let is_over = std::future::poll_fn(|cx| {
                if over.as_mut().poll(cx).is_ready() {
                    return std::task::Poll::Ready(true);
                }
                sleep.as_mut().poll(cx).map(|()| false)
            })
            .await;
            if is_over {
                return kills;
            }
            task.abort();
            drop(task.await);
            task = start(&self);
            kills += 1;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn events_7_2_relay_and_consumers_that_are_killed_at_random_lose_and_double_nothing() {
    let torture = Torture::new(7);
    let over = Arc::new(Notify::new());
    let starts: [fn(&Torture) -> JoinHandle<()>; 3] =
        [Torture::relay, Torture::consumer, Torture::consumer];
    let kills = starts.map(|start| spawn(torture.clone().kill(start, over.clone())));
    torture.clone().write().await;
    over.notify_waiters();
    let mut killed = 0;
    for kill in kills {
        killed += kill.await.unwrap();
    }
    // The last relay and the last consumers run on, without kills.
    let store = torture.outbox.store().clone();
    let begun = Clock::default().now();
    while store.backlog().await.unwrap().pending > 0 {
        assert!(Clock::default().now() - begun < Duration::from_secs(60), "it does not end");
        pass(100 * MS).await;
    }
    assert_eq!(torture.bus.shut_down().await, 0);

    let effects = torture.effects.lock().unwrap().clone();
    let distinct: BTreeSet<u64> = effects.iter().map(|(_, number)| *number).collect();
    let written = PER_SECOND * seconds();
    assert_eq!(distinct.len() as u64, written, "lost: none");
    assert_eq!(effects.len(), distinct.len(), "doubled: none");
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for (key, number) in &effects {
        let before = last.insert(key, *number);
        assert!(before.is_none_or(|before| before < *number), "{key}: {before:?} then {number}");
    }
    let (handled, cuts) = (*torture.handled.lock().unwrap(), *torture.cuts.lock().unwrap());
    assert!(killed >= seconds() && cuts >= seconds(), "{killed} kills, {cuts} cuts");
    let repeated = handled - written;
    assert!(repeated > 0, "nothing was repeated, so nothing was tried");
    // Each kill repeats what was in flight. Each cut, and each failure, repeats one message.
    assert!(repeated < killed * 192 + 2 * cuts + written / 50, "{repeated} repetitions");
    let select = Select::All;
    let dead = torture.letters.list_letters(LetterPage::first("billing", &select, 9)).await;
    assert_eq!(dead.unwrap(), []);
}
