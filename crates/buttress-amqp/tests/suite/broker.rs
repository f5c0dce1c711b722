//! The conformance suite of publishers.

use std::cell::RefCell;
use std::time::Duration;

use buttress::Clock;
use buttress_amqp::Publisher;
use buttress_amqp::lapin::BasicProperties;
use buttress_amqp::lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use buttress_durable::consume::{Received, Settle, Source as _};
use buttress_sim::TcpProxy;
use buttress_sim::conformance::publisher::{Broker, Features, all};

use crate::server;
use crate::world::{World, receive};

/// The publisher reaches the server through a proxy.
struct Cut {
    world: World,
    proxy: TcpProxy,
    /// The messages of the case that were read so far.
    read: RefCell<Vec<Received<()>>>,
}

const END: &[u8] = b"the end of the messages";

impl Broker for Cut {
    type Publisher = Publisher;

    fn features(&self) -> Features {
        Features::all(10 << 20)
    }

    fn clock(&self) -> Clock {
        Clock::default()
    }

    async fn fresh(&self) -> Publisher {
        self.read.take();
        self.world.begin("all").await;
        self.world.publisher()
    }

    async fn stored(&self) -> Vec<Received<()>> {
        let (_connection, channel) = self.world.channel().await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        for shard in 0..self.world.shards {
            let queue = format!("{}.all.{shard}", self.world.name());
            let (options, properties) =
                (BasicPublishOptions::default(), BasicProperties::default());
            let sent =
                channel.basic_publish("".into(), queue.as_str().into(), options, END, properties);
            assert!(sent.await.unwrap().await.unwrap().is_ack());
        }
        let source = self.world.member("all").await;
        let mut ends = 0;
        while ends < self.world.shards {
            source.want(10_000);
            let batch = receive(&source).await.unwrap();
            let done: Vec<_> =
                batch.messages.iter().map(|read| (read.token, Settle::Done)).collect();
            source.settle(&done).await.unwrap();
            for read in batch.messages {
                if read.payload == END {
                    ends += 1;
                    continue;
                }
                self.read.borrow_mut().push(read.with_token(()));
            }
        }
        source.close().await.unwrap();
        self.read.borrow().clone()
    }

    async fn unrouted(&self) -> Publisher {
        self.world.begin("none").await;
        self.world.remove("none").await;
        self.world.publisher()
    }

    async fn cut(&self, is_cut: bool) {
        self.proxy.refuse(is_cut);
        if is_cut {
            self.proxy.cut();
        }
    }
}

#[tokio::test]
async fn events_2_15_rabbitmq_passes_every_case_for_publishers() {
    let Some(_rabbit) = server::rabbit("the conformance suite of publishers").await else { return };
    let url = server::url();
    let (proxy, through) = server::proxy(&url);
    let mut world = World::new(through, url, 4);
    // One case waits for this long.
    world.limit = Duration::from_secs(10);
    let cut = Cut { world, proxy, read: RefCell::default() };
    all(&cut).await;
    cut.world.end().await;
}
