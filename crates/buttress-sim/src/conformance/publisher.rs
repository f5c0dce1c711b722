//! Cases for publishers: services of [`Message`] that a relay or an application calls.
//!
//! The numbers are from the project's list of behaviours. A publisher answers `Ok` only after the transport has
//! confirmed the message. An error means that the message may be there or not: a relay publishes it again.

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::time::Duration;

use buttress::Clock;
use buttress::retry::Backoff;
use buttress_durable::consume::Received;
use buttress_durable::outbox::{
    self, MemoryStore, Message, MessageId, NewMessage, Outbox, Relay, Store as _,
};
use tower::{BoxError, Service};

use super::cases;

/// A transport under test.
pub trait Broker {
    /// The publisher.
    type Publisher: Service<Message, Response: Send, Error: Into<BoxError>, Future: Send + 'static>
        + Clone
        + Send
        + 'static;

    /// Returns the capabilities of the transport that the cases need.
    fn features(&self) -> Features;

    /// Returns the clock of the publisher.
    fn clock(&self) -> Clock;

    /// Begins a case without messages, and returns a publisher.
    fn fresh(&self) -> impl Future<Output = Self::Publisher>;

    /// Returns the messages of the case that a new group would receive, with duplicates, in their order.
    /// Order counts for each key. Only key, topic, payload and headers are compared.
    fn stored(&self) -> impl Future<Output = Vec<Received<()>>>;

    /// Returns a publisher to a destination that reaches no queue, no stream and no topic. Called only with
    /// [`Features::refuses_unrouted`].
    fn unrouted(&self) -> impl Future<Output = Self::Publisher> {
        self.fresh()
    }

    /// Makes the transport unavailable, or available again. With the first call, requests may have reached the
    /// transport and their confirmations are lost. Called only with [`Features::can_be_cut`].
    fn cut(&self, is_cut: bool) -> impl Future<Output = ()> {
        async move { panic!("cut({is_cut}) of a transport that cannot be cut") }
    }
}

/// The capabilities of a publisher that the cases need.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features {
    /// The largest payload that the transport takes, in bytes.
    pub largest_payload: usize,
    /// Whether a message that reaches no consumer is an error. On the bus of a process it is none.
    pub refuses_unrouted: bool,
    /// Whether a case can make the transport unavailable.
    pub can_be_cut: bool,
    /// The longest time until a call answers while the transport is unavailable.
    pub limit: Duration,
}

impl Features {
    /// Creates the features of a publisher that can show everything, and that answers within 30 s.
    #[must_use]
    pub const fn all(largest_payload: usize) -> Self {
        let limit = Duration::from_secs(30);
        Self { largest_payload, refuses_unrouted: true, can_be_cut: true, limit }
    }

    /// Sets whether a message that reaches no consumer is an error.
    #[must_use]
    pub const fn refuses_unrouted(mut self, is_refused: bool) -> Self {
        self.refuses_unrouted = is_refused;
        self
    }

    /// Sets whether a case can make the transport unavailable.
    #[must_use]
    pub const fn can_be_cut(mut self, can_be: bool) -> Self {
        self.can_be_cut = can_be;
        self
    }
}

/// Runs every case.
pub async fn all<B: Broker>(broker: &B) {
    cases!(broker:
        case_2_15_a_confirmed_message_is_there_whole,
        case_2_15_concurrent_calls_are_all_confirmed,
        case_2_15_a_message_that_reaches_nobody_is_an_error,
        case_2_15_an_unavailable_transport_is_an_error_and_the_message_is_sent_again,
        case_2_14_a_payload_is_whole_or_refused,
        case_7_1_a_relay_publishes_unchanged_and_in_order,
    );
}

fn message(number: u128, key: &str, payload: impl Into<Vec<u8>>) -> Message {
    let new = NewMessage::new(MessageId::new(number), key, payload).topic("order.paid");
    Message::new(new.header("x-tenant", "t\u{e9}"), 0, 0, Duration::ZERO)
}

/// Publishes a message. The publisher is ready first, as tower asks.
async fn publish<P: Service<Message, Error: Into<BoxError>>>(
    publisher: &mut P,
    message: Message,
) -> Result<(), BoxError> {
    poll_fn(|cx| publisher.poll_ready(cx)).await.map_err(Into::into)?;
    publisher.call(message).await.map(drop).map_err(Into::into)
}

async fn confirmed<P: Service<Message, Error: Into<BoxError>>>(
    publisher: &mut P,
    message: Message,
) {
    let id = message.id;
    if let Err(error) = publish(publisher, message).await {
        panic!("publishing {id}: {error}");
    }
}

