//! Connections that are cut, servers that are killed, members that are stopped, handlers that take long.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::Clock;
use buttress_durable::consume::{
    Config, Consumer, ConsumerHandle, Delivery, MemoryDeadLetters, Settle, Shard, Source as _,
};
use buttress_durable::outbox::{Message, MessageId, NewMessage};
use buttress_nats::async_nats::ConnectOptions;
use buttress_nats::async_nats::jetstream::consumer::FromConsumer as _;
use buttress_nats::async_nats::jetstream::consumer::pull::Config as PullConfig;
use buttress_nats::{Nats, Publish, Publisher, Subscribe, Topic};
use buttress_sim::TcpProxy;
use tower::{BoxError, service_fn};

use crate::received::{payloads, receive, take};
use crate::server::{self, Fresh, Server};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(3);

pub(crate) async fn at(address: SocketAddr) -> Nats {
    Nats::connect(&address.to_string(), ConnectOptions::new()).await.unwrap()
}

/// A short lease that a busy machine rarely misses.
pub(crate) fn settings() -> Subscribe {
    Subscribe::new("billing").lease(LEASE).ack_wait(SECOND)
}

pub(crate) fn message(key: &str, payload: &str) -> Message {
    let id = MessageId::random(&buttress::Rng::default());
    Message::new(NewMessage::new(id, key, payload), 0, 0, Duration::ZERO)
}

/// Publishes as a relay does: again until it is confirmed.
pub(crate) async fn publish(publisher: &Publisher, message: Message) {
    while publisher.publish(message.clone()).await.is_err() {
        Clock::default().sleep(Duration::from_millis(10)).await;
    }
}

/// What handlers have seen: key and payload.
#[derive(Clone, Default)]
struct Handled(Arc<Mutex<Vec<(String, String)>>>);

impl Handled {
    fn all(&self) -> Vec<(String, String)> {
        self.0.lock().unwrap().clone()
    }

    fn distinct(&self) -> usize {
        self.all().into_iter().collect::<BTreeSet<_>>().len()
    }

    /// Checks that the first handlings of each key are the numbers from 0 on.
    fn assert_first_in_order(&self) {
        let mut next: BTreeMap<String, u32> = BTreeMap::new();
        for (key, payload) in self.all() {
            let (number, next) =
                (payload.parse::<u32>().unwrap(), next.entry(key.clone()).or_default());
            assert!(number <= *next, "{key}: {number} came before {next}");
            *next = (*next).max(number + 1);
        }
    }

    async fn member(&self, nats: &Nats, topic: &Topic) -> ConsumerHandle {
        self.consumer(nats, topic, settings(), |_| Duration::from_millis(1)).await
    }

    /// Adds a consumer whose handler takes the time that `takes` returns for a payload.
    async fn consumer(
        &self,
        nats: &Nats,
        topic: &Topic,
        settings: Subscribe,
        takes: fn(&str) -> Duration,
    ) -> ConsumerHandle {
        let source = nats.subscribe(topic, settings).await.unwrap();
        let handled = self.clone();
        let handler = service_fn(move |delivery: Delivery| {
            let payload = String::from_utf8_lossy(delivery.payload()).into_owned();
            let time = takes(&payload);
            handled.0.lock().unwrap().push((delivery.key().to_owned(), payload));
            async move {
                Clock::default().sleep(time).await;
                Ok::<(), BoxError>(())
            }
        });
        let letters = MemoryDeadLetters::new(Clock::default());
        let config = Config::new().max_redeliveries(1000);
        Consumer::new(source, handler, config).unwrap().dead_letters(letters).spawn()
    }
}

