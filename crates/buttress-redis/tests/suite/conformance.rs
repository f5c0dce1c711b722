//! The suites that every transport must pass.

use std::cell::RefCell;
use std::time::Duration;

use buttress::Clock;
use buttress_durable::consume::{Received, Source as _};
use buttress_durable::outbox::{Message, NewMessage};
use buttress_redis::Redis;
use buttress_redis::streams::{Publisher, RedisSource, SourceConfig, Start, Topic, Trim};
use buttress_sim::TcpProxy;
use buttress_sim::conformance::publisher::{self, Broker};
use buttress_sim::conformance::source::{Features, Topology, Transport, all, topology};
use tower::{BoxError, Service as _};

use crate::server::{Scene, at, fresh, redis_url, remove, topic};

/// One server, with another topic for each case.
struct Streams {
    redis: Redis,
    name: String,
    shards: u16,
    now: RefCell<Option<(Topic, Publisher)>>,
}

impl Transport for Streams {
    type Source = RedisSource;

    fn features(&self) -> Features {
        let mut features = Features::all(10 << 20);
        features.frees_at_once = false;
        features
    }

    fn clock(&self) -> Clock {
        Clock::default()
    }

    async fn fresh(&self) {
        let topic = topic(&fresh(&self.name), self.shards);
        let publisher = self.redis.publisher(topic.clone(), Trim::Handled).await.unwrap();
        self.now.replace(Some((topic, publisher)));
    }

    async fn publish(&self, message: NewMessage) -> Result<(), BoxError> {
        let mut publisher = self.now.borrow().as_ref().unwrap().1.clone();
        Ok(publisher.call(Message::new(message, 0, 0, Duration::ZERO)).await?)
    }

    async fn subscribe(&self, group: &str) -> RedisSource {
        self.subscribe_at(group, Start::New).await
    }
}

impl Topology for Streams {
    async fn subscribe_at(&self, group: &str, start: Start) -> RedisSource {
        let topic = self.now.borrow().as_ref().unwrap().0.clone();
        // A case waits for a lease. A busy machine rarely misses it.
        let config = SourceConfig::new().start(start).lease(Duration::from_secs(4));
        self.redis.source(topic, group, config).await.unwrap()
    }

    async fn subscribe_otherwise(
        &self,
        group: &str,
    ) -> (Result<RedisSource, BoxError>, &'static str) {
        let name = self.now.borrow().as_ref().unwrap().0.name().to_owned();
        let other = topic(&name, self.shards + 1);
        let source = self.redis.source(other, group, SourceConfig::new()).await;
        (source.map_err(Into::into), "shards")
    }
}

/// One server behind a proxy, with another topic for each case.
struct Publishers {
    scene: Scene,
    proxy: TcpProxy,
    now: RefCell<Topic>,
}

impl Broker for Publishers {
    type Publisher = Publisher;

    fn features(&self) -> publisher::Features {
        publisher::Features::all(10 << 20)
    }

    fn clock(&self) -> Clock {
        Clock::default()
    }

    async fn fresh(&self) -> Publisher {
        let topic = topic(&fresh(&self.scene.name), 4);
        drop(self.now.replace(topic.clone()));
        // A cut connection is noticed earlier.
        let limit = Duration::from_secs(20);
        let redis = at(&format!("redis://{}", self.proxy.address())).limit(limit);
        redis.publisher(topic, Trim::Handled).await.unwrap()
    }

    async fn stored(&self) -> Vec<Received<()>> {
        let topic = self.now.borrow().clone();
        let mut count = 0;
        for shard in 0..4 {
            let stream = format!("{{{}}}:{shard}", topic.name());
            count += self.scene.ask::<usize>(&["XLEN", &stream]).await;
        }
        let group = fresh("stored");
        let config = SourceConfig::new().lease(Duration::from_secs(1));
        let source = self.scene.redis.source(topic, &group, config).await.unwrap();
        source.want(count);
        let mut stored = Vec::new();
        while stored.len() < count {
            stored.extend(source.receive().await.unwrap().messages);
        }
        source.close().await.unwrap();
        stored.into_iter().map(|received| received.with_token(())).collect()
    }

    async fn unrouted(&self) -> Publisher {
        let publisher = self.fresh().await;
        let name = self.now.borrow().name().to_owned();
        remove(&self.scene.url, &name).await;
        publisher
    }

    async fn cut(&self, is_cut: bool) {
        self.proxy.refuse(is_cut);
        if is_cut {
            self.proxy.cut();
        }
    }
}

#[tokio::test]
async fn events_2_15_and_7_1_the_publisher_passes_every_case() {
    let Some(scene) = Scene::of("the suite of publishers", 4).await else { return };
    let (proxy, now) = (scene.proxy(), RefCell::new(scene.topic.clone()));
    let publishers = Publishers { scene, proxy, now };
    publisher::all(&publishers).await;
    publishers.scene.end().await;
}

#[tokio::test]
async fn events_2_12_topics_and_groups_pass_every_case() {
    let Some(url) = redis_url("the suite of topologies").await else { return };
    let name = fresh("topology");
    let (redis, now) = (at(&url), RefCell::default());
    topology(&Streams { redis, name: name.clone(), shards: 2, now }).await;
    remove(&url, &name).await;
}

async fn passes(test: &str, shards: u16) {
    let Some(url) = redis_url(test).await else { return };
    let name = fresh("suite");
    let (redis, now) = (at(&url), RefCell::default());
    all(&Streams { redis, name: name.clone(), shards, now }).await;
    remove(&url, &name).await;
}

#[tokio::test]
async fn events_2_streams_of_one_shard_pass_every_case() {
    passes("events_2_streams_of_one_shard_pass_every_case", 1).await;
}

#[tokio::test]
async fn events_2_streams_of_eight_shards_pass_every_case() {
    passes("events_2_streams_of_eight_shards_pass_every_case", 8).await;
}