fn texts(stored: &[Received<()>]) -> Vec<String> {
    let text = |received: &Received<()>| String::from_utf8_lossy(&received.payload).into_owned();
    stored.iter().map(text).collect()
}

async fn case_2_15_a_confirmed_message_is_there_whole<B: Broker>(broker: &B) {
    let mut publisher = broker.fresh().await;
    for (number, payload) in (1..).zip([&b""[..], b"1", &[0, 255, 10], "\u{1f680}".as_bytes()]) {
        let sent = message(number, "order-\u{e9}", payload);
        confirmed(&mut publisher, sent.clone()).await;
        let stored = broker.stored().await;
        let Some(found) = stored.iter().find(|found| found.payload == sent.payload) else {
            panic!("confirmed, and not there: {payload:?}");
        };
        assert_eq!((&found.key, &found.topic), (&sent.key, &sent.topic));
        for header in &sent.headers {
            assert!(found.headers.contains(header), "{header:?} among {:?}", found.headers);
        }
    }
    // The same message again, as after a lost confirmation.
    confirmed(&mut publisher, message(2, "order-\u{e9}", "1")).await;
    let again = texts(&broker.stored().await).iter().filter(|text| *text == "1").count();
    assert!((1..=2).contains(&again), "once, or twice");
}

async fn case_2_15_concurrent_calls_are_all_confirmed<B: Broker>(broker: &B) {
    let publisher = broker.fresh().await;
    let mut calls = Vec::new();
    for number in 0..200_u128 {
        let mut publisher = publisher.clone();
        let sent = message(number, &format!("key-{}", number % 20), number.to_string());
        poll_ready(&mut publisher).await;
        let call = publisher.call(sent);
        calls.push(tokio::spawn(async move { call.await.map(drop).map_err(Into::into) }));
    }
    for call in calls {
        let answer: Result<Result<(), BoxError>, _> = call.await;
        assert!(matches!(answer, Ok(Ok(()))), "{answer:?}");
    }
    let stored: BTreeSet<String> = texts(&broker.stored().await).into_iter().collect();
    let expected: BTreeSet<String> = (0..200).map(|number: u32| number.to_string()).collect();
    assert_eq!(stored, expected);
}

async fn poll_ready<P: Service<Message, Error: Into<BoxError>>>(publisher: &mut P) {
    if let Err(error) = poll_fn(|cx| publisher.poll_ready(cx)).await {
        panic!("not ready: {}", error.into());
    }
}

async fn case_2_15_a_message_that_reaches_nobody_is_an_error<B: Broker>(broker: &B) {
    if !broker.features().refuses_unrouted {
        return;
    }
    let mut publisher = broker.unrouted().await;
    let sent = publish(&mut publisher, message(1, "a", "lost")).await;
    assert!(
        sent.is_err(),
        "the transport does not have the message that the publisher has confirmed"
    );
}

async fn case_2_15_an_unavailable_transport_is_an_error_and_the_message_is_sent_again<B: Broker>(
    broker: &B,
) {
    let features = broker.features();
    if !features.can_be_cut {
        return;
    }
    let mut publisher = broker.fresh().await;
    confirmed(&mut publisher, message(1, "a", "1")).await;
    broker.cut(true).await;
    let clock = broker.clock();
    let begun = clock.now();
    let sent = publish(&mut publisher, message(2, "a", "2")).await;
    let took = clock.now().saturating_duration_since(begun);
    assert!(sent.is_err(), "no confirmation came");
    assert!(took <= features.limit, "the answer took {took:?}");
    broker.cut(false).await;
    let mut tries = 0;
    while let Err(error) = publish(&mut publisher, message(2, "a", "2")).await {
        tries += 1;
        assert!(tries < 100, "the transport is back, and the publisher is not: {error}");
        clock.sleep(Duration::from_millis(100)).await;
    }
    let stored = texts(&broker.stored().await);
    let distinct: BTreeSet<&str> = stored.iter().map(String::as_str).collect();
    assert_eq!(distinct, ["1", "2"].into(), "{stored:?}");
}

async fn case_2_14_a_payload_is_whole_or_refused<B: Broker>(broker: &B) {
    let mut publisher = broker.fresh().await;
    let largest = broker.features().largest_payload;
    let sizes = [largest, largest + 1, 10 << 20];
    for (number, size) in (1..).zip(sizes) {
        let payload = vec![b'a' + number as u8; size];
        let sent = publish(&mut publisher, message(number, "a", payload.clone())).await;
        let stored = broker.stored().await;
        let found = stored.iter().any(|found| found.payload == payload);
        let begun = stored.iter().any(|found| found.payload.first() == payload.first());
        assert_eq!((sent.is_ok(), begun), (found, found), "{size} bytes: whole or refused");
        assert!(sent.is_ok() || size > largest, "{size} bytes: {sent:?}");
    }
}

