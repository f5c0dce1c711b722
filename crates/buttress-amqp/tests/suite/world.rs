//! A topic per case, its publisher, and its groups.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use buttress::{Clock, StoreError};
use buttress_amqp::lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use buttress_amqp::lapin::{Channel, Connection, ConnectionProperties};
use buttress_amqp::{Publish, Publisher, Rabbit, Subscribe, Subscription, Token, Topic};
use buttress_durable::consume::{Batch, Received, Source as _, Start};
use buttress_durable::outbox::{Message, MessageId, NewMessage};
use buttress_sim::conformance::source::{Features, Seen, Topology, Transport};
use tower::BoxError;

use crate::server::{self, fresh};

/// One server. Each case has another topic.
pub(crate) struct World {
    /// The way of publishers and consumers, perhaps through a proxy.
    pub rabbit: Rabbit,
    pub url: String,
    pub shards: u16,
    pub prefetch: Option<u16>,
    /// The limit of the publisher. Default: one that a busy machine does not miss.
    pub limit: Duration,
    now: RefCell<Option<Case>>,
}

struct Case {
    name: String,
    topic: Topic,
    publisher: Publisher,
    groups: BTreeSet<String>,
}

impl World {
    pub(crate) fn new(rabbit: Rabbit, url: String, shards: u16) -> Self {
        let limit = Duration::from_secs(20);
        Self { rabbit, url, shards, prefetch: None, limit, now: RefCell::default() }
    }

    pub(crate) fn topic(&self) -> Topic {
        self.now.borrow().as_ref().unwrap().topic.clone()
    }

    pub(crate) fn name(&self) -> String {
        self.now.borrow().as_ref().unwrap().name.clone()
    }

    pub(crate) fn publisher(&self) -> Publisher {
        self.now.borrow().as_ref().unwrap().publisher.clone()
    }

    /// Begins a case, with a first group, so that messages reach a queue.
    pub(crate) async fn begin(&self, group: &str) {
        self.end().await;
        let name = fresh("suite");
        let topic = Topic::new(&name).shards(self.shards);
        let settings = Publish::new().limit(self.limit);
        let publisher = self.rabbit.publisher(&topic, settings).await.unwrap();
        let groups = BTreeSet::new();
        self.now.replace(Some(Case { name, topic, publisher, groups }));
        drop(self.member(group).await);
    }

    pub(crate) async fn member(&self, group: &str) -> Subscription {
        let topic = {
            let mut now = self.now.borrow_mut();
            let case = now.as_mut().unwrap();
            case.groups.insert(group.to_owned());
            case.topic.clone()
        };
        let mut settings = Subscribe::new(group);
        if let Some(prefetch) = self.prefetch {
            settings = settings.prefetch(prefetch);
        }
        self.rabbit.subscribe(&topic, settings).await.unwrap()
    }

    /// Returns a channel of a connection that no proxy cuts.
    pub(crate) async fn channel(&self) -> (Connection, Channel) {
        let connecting = Connection::connect(&self.url, ConnectionProperties::default());
        let connection = connecting.await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        (connection, channel)
    }

    /// Removes the queues of a group.
    pub(crate) async fn remove(&self, group: &str) {
        let (_connection, channel) = self.channel().await;
        let lasts = (0..self.shards).map(|shard| shard.to_string());
        for last in lasts.chain(["dead", "retry"].map(str::to_owned)) {
            let queue = format!("{}.{group}.{last}", self.name());
            let options = QueueDeleteOptions::default();
            channel.queue_delete(queue.as_str().into(), options).await.unwrap();
        }
    }

    /// Removes the exchanges and queues of the case.
    pub(crate) async fn end(&self) {
        let groups = match &*self.now.borrow() {
            Some(case) => case.groups.clone(),
            None => return,
        };
        for group in &groups {
            self.remove(group).await;
        }
        let Some(Case { name, .. }) = self.now.take() else { return };
        let (_connection, channel) = self.channel().await;
        for last in ["", ".shards", ".dead", ".retry"] {
            let exchange = format!("{name}{last}");
            let options = ExchangeDeleteOptions::default();
            channel.exchange_delete(exchange.as_str().into(), options).await.unwrap();
        }
    }
}

