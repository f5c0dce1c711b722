use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use buttress::Clock;
use tower::{BoxError, Service, service_fn};

use super::*;
use crate::consume::{
    Answer, Config, Consumer, ConsumerHandle, DeadLetters, Delivery, LetterPage, MemoryDeadLetters,
    Select, Settle, Source,
};
use crate::outbox::{MemoryStore, Message, MessageId, NewMessage, Outbox, Relay};

fn message(number: u128, topic: &str, key: &str) -> Message {
    let new = NewMessage::new(MessageId::new(number), key, number.to_string()).topic(topic);
    Message::new(new, 0, 0, Duration::ZERO)
}

fn all() -> Subscribe {
    Subscribe::new(Pattern::all())
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Receives up to `room` messages that are there: their numbers and their payloads.
fn receive(member: &Subscription, room: usize) -> Vec<(u64, String)> {
    member.want(room);
    let received = pin!(member.receive());
    match poll(received) {
        Poll::Pending => Vec::new(),
        Poll::Ready(batch) => {
            let messages = batch.unwrap().messages.into_iter();
            messages.map(|it| (it.token, String::from_utf8(it.payload.clone()).unwrap())).collect()
        }
    }
}

fn payloads(member: &Subscription, room: usize) -> Vec<String> {
    receive(member, room).into_iter().map(|(_, payload)| payload).collect()
}

fn settle(member: &Subscription, done: &[(u64, Settle)]) -> Vec<Answer> {
    match poll(pin!(member.settle(done))) {
        Poll::Ready(answers) => answers.unwrap(),
        Poll::Pending => panic!("the bus settles immediately"),
    }
}

fn publish(bus: &Bus, message: Message) -> Poll<Result<(), BusError>> {
    poll(pin!(bus.publish(message)))
}

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn consumer(&self, bus: &Bus, group: &str, fails: bool) -> (ConsumerHandle, MemoryDeadLetters) {
        let letters = MemoryDeadLetters::new(Clock::default());
        let seen = self.clone();
        let handler = service_fn(move |delivery: Delivery| {
            let payload = String::from_utf8(delivery.payload().to_vec()).unwrap();
            seen.0.lock().unwrap().push(payload);
            async move {
                assert!(!fails, "a subscriber panics");
                Ok::<(), BoxError>(())
            }
        });
        let source = bus.subscribe(group, all()).unwrap();
        let consumer = Consumer::new(source, handler, Config::new()).unwrap();
        (consumer.dead_letters(letters.clone()).spawn(), letters)
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn events_4_1_a_subscriber_that_panics_stops_no_other_and_is_reported() {
    let bus = Bus::new();
    let (well, ill) = (Seen::default(), Seen::default());
    let (billing, _) = well.consumer(&bus, "billing", false);
    let (mail, letters) = ill.consumer(&bus, "mail", true);
    for number in 0..10 {
        bus.publish(message(number, "order.paid", "")).await.unwrap();
    }
    assert_eq!(bus.shut_down().await, 0);
    assert_eq!(well.take().len(), 10);
    assert_eq!((billing.stats().handled, billing.stats().dead), (10, 0));
    assert_eq!((mail.stats().dead, mail.stats().retried), (10, 40));
    let page = LetterPage::first("mail", &Select::All, 1);
    let letter = letters.list_letters(page).await.unwrap();
    assert!(letter[0].error.contains("a subscriber panics"), "{}", letter[0].error);
    assert!(!mail.has_ended());
}

#[tokio::test(start_paused = true)]
async fn events_4_2_publish_ends_when_the_message_is_queued_and_a_test_waits_until_it_is_handled() {
    let bus = Bus::new();
    let member = bus.subscribe("billing", all()).unwrap();
    assert_eq!(publish(&bus, message(1, "t", "a")), Poll::Ready(Ok(())));
    let mut handled = pin!(bus.publish_all_handled(message(2, "t", "a")));
    assert!(poll(handled.as_mut()).is_pending());
    let taken = receive(&member, 9);
    let done: Vec<_> = taken.iter().map(|(number, _)| (*number, Settle::Done)).collect();
    settle(&member, &done[..1]);
    assert!(poll(handled.as_mut()).is_pending(), "received, not handled");
    settle(&member, &[(done[1].0, Settle::Back)]);
    assert!(poll(handled.as_mut()).is_pending(), "returned");
    let again = receive(&member, 9);
    settle(&member, &[(again[0].0, Settle::Done)]);
    assert_eq!(poll(handled.as_mut()), Poll::Ready(Ok(())));
}

#[test]
fn events_4_3_wildcards_go_by_segment_and_no_subscriber_is_no_error() {
    let bus = Bus::new();
    assert_eq!(publish(&bus, message(1, "user.created", "")), Poll::Ready(Ok(())));
    let of =
        |pattern: &str| bus.subscribe(pattern, Subscribe::new(pattern.parse().unwrap())).unwrap();
    let members = ["user.*", "user.**", "*.created", "user.created", "**", "*"]
        .map(|pattern| (pattern, of(pattern)));
    let topics = ["user.created", "user.address.changed", "user", "order.created", "userx.created"];
    for (number, topic) in topics.into_iter().enumerate() {
        assert_eq!(publish(&bus, message(number as u128, topic, "")), Poll::Ready(Ok(())));
    }
    let taken = members.map(|(pattern, member)| (pattern, payloads(&member, 9).join(" ")));
    assert_eq!(
        taken,
        [
            ("user.*", "0".to_owned()),
            ("user.**", "0 1".to_owned()),
            ("*.created", "0 3 4".to_owned()),
            ("user.created", "0".to_owned()),
            ("**", "0 1 2 3 4".to_owned()),
            ("*", "2".to_owned()),
        ]
    );
}

#[test]
fn events_4_3_what_is_no_pattern_is_refused() {
    for wrong in ["", ".", "a.", ".a", "a..b", "**.a", "a.**.b", "a*", "*a", "***"] {
        let error = wrong.parse::<Pattern>().unwrap_err();
        assert_eq!(error.text, wrong);
    }
}

#[test]
fn events_4_4_a_full_queue_does_what_its_subscription_says() {
    let two = |overflow| all().capacity(2).overflow(overflow);
    let filled = |overflow| {
        let bus = Bus::new();
        let member = bus.subscribe("g", two(overflow)).unwrap();
        for number in 1..=2 {
            assert_eq!(publish(&bus, message(number, "t", "")), Poll::Ready(Ok(())));
        }
        (bus, member)
    };
    let (bus, member) = filled(Overflow::DropOldest);
    assert_eq!(publish(&bus, message(3, "t", "")), Poll::Ready(Ok(())));
    assert_eq!((bus.dropped("g"), payloads(&member, 9)), (1, vec!["2".to_owned(), "3".to_owned()]));

    let (bus, member) = filled(Overflow::Refuse);
    let other = bus.subscribe("other", all()).unwrap();
    let full = BusError::Full { group: "g".to_owned(), capacity: 2 };
    assert_eq!(publish(&bus, message(3, "t", "")), Poll::Ready(Err(full)));
    assert_eq!(payloads(&other, 9), [""; 0], "refused for all groups");
    assert_eq!(payloads(&member, 9), ["1", "2"]);

    let (bus, member) = filled(Overflow::Block);
    let mut waits = pin!(bus.publish(message(3, "t", "")));
    assert!(poll(waits.as_mut()).is_pending());
    assert_eq!(payloads(&member, 1), ["1"]);
    assert_eq!(poll(waits.as_mut()), Poll::Ready(Ok(())));
    assert_eq!(payloads(&member, 9), ["2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn events_4_4_a_publisher_that_waits_is_woken_by_the_room() {
    let bus = Bus::new();
    let member = bus.subscribe("g", all().capacity(1)).unwrap();
    bus.publish(message(1, "t", "")).await.unwrap();
    let waits = tokio::spawn(bus.publish(message(2, "t", "")));
    tokio::task::yield_now().await;
    assert!(!waits.is_finished());
    assert_eq!(payloads(&member, 1), ["1"]);
    assert_eq!(waits.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn events_4_5_a_dropped_subscriber_loses_no_message_and_a_shutdown_drains() {
    let bus = Bus::new();
    let seen = Seen::default();
    let (other, _) = seen.consumer(&bus, "other", false);
    let member = bus.subscribe("g", all()).unwrap();
    for number in 1..=3 {
        bus.publish(message(number, "t", "k")).await.unwrap();
    }
    let held = receive(&member, 2);
    settle(&member, &[(held[0].0, Settle::Done)]);
    drop(member);
    let heir = bus.subscribe("g", all()).unwrap();
    assert_eq!(payloads(&heir, 9), ["2", "3"], "in their order");
    drop(heir);
    bus.publish(message(4, "t", "k")).await.unwrap();
    assert_eq!(bus.shut_down().await, 3, "left in a group without a member");
    assert_eq!(seen.take(), ["1", "2", "3", "4"]);
    assert_eq!(bus.publish(message(5, "t", "k")).await, Err(BusError::Closed));
    other.shut_down().await;
    assert_eq!(bus.remove("g"), 3);
}

#[test]
fn events_2_4_one_member_of_a_group_receives_a_message_and_every_group_does() {
    let bus = Bus::new();
    let [one, two] = [(); 2].map(|()| bus.subscribe("billing", all()).unwrap());
    let mail = bus.subscribe("mail", all()).unwrap();
    for number in 1..=4 {
        assert_eq!(publish(&bus, message(number, "t", "")), Poll::Ready(Ok(())));
    }
    assert_eq!(
        (payloads(&one, 2), payloads(&two, 9)),
        (vec!["1".into(), "2".into()], vec!["3".into(), "4".into()])
    );
    assert_eq!(payloads(&mail, 9), ["1", "2", "3", "4"]);
}

#[test]
fn events_2_3_a_key_stays_with_the_member_that_holds_one_of_its_messages() {
    let bus = Bus::new();
    let [one, two] = [(); 2].map(|()| bus.subscribe("billing", all()).unwrap());
    for (number, key) in [(1, "a"), (2, "a"), (3, "b"), (4, "a")] {
        assert_eq!(publish(&bus, message(number, "t", key)), Poll::Ready(Ok(())));
    }
    let first = receive(&one, 1);
    assert_eq!(first[0].1, "1");
    assert_eq!(payloads(&two, 9), ["3"], "2 and 4 wait for the member that holds 1");
    assert_eq!(settle(&two, &[(first[0].0, Settle::Done)]), [Answer::Late], "not its own");
    assert_eq!(settle(&one, &[(first[0].0, Settle::Done)]), [Answer::Taken]);
    assert_eq!(settle(&one, &[(first[0].0, Settle::Done)]), [Answer::Late], "settled before");
    assert_eq!(payloads(&two, 9), ["2", "4"]);
}

#[test]
fn events_2_12_a_group_with_other_settings_is_refused_with_the_name_of_the_setting() {
    let bus = Bus::new();
    let _member = bus.subscribe("g", all()).unwrap();
    let _again = bus.subscribe("g", all()).unwrap();
    for (field, other, chosen) in [
        ("capacity", all().capacity(7), "1024"),
        ("overflow", all().overflow(Overflow::Refuse), "Block"),
        ("pattern", Subscribe::new("a".parse().unwrap()), "**"),
    ] {
        let error = bus.subscribe("g", other).unwrap_err();
        assert_eq!(error.field(), field);
        assert!(error.to_string().contains(chosen), "{error}");
    }
    assert!(bus.subscribe("h", all().capacity(0)).unwrap_err().to_string().contains("capacity"));
}

#[test]
fn the_numbers_of_each_group_are_read() {
    use buttress::telemetry::Sampler;
    let bus = Bus::new();
    let billing = bus.subscribe("billing", all()).unwrap();
    let drops = all().capacity(1).overflow(Overflow::DropOldest);
    drop(bus.subscribe("mail", drops).unwrap());
    for number in 0..3 {
        assert_eq!(publish(&bus, message(number, "t", "")), Poll::Ready(Ok(())));
    }
    receive(&billing, 2);
    let sampler = Sampler::new();
    sampler.watch(bus.clone());
    let read = sampler.read();
    for (group, waiting, held, members, dropped) in
        [("billing", 1.0, 2.0, 1.0, 0.0), ("mail", 1.0, 0.0, 0.0, 2.0)]
    {
        let value = |name| read.value(name, &[("group", group)]).unwrap();
        let [waits, holds] = ["buttress.bus.waiting", "buttress.bus.held"].map(value);
        assert_eq!((waits, holds), (waiting, held), "{group}");
        let [counted, lost] = ["buttress.bus.members", "buttress.bus.dropped"].map(value);
        assert_eq!((counted, lost), (members, dropped), "{group}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_relay_publishes_to_the_bus() {
    let (bus, seen) = (Bus::new(), Seen::default());
    let (consumer, _) = seen.consumer(&bus, "billing", false);
    let store = MemoryStore::new(Clock::default());
    let outbox = Outbox::new(store.clone());
    let relay = Relay::new(&outbox, bus.clone(), crate::outbox::Config::new()).unwrap().spawn();
    let mut tx = store.begin();
    for payload in ["1", "2", "3"] {
        let message = outbox.message("order-7", payload).topic("order.paid");
        let _written = outbox.write(&mut tx, message).await.unwrap();
    }
    tx.commit();
    Clock::default().sleep(Duration::from_secs(2)).await;
    assert_eq!(consumer.stats().handled, 3);
    assert_eq!(seen.take(), ["1", "2", "3"]);
    relay.shut_down().await;
}

#[tokio::test]
async fn a_publication_that_is_polled_again_panics_with_its_name() {
    let bus = Bus::new();
    let mut published = pin!(Service::call(&mut bus.clone(), message(1, "t", "")));
    assert_eq!(poll(published.as_mut()), Poll::Ready(Ok(())));
    let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| poll(published.as_mut())));
    assert!(again.is_err());
}

/// Counts its clones.
struct Task;

impl std::task::Wake for Task {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn a_dropped_publisher_leaves_no_waker() {
    let bus = Bus::new();
    let _member = bus.subscribe("g", all().capacity(1)).unwrap();
    assert_eq!(publish(&bus, message(1, "t", "")), Poll::Ready(Ok(())));
    let task = Arc::new(Task);
    let waker = Waker::from(task.clone());
    let mut cx = Context::from_waker(&waker);
    for number in 2..10 {
        let mut waiting = Box::pin(bus.publish(message(number, "t", "")));
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        assert_eq!(Arc::strong_count(&task), 3, "the task, `waker` and the place of the publisher");
    }
    let mut end = Box::pin(bus.shut_down());
    assert!(end.as_mut().poll(&mut cx).is_pending());
    drop(end);
    assert_eq!(Arc::strong_count(&task), 2);
}

#[tokio::test(start_paused = true)]
async fn a_member_of_a_removed_group_gets_an_error_also_when_the_group_comes_back() {
    let bus = Bus::new();
    let member = bus.subscribe("g", all()).unwrap();
    member.want(1);
    let mut waits = Box::pin(member.receive());
    assert!(poll(waits.as_mut()).is_pending());
    bus.remove("g");
    let heir = bus.subscribe("g", all()).unwrap();
    bus.publish(message(1, "t", "")).await.unwrap();
    let error = waits.await.unwrap_err();
    assert!(error.to_string().ends_with("group `g` of the bus was removed: subscribe again"));
    assert!(member.receive().await.is_err());
    assert_eq!(payloads(&heir, 1), ["1"]);
}