async fn case_7_1_a_relay_publishes_unchanged_and_in_order<B: Broker>(broker: &B) {
    let publisher = broker.fresh().await;
    let clock = broker.clock();
    let outbox = Outbox::new(MemoryStore::new(clock.clone()));
    let config = outbox::Config::new().clock(clock.clone()).poll(Duration::from_millis(5));
    let config = config
        .retry(1000, Backoff::fixed(Duration::from_millis(50)))
        .max_hint(Duration::from_secs(1));
    let relay = match Relay::new(&outbox, publisher, config) {
        Ok(relay) => relay.spawn(),
        Err(error) => panic!("a case's configuration: {error}"),
    };
    let written: Vec<NewMessage> = (0..300_u128)
        .map(|number| {
            let key = format!("key-{}", number % 7);
            let payload = format!("{key} {number}");
            NewMessage::new(MessageId::new(number), key, payload).topic("order.paid")
        })
        .collect();
    let store = outbox.store().clone();
    for some in written.chunks(10) {
        let mut tx = store.begin();
        for new in some {
            if let Err(error) = outbox::Write::write(&store, &mut tx, new).await {
                panic!("writing: {error}");
            }
        }
        tx.commit();
        relay.wake();
    }
    let begun = clock.now();
    while store.backlog().await.is_ok_and(|backlog| backlog.pending > 0) {
        let waited = clock.now().saturating_duration_since(begun);
        assert!(waited < Duration::from_secs(60), "not relayed: {:?}", relay.stats());
        clock.sleep(Duration::from_millis(10)).await;
    }
    relay.shut_down().await;
    let stored = broker.stored().await;
    for key in (0..7).map(|number| format!("key-{number}")) {
        let of_key = stored.iter().filter(|found| found.key == key);
        let mut found: Vec<String> = Vec::new();
        for text in of_key.map(|found| String::from_utf8_lossy(&found.payload).into_owned()) {
            if !found.contains(&text) {
                found.push(text);
            }
        }
        let of_key = written.iter().filter(|new| new.key == key);
        let expected: Vec<_> =
            of_key.map(|new| String::from_utf8_lossy(&new.payload).into_owned()).collect();
        assert_eq!(found, expected, "first deliveries in order");
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use buttress_durable::bus::{Bus, Pattern, Subscribe, Subscription};
    use buttress_durable::consume::{Settle, Source};

    use super::*;

    struct InProcess {
        bus: Bus,
        group: Subscription,
    }

    /// The bus of one process, a new one for each case.
    #[derive(Default)]
    struct Buses(RefCell<Option<InProcess>>);

    impl Broker for Buses {
        type Publisher = Bus;

        /// A bus without a group is not an error, and its connection cannot be cut.
        fn features(&self) -> Features {
            Features::all(10 << 20).refuses_unrouted(false).can_be_cut(false)
        }

        fn clock(&self) -> Clock {
            Clock::default()
        }

        async fn fresh(&self) -> Bus {
            let bus = Bus::new();
            let group = bus.subscribe("all", Subscribe::new(Pattern::all())).unwrap();
            self.0.replace(Some(InProcess { bus: bus.clone(), group }));
            bus
        }

        #[expect(clippy::await_holding_refcell_ref, reason = "a case runs on one task")]
        async fn stored(&self) -> Vec<Received<()>> {
            let world = self.0.borrow();
            let InProcess { bus, group } = world.as_ref().unwrap();
            let marker = Message::new(
                NewMessage::new(MessageId::new(u128::MAX), "", "end"),
                0,
                0,
                Duration::ZERO,
            );
            bus.publish(marker).await.unwrap();
            group.want(10_000);
            let batch = group.receive().await.unwrap();
            let back: Vec<_> =
                batch.messages.iter().map(|received| (received.token, Settle::Back)).collect();
            let last = back.len() - 1;
            group.settle(&[(back[last].0, Settle::Done)]).await.unwrap();
            group.settle(&back[..last]).await.unwrap();
            let stored = batch.messages.into_iter().take(last);
            let stored = stored.map(|received| received.with_token(()));
            stored.collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn events_2_15_the_bus_passes_every_case_for_publishers() {
        all(&Buses::default()).await;
    }
}