impl Transport for World {
    type Source = Subscription;

    fn features(&self) -> Features {
        Features::all(10 << 20)
    }

    fn clock(&self) -> Clock {
        Clock::default()
    }

    async fn fresh(&self) {
        // A case may publish before its first group is there: some queue takes that.
        self.begin("first").await;
    }

    async fn publish(&self, message: NewMessage) -> Result<(), BoxError> {
        Ok(self.publisher().publish(Message::new(message, 0, 0, Duration::ZERO)).await?)
    }

    async fn subscribe(&self, group: &str) -> Subscription {
        self.member(group).await
    }
}

impl Topology for World {
    /// RabbitMQ keeps nothing for later groups.
    fn can_begin(&self, start: Start) -> bool {
        start == Start::New
    }

    async fn subscribe_at(&self, group: &str, _last: Start) -> Subscription {
        self.member(group).await
    }

    async fn subscribe_otherwise(
        &self,
        group: &str,
    ) -> (Result<Subscription, BoxError>, &'static str) {
        let topic = self.topic().shards(self.shards + 1);
        let subscribed = self.rabbit.subscribe(&topic, Subscribe::new(group)).await;
        (subscribed.map_err(Into::into), "shards")
    }
}

pub(crate) fn message(key: &str, payload: impl Into<Vec<u8>>) -> Message {
    let id = MessageId::random(&buttress::Rng::default());
    Message::new(NewMessage::new(id, key, payload).topic("order.paid"), 0, 0, Duration::ZERO)
}

/// Publishes as a relay does: again until it is confirmed.
pub(crate) async fn publish(publisher: &Publisher, message: Message) {
    assert!(is_published(publisher, message).await, "not published within a minute");
}

/// Whether a message is published within a minute.
pub(crate) async fn is_published(publisher: &Publisher, message: Message) -> bool {
    let (clock, begun) = (Clock::default(), Clock::default().now());
    while publisher.publish(message.clone()).await.is_err() {
        if clock.now() - begun > Duration::from_secs(60) {
            return false;
        }
        clock.sleep(Duration::from_millis(10)).await;
    }
    true
}

/// Checks that the first handlings of each key are the numbers from 0 on. Returns how many messages were handled.
pub(crate) fn in_order(seen: &[Seen]) -> u32 {
    let mut next: BTreeMap<&str, u32> = BTreeMap::new();
    for Seen { key, payload, .. } in seen {
        let number: u32 = std::str::from_utf8(payload).unwrap().parse().unwrap();
        let next = next.entry(key).or_default();
        assert!(number <= *next, "{key}: {number} came before {next}");
        *next = (*next).max(number + 1);
    }
    next.values().sum()
}

pub(crate) async fn until(what: &str, mut is_met: impl FnMut() -> bool) {
    let (clock, begun) = (Clock::default(), Clock::default().now());
    while !is_met() {
        assert!(clock.now() - begun < Duration::from_secs(60), "{what}: not within a minute");
        clock.sleep(Duration::from_millis(5)).await;
    }
}

/// Receives from a member, and waits for up to a minute.
pub(crate) async fn receive(source: &Subscription) -> Result<Batch<Token>, StoreError> {
    tokio::select! {
        received = source.receive() => received,
        () = Clock::default().sleep(Duration::from_secs(60)) => panic!("nothing within a minute"),
    }
}

/// Receives `count` messages. They can come in several batches, and a batch can be empty.
pub(crate) async fn take(source: &Subscription, count: usize) -> Vec<Received<Token>> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.extend(receive(source).await.unwrap().messages);
    }
    assert_eq!(taken.len(), count, "{taken:?}");
    taken
}

/// The world of the machine's server, if there is one.
pub(crate) async fn world(test: &str, shards: u16) -> Option<World> {
    let rabbit = server::rabbit(test).await?;
    Some(World::new(rabbit, server::url(), shards))
}

/// The world of the machine's server, if there is one, with a first case and its group `billing`.
pub(crate) async fn billing(test: &str, shards: u16) -> Option<World> {
    let world = world(test, shards).await?;
    world.begin("billing").await;
    Some(world)
}
