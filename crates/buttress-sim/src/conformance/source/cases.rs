//! The cases.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use buttress::retry::Backoff;
use buttress_durable::consume::{ConsumerHandle, Delivery, Reason, Select, Unknown};
use buttress_durable::event::{Event, UnknownEvent};
use buttress_durable::outbox::{MemoryStore, MessageId, NewMessage, Receipt};
use tower::BoxError;

use super::super::cases;
use super::Transport;
use super::group::{Group, message};

pub(super) async fn all<T: Transport>(transport: &T) {
    cases!(transport:
        case_2_1_errors_panics_and_time_limits_are_repeated,
        case_2_1_a_dropped_consumer_loses_nothing,
        case_2_2_effects_happen_once_with_the_inbox,
        case_2_3_a_key_stays_in_order_and_other_keys_do_not_wait,
        case_2_4_one_of_a_group_and_every_group,
        case_2_5_the_fifth_failure_makes_a_letter,
        case_2_6_undecodable_bytes_are_dead_at_once,
        case_2_7_unknown_events,
        case_2_8_a_failing_handler_is_called_at_its_backoff,
        case_2_10_a_pause_and_a_resume,
        case_2_11_a_shutdown_returns_the_rest,
        case_2_13_memory_is_bounded,
        case_2_14_payloads_and_headers_are_whole,
        case_2_16_letters_are_replayed,
    );
}

async fn begin<T: Transport>(transport: &T, name: &str) -> Group {
    transport.fresh().await;
    Group::new(name, transport.clock())
}

async fn publish<T: Transport>(transport: &T, message: NewMessage) {
    if let Err(error) = transport.publish(message).await {
        panic!("publishing: {error}");
    }
}

async fn publish_all<T: Transport>(transport: &T, messages: &[(&str, &str)]) {
    for (key, payload) in messages {
        publish(transport, message(key, *payload)).await;
    }
}

fn away() -> Result<(), BoxError> {
    Err("away".into())
}

fn settled(consumer: &ConsumerHandle, messages: u64) -> bool {
    let stats = consumer.stats();
    stats.handled + stats.dead >= messages && stats.held == 0
}

async fn case_2_1_errors_panics_and_time_limits_are_repeated<T: Transport>(transport: &T) {
    let group = begin(transport, "billing").await;
    let config = group.config().handler_timeout(Duration::from_millis(200));
    let script = |delivery: Delivery| async move {
        match delivery.attempt() {
            1 => away(),
            2 => panic!("a handler of a case panics"),
            3 => pending().await,
            _ => Ok(()),
        }
    };
    let consumer = group.consumer(transport, config, script).await;
    publish_all(transport, &[("a", "1"), ("b", "2")]).await;
    group.until("both are handled", || settled(&consumer, 2)).await;
    assert_eq!((consumer.stats().handled, consumer.stats().retried), (2, 6));
    consumer.shut_down().await;
}

async fn case_2_1_a_dropped_consumer_loses_nothing<T: Transport>(transport: &T) {
    let group = begin(transport, "billing").await;
    let (first, task) = group.build(transport, group.config(), async |_| pending().await).await;
    publish_all(transport, &[("a", "1"), ("a", "2"), ("b", "3")]).await;
    group.until("two handlers run", || first.stats().running == 2).await;
    task.abort();
    drop(task.await);
    let second = group.consumer(transport, group.config(), async |_| Ok(())).await;
    group.until("all are handled", || settled(&second, 3)).await;
    let handled: BTreeSet<_> = group.payloads().into_iter().collect();
    assert_eq!(handled, ["1", "2", "3"].map(String::from).into());
    second.shut_down().await;
}

async fn case_2_2_effects_happen_once_with_the_inbox<T: Transport>(transport: &T) {
    let group = begin(transport, "billing").await;
    let store = MemoryStore::new(transport.clock());
    let effects = Arc::new(AtomicUsize::new(0));
    let (inbox, done) = (store.clone(), effects.clone());
    let script = move |delivery: Delivery| {
        let (inbox, done) = (inbox.clone(), done.clone());
        async move {
            let mut tx = inbox.begin();
            let first = delivery.first(&mut tx, &inbox, "billing").await? == Receipt::First;
            done.fetch_add(usize::from(first), Ordering::Relaxed);
            tx.commit();
            // The effect is there, and the attempt fails nevertheless.
            if delivery.attempt() < 3 { away() } else { Ok(()) }
        }
    };
    let consumer = group.consumer(transport, group.config(), script).await;
    for number in 1..=20 {
        let id = MessageId::new(number);
        let event = Event::new(id, "shop", "order.paid", format!("order-{}", number % 3), vec![1]);
        match event.into_message() {
            Ok(message) => publish(transport, message).await,
            Err(error) => panic!("{error}"),
        }
    }
    group.until("all are handled", || settled(&consumer, 20)).await;
    assert_eq!((effects.load(Ordering::Relaxed), group.seen().len()), (20, 60));
    consumer.shut_down().await;
}

