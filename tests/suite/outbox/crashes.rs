//! Relays that crash, and messages that crash them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::retry::Backoff;
use buttress::{Spawner, Task};
use buttress_durable::outbox::{Config, Message, Outbox, Relay, Store};
use tower::{BoxError, service_fn};

use super::faulty::Faults;
use super::world::*;
use crate::support::ms;

/// A process with a relay, which a message can crash.
#[derive(Clone, Default)]
struct Process(Arc<Mutex<Option<tokio::task::AbortHandle>>>);

impl Process {
    fn start(&self, world: &World, config: Config) {
        let process = self.clone();
        let spawner = Spawner::new(move |task: Task| {
            *process.0.lock().unwrap() = Some(tokio::spawn(task).abort_handle());
        });
        world.relay(config.spawner(spawner));
    }

    fn kill(&self) {
        if let Some(task) = self.0.lock().unwrap().take() {
            task.abort();
        }
    }

    fn is_dead(&self) -> bool {
        self.0.lock().unwrap().is_none()
    }
}

#[tokio::test(start_paused = true)]
async fn a_poison_message_is_isolated_among_99_innocents() {
    let world = World::new();
    let process = Process::default();
    let killed = process.clone();
    world.publish(move |message| {
        let (killed, number) = (killed.clone(), number(message));
        async move {
            // The whole batch is in flight when the poison crashes the process.
            pass(ms(10)).await;
            if number == 50 {
                killed.kill();
                std::future::pending::<()>().await;
            }
            Ok(())
        }
    });
    for number in 0..100 {
        world.write(&[(number, &format!("key-{number}"))]).await;
    }
    let config = config().concurrency(200).batch(200);
    let mut deaths = 0;
    for _ in 0..20 {
        process.start(&world, config.clone());
        pass(Duration::from_secs(30)).await;
        if !process.is_dead() {
            break;
        }
        deaths += 1;
    }
    assert_eq!(deaths, 4, "once in company, then three times alone");
    let letters = world.store.dead_letters(0, 9).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].error, "the message crashed the relay 3 times");
    let backlog = world.store.backlog().await.unwrap();
    assert_eq!((backlog.pending, backlog.dead), (0, 1));
    let seen = world.seen();
    assert!((0..100).all(|number| seen.contains(&number)));
    let most = (0..100).map(|number| seen.iter().filter(|seen| **seen == number).count()).max();
    assert_eq!(most, Some(4), "no message is published more often than the poison");
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_each_key_goes_on_where_it_was_in_order() {
    let world = World::new();
    let process = Process::default();
    world.publishing_takes(ms(10));
    for number in 0..200 {
        world.write(&[(number, &format!("key-{}", number % 10))]).await;
    }
    for life in 1..=4 {
        process.start(&world, config());
        pass(ms(20 * life + 5)).await;
        process.kill();
        pass(Duration::from_secs(10)).await;
    }
    process.start(&world, config());
    pass(Duration::from_secs(60)).await;
    assert_eq!(world.store.backlog().await.unwrap().pending, 0);
    // The first deliveries of each key are in order; only messages in flight are delivered twice.
    let seen = world.seen();
    let mut first = Vec::new();
    for number in &seen {
        if !first.contains(number) {
            first.push(*number);
        }
    }
    assert_eq!(first.len(), 200);
    for key in 0..10 {
        assert!(first.iter().filter(|number| *number % 10 == key).is_sorted(), "key {key}");
    }
    assert!(seen.len() - 200 <= 40, "{} came twice", seen.len() - 200);
}

#[tokio::test(start_paused = true)]
async fn a_suspect_that_only_fails_is_no_poison() {
    let world = World::new();
    let process = Process::default();
    let dead = Arc::new(Mutex::new(false));
    let died = dead.clone();
    world.publish(move |message| {
        let first = !std::mem::replace(&mut *died.lock().unwrap(), true);
        let attempts = message.attempts;
        async move {
            match (first, attempts) {
                (true, _) => std::future::pending().await,
                (false, 0 | 1) => Err(BoxError::from("away")),
                _ => Ok(()),
            }
        }
    });
    world.write(&[(1, "a")]).await;
    process.start(&world, config().max_starts(1));
    pass(ms(1)).await;
    process.kill();
    pass(Duration::from_secs(10)).await;
    process.start(&world, config().max_starts(1));
    pass(Duration::from_secs(10)).await;
    let backlog = world.store.backlog().await.unwrap();
    assert_eq!((backlog.pending, backlog.dead), (0, 0));
    assert_eq!(world.seen(), [1; 4]);
    assert!(*dead.lock().unwrap());
}

/// Regression: the message behind one without further attempts was published before the dead letter
/// was persisted. The relay crashed, and the next published them in the wrong order.
#[tokio::test(start_paused = true)]
async fn nothing_overtakes_a_dead_letter_that_is_not_written_down() {
    let world = World::new();
    let store = Faults::over(&world.store);
    store.hook().hang("settle", true);
    world.write(&[(1, "a"), (2, "a")]).await;
    let taken = Arc::new(Mutex::new(Vec::new()));
    let relay = |fails: bool| {
        let taken = taken.clone();
        let publisher = service_fn(move |message: Message| {
            let away = fails && number(&message) == 1;
            if !away {
                taken.lock().unwrap().push(number(&message));
            }
            async move { if away { Err(BoxError::from("away")) } else { Ok(()) } }
        });
        Relay::new(&Outbox::new(store.clone()), publisher, config().retry(1, Backoff::none()))
    };
    let dies = tokio::spawn(relay(true).unwrap().run());
    pass(ms(1000)).await;
    dies.abort();
    store.hook().hang("settle", false);
    let _next = relay(false).unwrap().spawn();
    pass(Duration::from_secs(60)).await;
    assert_eq!(*taken.lock().unwrap(), [1, 2]);
}
