//! The conformance suite of publishers.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use buttress::Clock;
use buttress_durable::consume::{Received, Source as _};
use buttress_nats::async_nats::ConnectOptions;
use buttress_nats::{Nats, Publish, Publisher, Subscribe};
use buttress_sim::TcpProxy;
use buttress_sim::conformance::publisher::{Broker, Features, all};

use crate::server::{self, Fresh};

/// The publisher reaches the server through a proxy.
struct Cut {
    direct: Nats,
    through: Nats,
    proxy: TcpProxy,
    topic: RefCell<Option<Rc<Fresh>>>,
}

impl Cut {
    async fn publisher(&self, topic: &Fresh) -> Publisher {
        // One case waits for this long. A busy server confirms earlier.
        let settings = Publish::new().limit(Duration::from_secs(10));
        self.through.publisher(&topic.topic, settings).await.unwrap()
    }
}

impl Broker for Cut {
    type Publisher = Publisher;

    fn features(&self) -> Features {
        // The server takes 1 MiB with the headers.
        Features::all(1_000_000)
    }

    fn clock(&self) -> Clock {
        Clock::default()
    }

    async fn fresh(&self) -> Publisher {
        let next = Fresh::new(&self.direct, "broker");
        let publisher = self.publisher(&next).await;
        if let Some(earlier) = self.topic.replace(Some(Rc::new(next))) {
            earlier.remove().await;
        }
        publisher
    }

    async fn stored(&self) -> Vec<Received<()>> {
        let fresh = self.topic.borrow().clone().unwrap();
        let count = fresh.stream().await.cached_info().state.messages as usize;
        let group = Subscribe::new(server::fresh("all"));
        let source = self.direct.subscribe(&fresh.topic, group).await;
        let (source, mut stored) = (source.unwrap(), Vec::new());
        while stored.len() < count {
            source.want(10_000);
            let messages = source.receive().await.unwrap().messages.into_iter();
            stored.extend(messages.map(|read| read.with_token(())));
        }
        source.close().await.unwrap();
        stored
    }

    async fn unrouted(&self) -> Publisher {
        let missing = Fresh::new(&self.direct, "unrouted");
        let publisher = self.publisher(&missing).await;
        missing.remove().await;
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
async fn events_2_15_nats_passes_every_case_for_publishers() {
    let Some(direct) = server::nats("the conformance suite of publishers").await else { return };
    let proxy = TcpProxy::to(server::address().parse().unwrap()).unwrap();
    let options = ConnectOptions::new();
    let through = Nats::connect(&proxy.address().to_string(), options).await.unwrap();
    let cut = Cut { direct, through, proxy, topic: RefCell::default() };
    all(&cut).await;
    cut.topic.take().unwrap().remove().await;
}