async fn case_2_3_a_key_stays_in_order_and_other_keys_do_not_wait<T: Transport>(transport: &T) {
    let group = begin(transport, "billing").await;
    let slow = Arc::new(AtomicBool::new(true));
    let switch = slow.clone();
    let script = move |delivery: Delivery| {
        let fails = delivery.payload().ends_with(b"0") && delivery.attempt() < 3;
        let hangs = delivery.payload() == b"slow 0" && switch.load(Ordering::Relaxed);
        async move { if fails || hangs { away() } else { Ok(()) } }
    };
    let config = || group.config().retry(1000, Backoff::fixed(Duration::from_millis(20)));
    let mut consumers = vec![group.consumer(transport, config(), script.clone()).await];
    if transport.features().keys_across_consumers {
        consumers.push(group.consumer(transport, config(), script).await);
    }
    let handled = || consumers.iter().map(|consumer| consumer.stats().handled).sum::<u64>();
    // More of the slow key than concurrency and prefetch, and then the others.
    let keys = [("slow", 150), ("a", 25), ("b", 25), ("c", 25)];
    for (key, count) in keys {
        for number in 0..count {
            publish(transport, message(key, format!("{key} {number}"))).await;
        }
    }
    group.until("the other keys are handled", || handled() == 75).await;
    slow.store(false, Ordering::Relaxed);
    group.until("all are handled", || handled() == 225).await;
    let mut first: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for seen in group.seen() {
        let order = first.entry(seen.key).or_default();
        if !order.contains(&seen.payload) {
            order.push(seen.payload);
        }
    }
    for (key, count) in keys {
        let expected: Vec<_> =
            (0..count).map(|number| format!("{key} {number}").into_bytes()).collect();
        assert_eq!(first.get(key), Some(&expected), "{key}");
    }
    for consumer in consumers {
        consumer.shut_down().await;
    }
}

async fn case_2_4_one_of_a_group_and_every_group<T: Transport>(transport: &T) {
    let billing = begin(transport, "billing").await;
    let mail = Group::new("mail", transport.clock());
    let mut consumers = Vec::new();
    for group in [&billing, &billing, &mail] {
        consumers.push(group.consumer(transport, group.config(), async |_| Ok(())).await);
    }
    for number in 0..100 {
        publish(transport, message(&format!("key-{}", number % 10), number.to_string())).await;
    }
    let done = || billing.seen().len() >= 100 && mail.seen().len() >= 100;
    billing.until("every group has handled all", done).await;
    for group in [&billing, &mail] {
        let seen: BTreeSet<_> = group.payloads().into_iter().collect();
        assert_eq!((seen.len(), group.seen().len()), (100, 100));
    }
    for consumer in consumers {
        consumer.shut_down().await;
    }
}

async fn case_2_5_the_fifth_failure_makes_a_letter<T: Transport>(transport: &T) {
    let group = begin(transport, "billing").await;
    let script = |delivery: Delivery| async move {
        if delivery.payload() == b"bad" { away() } else { Ok(()) }
    };
    let consumer = group.consumer(transport, group.config(), script).await;
    publish(transport, message("a", "bad").header("x-tenant", "7")).await;
    publish_all(transport, &[("a", "good")]).await;
    group.until("both are settled", || settled(&consumer, 2)).await;
    let attempts: Vec<_> = group.seen().iter().map(|seen| seen.attempt).collect();
    assert_eq!(attempts, [1, 2, 3, 4, 5, 1], "the key continues after the letter");
    let dead = group.dead().await;
    let letter = match &dead[..] {
        [letter] => letter,
        other => panic!("one letter, got {other:?}"),
    };
    assert_eq!((letter.reason, letter.attempts, &*letter.error), (Reason::Exhausted, 5, "away"));
    assert_eq!((&*letter.payload, &*letter.key, &*letter.group), (&b"bad"[..], "a", "billing"));
    assert!(letter.headers.contains(&("x-tenant".to_owned(), "7".to_owned())), "{letter:?}");
    assert!(!letter.source.is_empty());
    consumer.shut_down().await;
    let next = group.consumer(transport, group.config(), async |_| Ok(())).await;
    publish_all(transport, &[("a", "later")]).await;
    group.until("the next message is handled", || settled(&next, 1)).await;
    assert_eq!(group.seen().len(), 7, "acknowledged: not delivered again");
    next.shut_down().await;
}

