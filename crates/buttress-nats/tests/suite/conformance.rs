//! The conformance suites of sources and their topology.

use std::cell::RefCell;
use std::time::Duration;

use buttress::Clock;
use buttress_durable::outbox::{Message, NewMessage};
use buttress_nats::{Nats, Publish, Start, Subscribe, Subscription, Topic};
use buttress_sim::conformance::source::{Features, Topology, Transport, all, topology};
use tower::BoxError;

use crate::server::{self, Fresh};

/// A new topic for each case.
struct JetStream {
    nats: Nats,
    topic: RefCell<Option<Fresh>>,
}

impl JetStream {
    fn topic(&self) -> Topic {
        self.topic.borrow().as_ref().unwrap().topic.clone()
    }
}

fn settings(group: &str) -> Subscribe {
    // A case waits for a lease. A busy machine rarely misses it.
    Subscribe::new(group).lease(Duration::from_secs(4)).ack_wait(Duration::from_secs(6))
}

impl Transport for JetStream {
    type Source = Subscription;

    fn features(&self) -> Features {
        // The server takes 1 MiB with the headers.
        let mut features = Features::all(1_000_000);
        features.frees_at_once = false;
        features
    }

    fn clock(&self) -> Clock {
        Clock::default()
    }

    async fn fresh(&self) {
        let earlier = self.topic.replace(Some(Fresh::new(&self.nats, "conformance")));
        if let Some(earlier) = earlier {
            earlier.remove().await;
        }
    }

    async fn publish(&self, message: NewMessage) -> Result<(), BoxError> {
        let publisher = self.nats.publisher(&self.topic(), Publish::new()).await?;
        publisher.publish(Message::new(message, 0, 0, Duration::ZERO)).await?;
        Ok(())
    }

    async fn subscribe(&self, group: &str) -> Subscription {
        self.nats.subscribe(&self.topic(), settings(group)).await.unwrap()
    }
}

impl Topology for JetStream {
    async fn subscribe_at(&self, group: &str, start: Start) -> Subscription {
        self.nats.subscribe(&self.topic(), settings(group).start(start)).await.unwrap()
    }

    async fn subscribe_otherwise(
        &self,
        group: &str,
    ) -> (Result<Subscription, BoxError>, &'static str) {
        let subscribed = self.nats.subscribe(&self.topic().shards(9), settings(group)).await;
        (subscribed.map_err(Into::into), "shards")
    }
}

#[tokio::test]
async fn events_2_nats_passes_every_case() {
    let Some(nats) = server::nats("the conformance suite of sources").await else { return };
    let transport = JetStream { nats, topic: RefCell::new(None) };
    all(&transport).await;
    transport.topic.take().unwrap().remove().await;
}

#[tokio::test]
async fn events_2_12_nats_passes_every_case_of_the_topology() {
    let Some(nats) = server::nats("the conformance suite of the topology").await else { return };
    let transport = JetStream { nats, topic: RefCell::new(None) };
    topology(&transport).await;
    transport.topic.take().unwrap().remove().await;
}