pub(crate) async fn until(what: &str, mut is_met: impl FnMut() -> bool) {
    let (clock, begun) = (Clock::default(), Clock::default().now());
    while !is_met() {
        assert!(clock.now() - begun < 60 * SECOND, "{what}: not within a minute");
        clock.sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn events_2_3_connections_are_cut_at_random() {
    let Some(own) = Server::start("connections that are cut").await else { return };
    let proxy = TcpProxy::to(own.address()).unwrap();
    let (topic, handled) = (Topic::new("orders").shards(4), Handled::default());
    let through = [at(proxy.address()).await, at(proxy.address()).await];
    let publisher =
        at(proxy.address()).await.publisher(&topic, Publish::new().limit(SECOND)).await.unwrap();
    let members =
        [handled.member(&through[0], &topic).await, handled.member(&through[1], &topic).await];
    for number in 0..100 {
        for key in ["a", "b", "c", "d", "e"] {
            publish(&publisher, message(key, &number.to_string())).await;
        }
        if number % 10 == 5 {
            proxy.cut();
        }
    }
    until("every message is handled", || handled.distinct() == 500).await;
    handled.assert_first_in_order();
    for member in &members {
        member.shut_down().await;
    }
}

#[tokio::test]
async fn events_2_1_the_server_is_killed_and_restarted() {
    let Some(mut own) = Server::start("a server that is killed").await else { return };
    let (nats, topic, handled) =
        (at(own.address()).await, Topic::new("orders").shards(2), Handled::default());
    let publisher = nats.publisher(&topic, Publish::new().limit(SECOND)).await.unwrap();
    let member = handled.member(&at(own.address()).await, &topic).await;
    for number in 0..90 {
        for key in ["a", "b"] {
            publish(&publisher, message(key, &number.to_string())).await;
        }
        if number % 30 == 15 {
            own.kill();
            own.restart().await;
        }
    }
    until("every message is handled", || handled.distinct() == 180).await;
    handled.assert_first_in_order();
    until("all are settled", || member.stats().held == 0).await;
    member.shut_down().await;
}

#[tokio::test]
async fn an_outage_is_one_error_and_ends_with_an_answer() {
    let Some(mut own) = Server::start("an outage").await else { return };
    let (nats, topic) = (at(own.address()).await, Topic::new("orders").shards(1));
    let source = nats.subscribe(&topic, settings()).await.unwrap();
    let publisher = nats.publisher(&topic, Publish::new()).await.unwrap();
    source.want(10);
    publish(&publisher, message("a", "1")).await;
    take(&source, 1).await;
    own.kill();
    let error = source.receive().await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(error.to_string().contains("the stream `orders`: "), "{error}");
    {
        // The error is not reported to the consumer again, and its wait does not grow: the answer comes with the
        // server.
        let mut waiting = std::pin::pin!(source.receive());
        let quiet = tokio::select! {
            answer = &mut waiting => panic!("{answer:?}"),
            // Longer than the lease.
            () = Clock::default().sleep(4 * SECOND) => true,
        };
        assert!(quiet);
        own.restart().await;
        let mut answer = waiting.await.unwrap();
        assert_eq!(answer.revoked, [Shard(0)], "the lease had run out");
        while answer.messages.is_empty() {
            answer = receive(&source).await;
        }
        // A server that is killed can lose the count of a delivery that it has not written yet.
        assert!(
            answer.messages[0].redeliveries.is_some(),
            "not settled; the server counts deliveries"
        );
    }
}

#[tokio::test]
async fn events_2_3_and_8_a_successor_begins_with_what_was_not_settled_after_the_lease() {
    let mut all = Vec::new();
    // A busy machine can stop this process for a second.
    while all.len() < 5 {
        let Some(fresh) = Fresh::of("a successor", 1).await else { return };
        let took = a_successor_begins_with_what_was_not_settled(&fresh).await;
        if took < LEASE + SECOND {
            return;
        }
        all.push(took);
    }
    panic!("the lease and a second: {all:?}");
}

/// Returns how long the successor waited for the messages.
async fn a_successor_begins_with_what_was_not_settled(fresh: &Fresh) -> Duration {
    // The ack wait is out of reach: a successor does not wait for it.
    let long = || settings().ack_wait(600 * SECOND);
    let publisher = fresh.publisher().await;
    let first = fresh.member(long()).await;
    first.want(6);
    for number in 0..6 {
        publish(&publisher, message("a", &number.to_string())).await;
    }
    let held = take(&first, 6).await;
    first
        .settle(&[(held[1].token.clone(), Settle::Done), (held[5].token.clone(), Settle::Back)])
        .await
        .unwrap();
    publish(&publisher, message("a", "6")).await;
    let (clock, second) = (Clock::default(), fresh.member(long()).await);
    second.want(100);
    let begun = clock.now();
    let taken = take(&second, 6).await;
    let took = clock.now() - begun;
    assert_eq!(payloads(&taken), ["0", "2", "3", "4", "5", "6"]);
    assert!(taken[..5].iter().all(|message| message.redeliveries >= Some(1)));
    // The first member was stopped, and comes back: it hands out nothing and says what it has lost.
    let late = receive(&first).await;
    assert_eq!((late.messages.len(), late.revoked), (0, vec![Shard(0)]));
    // Its acknowledgement of a handled message counts.
    first.settle(&[(held[0].token.clone(), Settle::Done)]).await.unwrap();
    assert_eq!(fresh.unsettled().await, 5);
    let all: Vec<_> = taken.iter().map(|message| (message.token.clone(), Settle::Done)).collect();
    second.settle(&all).await.unwrap();
    assert_eq!(fresh.unsettled().await, 0, "confirmed");
    second.settle(&all).await.unwrap();
    fresh.remove().await;
    took
}

#[tokio::test]
async fn events_2_3_a_successor_with_a_backlog_begins_with_what_was_not_settled() {
    let Some(fresh) = Fresh::of("a successor with a backlog", 1).await else { return };
    let lasting = || settings().ack_wait(600 * SECOND);
    let publisher = fresh.publisher().await;
    let first = fresh.member(lasting()).await;
    first.want(6);
    for number in 0..200 {
        publish(&publisher, message("a", &number.to_string())).await;
    }
    take(&first, 6).await;
    first.close().await.unwrap();
    let second = fresh.member(lasting()).await;
    second.want(300);
    let taken = take(&second, 200).await;
    let published: Vec<_> = (0..200).map(|number| number.to_string()).collect();
    assert_eq!(payloads(&taken), published);
    fresh.remove().await;
}

#[tokio::test]
async fn a_consumer_that_a_take_over_left_is_mended_by_its_owner() {
    let Some(fresh) = Fresh::of("an unfinished take-over", 1).await else { return };
    let publisher = fresh.publisher().await;
    let source = fresh.member(settings()).await;
    source.want(10);
    publish(&publisher, message("a", "1")).await;
    take(&source, 1).await;
    // What a member does that has lost its lease, was stopped before this request, and is killed after it.
    let mut config = fresh.stream().await.consumer_info("billing-0").await.unwrap().config;
    config.max_ack_pending = 1;
    fresh
        .stream()
        .await
        .create_consumer(PullConfig::try_from_consumer_config(config).unwrap())
        .await
        .unwrap();
    publish(&publisher, message("a", "2")).await;
    assert_eq!(take(&source, 1).await[0].payload, b"2", "its owner looks after it");
    fresh.remove().await;
}

#[tokio::test]
async fn a_successor_goes_on_without_messages_that_are_gone_from_the_stream() {
    for deleted in [[2_u64].as_slice(), &[1, 2, 3]] {
        let Some(fresh) = Fresh::of("deleted messages", 1).await else { return };
        let lasting = || settings().ack_wait(600 * SECOND);
        let publisher = fresh.publisher().await;
        let first = fresh.member(lasting()).await;
        first.want(3);
        for number in 1..=3 {
            publish(&publisher, message("a", &number.to_string())).await;
        }
        take(&first, 3).await;
        for sequence in deleted {
            assert!(fresh.stream().await.delete_message(*sequence).await.unwrap());
        }
        publish(&publisher, message("a", "4")).await;
        first.close().await.unwrap();
        let second = fresh.member(lasting()).await;
        second.want(100);
        let taken = take(&second, 4 - deleted.len()).await;
        let kept = (1..=4).filter(|number| !deleted.contains(number));
        assert_eq!(payloads(&taken), kept.map(|number| number.to_string()).collect::<Vec<_>>());
        fresh.remove().await;
    }
}

#[tokio::test]
async fn events_2_9_a_handler_that_takes_three_ack_waits_runs_once() {
    let Some(nats) = server::nats("a long handler").await else { return };
    let (fresh, handled) = (Fresh::new(&nats, "long"), Handled::default());
    // A busy machine misses neither the lease nor the ack wait.
    let settings = Subscribe::new("billing").ack_wait(3 * SECOND);
    let takes = |payload: &str| if payload == "0" { 9 * SECOND } else { Duration::ZERO };
    let member = handled.consumer(&nats, &fresh.topic, settings, takes).await;
    let publisher = nats.publisher(&fresh.topic, Publish::new()).await.unwrap();
    publish(&publisher, message("a", "0")).await;
    publish(&publisher, message("a", "1")).await;
    until("the first one runs", || handled.all().len() == 1).await;
    Clock::default().sleep(15 * SECOND / 2).await;
    // Two ack waits and a half: the server has a report that it is being handled.
    let consumer = format!("billing-{}", NewMessage::partition("a", 8));
    let known = fresh.stream().await.consumer_info(consumer).await.unwrap();
    assert_eq!((known.num_redelivered, member.stats().running), (0, 1));
    until("both are handled", || member.stats().handled == 2).await;
    assert_eq!(handled.all().len(), 2);
    assert_eq!(
        member.stats().joined,
        0,
        "the server was notified that the first one is being handled"
    );
    member.shut_down().await;
    fresh.remove().await;
}