async fn case_2_6_undecodable_bytes_are_dead_at_once<T: Transport>(transport: &T) {
    let group = begin(transport, "billing").await;
    let script = |delivery: Delivery| async move { Ok(delivery.envelope().map(drop)?) };
    let consumer = group.consumer(transport, group.config(), script).await;
    publish_all(transport, &[("a", "no event")]).await;
    group.until("it is settled", || settled(&consumer, 1)).await;
    let dead = group.dead().await;
    assert_eq!((group.seen().len(), dead.len(), dead[0].reason), (1, 1, Reason::Undecodable));
    consumer.shut_down().await;
}

async fn case_2_7_unknown_events<T: Transport>(transport: &T) {
    for (unknown, calls, dead) in
        [(Unknown::Ack, 1, 0), (Unknown::Dead, 1, 1), (Unknown::Again, 5, 1)]
    {
        let group = begin(transport, "billing").await;
        let script = async |_: Delivery| {
            let newer = Event::new("1", "shop", "order.lost", "order-7", Vec::new());
            let unknown: Result<(), UnknownEvent> =
                buttress_durable::event::Decoded::<()>::Unknown(newer).known().map(drop);
            Ok(unknown?)
        };
        let consumer = group.consumer(transport, group.config().unknown(unknown), script).await;
        publish_all(transport, &[("a", "1")]).await;
        group.until("it is settled", || settled(&consumer, 1)).await;
        assert_eq!((group.seen().len(), group.dead().await.len()), (calls, dead), "{unknown:?}");
        consumer.shut_down().await;
    }
}

async fn case_2_8_a_failing_handler_is_called_at_its_backoff<T: Transport>(transport: &T) {
    let group = begin(transport, "billing").await;
    let wait = Duration::from_millis(200);
    let config = group.config().retry(5, Backoff::fixed(wait));
    let consumer = group.consumer(transport, config, async |_| away()).await;
    publish_all(transport, &[("a", "1")]).await;
    group.until("it is dead", || settled(&consumer, 1)).await;
    let times: Vec<_> = group.seen().iter().map(|seen| seen.at).collect();
    assert_eq!(times.len(), 5);
    let too_early = times.windows(2).any(|pair| pair[1] - pair[0] < wait);
    assert!(!too_early, "{times:?}");
    consumer.shut_down().await;
}

async fn case_2_10_a_pause_and_a_resume<T: Transport>(transport: &T) {
    let group = begin(transport, "billing").await;
    let consumer = group.consumer(transport, group.config(), async |_| Ok(())).await;
    publish_all(transport, &[("a", "1")]).await;
    group.until("the first is handled", || settled(&consumer, 1)).await;
    consumer.pause();
    publish_all(transport, &[("a", "2"), ("b", "3")]).await;
    transport.clock().sleep(Duration::from_millis(500)).await;
    assert_eq!(group.payloads(), ["1"], "paused");
    consumer.resume();
    group.until("the rest is handled", || settled(&consumer, 3)).await;
    consumer.shut_down().await;
}

