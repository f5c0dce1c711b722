//! Relays and consumers that are killed with SIGKILL, over a connection to RabbitMQ that is cut at random.
//!
//! `BUTTRESS_AMQP_SECONDS` is the time. Default: 10.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers fail as the tests do")]

#[path = "../suite/server.rs"]
#[expect(dead_code, reason = "the other suite uses the rest")]
mod server;

use std::process::ExitCode;
use std::time::Duration;

use buttress_amqp::lapin::options::QueueDeclareOptions;
use buttress_amqp::lapin::types::FieldTable;
use buttress_amqp::lapin::{Connection, ConnectionProperties};
use buttress_amqp::{Publish, Publisher, Rabbit, Subscribe, Subscription, Topic};
use buttress_durable::consume::{Settle, Source as _};
use buttress_sim::TcpProxy;
use buttress_torture::Transport;
use tower::BoxError;

use server::Server;

const TEST: &str = "events_7_2_kills_and_cuts";
const LIMIT: Duration = Duration::from_secs(1);
const SHARDS: u16 = 8;
/// The group that keeps every message until the account is drawn up.
const COUNT: &str = "count";

struct Queues;

fn at(address: &str) -> Result<(Rabbit, Topic), BoxError> {
    let rabbit = Rabbit::new(&format!("amqp://{address}"))?.limit(LIMIT * 5);
    Ok((rabbit, Topic::new("orders").shards(SHARDS)))
}

impl Transport for Queues {
    type Publisher = Publisher;
    type Source = Subscription;

    async fn publisher(&self, address: &str) -> Result<Publisher, BoxError> {
        let (rabbit, topic) = at(address)?;
        // Both groups exist before the first message: RabbitMQ keeps nothing for later groups.
        for group in ["billing", COUNT] {
            drop(rabbit.subscribe(&topic, Subscribe::new(group)).await?);
        }
        Ok(rabbit.publisher(&topic, Publish::new().limit(LIMIT)).await?)
    }

    async fn source(&self, address: &str) -> Result<Subscription, BoxError> {
        let (rabbit, topic) = at(address)?;
        Ok(rabbit.subscribe(&topic, Subscribe::new("billing")).await?)
    }

    async fn published(&self, address: &str) -> Result<Vec<(String, Vec<u8>)>, BoxError> {
        let (rabbit, topic) = at(address)?;
        let url = format!("amqp://{address}");
        let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let mut count = 0;
        for shard in 0..SHARDS {
            let name = format!("orders.{COUNT}.{shard}");
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let queue = channel.queue_declare(name.as_str().into(), options, FieldTable::default());
            count += queue.await?.message_count() as usize;
        }
        let source = rabbit.subscribe(&topic, Subscribe::new(COUNT)).await?;
        let mut found = Vec::new();
        while found.len() < count {
            source.want(1000);
            let messages = source.receive().await?.messages;
            let done: Vec<_> = messages.iter().map(|it| (it.token, Settle::Done)).collect();
            source.settle(&done).await?;
            found.extend(messages.iter().map(|it| (it.key.clone(), it.payload.clone())));
        }
        Ok(found)
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    if !buttress_torture::begin(&Queues, TEST).await? {
        return Ok(ExitCode::SUCCESS);
    }
    let Some(own) = Server::start(TEST, "").await else { return Ok(ExitCode::SUCCESS) };
    let address = own.address();
    let (proxy, time) =
        (TcpProxy::to(address)?, buttress_torture::time_of("BUTTRESS_AMQP_SECONDS"));
    buttress_torture::run(&Queues, address, &proxy, time).await
}