async fn case_2_11_a_shutdown_returns_the_rest<T: Transport>(transport: &T) {
    let group = begin(transport, "billing").await;
    let config = group.config().drain(Duration::from_millis(300));
    let script = |delivery: Delivery| async move {
        if delivery.payload() == b"hangs" { pending().await } else { Ok(()) }
    };
    let first = group.consumer(transport, config, script).await;
    publish_all(transport, &[("a", "1"), ("b", "hangs"), ("b", "3")]).await;
    group
        .until("one is handled, one hangs", || {
            (first.stats().handled, first.stats().running) == (1, 1)
        })
        .await;
    first.shut_down().await;
    let second = group.consumer(transport, group.config(), async |_| Ok(())).await;
    group.until("the rest is handled", || settled(&second, 2)).await;
    // A transport keeps no order between keys.
    let of_key = |key: &str| {
        let seen = group.seen().into_iter().filter(|seen| seen.key == key);
        seen.map(|seen| String::from_utf8_lossy(&seen.payload).into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        (of_key("a"), of_key("b")),
        (vec!["1".into()], ["hangs", "hangs", "3"].map(Into::into).into())
    );
    second.shut_down().await;
}

async fn case_2_13_memory_is_bounded<T: Transport>(transport: &T) {
    let group = begin(transport, "billing").await;
    let stop = Arc::new(AtomicBool::new(true));
    let switch = stop.clone();
    let clock = transport.clock();
    let script = move |_| {
        let (switch, clock) = (switch.clone(), clock.clone());
        async move {
            while switch.load(Ordering::Relaxed) {
                clock.sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        }
    };
    let config = group.config().concurrency(8).prefetch(8);
    let consumer = group.consumer(transport, config, script).await;
    let many = transport.features().backlog;
    for number in 0..many {
        publish(transport, message(&format!("key-{number}"), number.to_string())).await;
        assert!(consumer.stats().held <= 16);
    }
    let is_full = || (consumer.stats().held, consumer.stats().running) == (16, 8);
    group.until("it is full", is_full).await;
    stop.store(false, Ordering::Relaxed);
    group.until("all are handled", || settled(&consumer, many as u64)).await;
    consumer.shut_down().await;
}

async fn case_2_14_payloads_and_headers_are_whole<T: Transport>(transport: &T) {
    let group = begin(transport, "billing").await;
    let consumer = group.consumer(transport, group.config(), async |_| Ok(())).await;
    let largest = vec![0xa5; transport.features().largest_payload];
    let mut many = message("a", "many");
    many.headers.extend((0..1000).map(|number| (format!("x-{number}"), number.to_string())));
    let odd = message("a", "odd").header("x-odd", "\u{20ac} \0 \u{1f680}");
    let mut taken = Vec::new();
    for message in [message("a", largest), message("a", Vec::new()), many, odd] {
        // A publisher may refuse a message. It never cuts one.
        if transport.publish(message.clone()).await.is_ok() {
            taken.push(message);
        }
    }
    assert!(taken.len() >= 2, "the largest payload and the empty one are taken");
    group.until("all are handled", || settled(&consumer, taken.len() as u64)).await;
    for (seen, message) in group.seen().iter().zip(&taken) {
        assert!(seen.payload == message.payload, "{} bytes", message.payload.len());
        assert_eq!((&seen.key, &seen.topic), (&message.key, &message.topic));
        for header in &message.headers {
            assert!(seen.headers.contains(header), "{header:?}");
        }
    }
    consumer.shut_down().await;
}

async fn case_2_16_letters_are_replayed<T: Transport>(transport: &T) {
    let group = begin(transport, "billing").await;
    let config = group.config().retry(1, Backoff::none());
    let script =
        |delivery: Delivery| async move { if delivery.replays() < 2 { away() } else { Ok(()) } };
    let consumer = group.consumer(transport, config, script).await;
    publish_all(transport, &[("a", "1"), ("a", "2"), ("b", "3")]).await;
    group.until("all are dead", || settled(&consumer, 3)).await;
    let dead = group.dead().await;
    let replay = async |select, expected| match consumer.replay(select).await {
        Ok(found) => assert_eq!(found, expected),
        Err(error) => panic!("replaying: {error}"),
    };
    replay(Select::Ids(vec![dead[0].id]), 1).await;
    group.until("one is replayed", || group.seen().len() == 4 && consumer.stats().held == 0).await;
    let replays: Vec<_> = group.dead().await.iter().map(|letter| letter.replays).collect();
    assert_eq!(replays.iter().sum::<u32>(), 1, "the letter says how often");
    replay(Select::Reason(Reason::Exhausted), 3).await;
    group.until("all are replayed", || group.seen().len() == 7 && consumer.stats().held == 0).await;
    replay(Select::All, group.dead().await.len()).await;
    let is_done = || consumer.stats().handled == 3 && consumer.stats().held == 0;
    group.until("the rest is replayed", is_done).await;
    assert_eq!(group.dead().await.len(), 0);
    consumer.shut_down().await;
}
