//! Relays and consumers that are killed with SIGKILL, over a connection to Redis that is cut at random.
//!
//! `BUTTRESS_REDIS_SECONDS` is the time. Default: 10.
#![allow(clippy::disallowed_methods, reason = "a broker takes real time")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers fail as the tests do")]

#[path = "../suite/server.rs"]
#[expect(dead_code, reason = "the other suite uses the rest")]
mod server;

use std::process::ExitCode;
use std::time::Duration;

use buttress_durable::consume::Source as _;
use buttress_redis::streams::{Publisher, RedisSource, SourceConfig, Trim};
use buttress_sim::TcpProxy;
use buttress_torture::Transport;
use tower::BoxError;

use server::{Server, at, connect, topic};

const TEST: &str = "events_7_2_kills_and_cuts";
const SHARDS: u16 = 8;

struct Streams;

impl Transport for Streams {
    type Publisher = Publisher;
    type Source = RedisSource;

    async fn publisher(&self, address: &str) -> Result<Publisher, BoxError> {
        let redis = at(&format!("redis://{address}")).limit(Duration::from_secs(1));
        Ok(redis.publisher(topic("orders", SHARDS), Trim::Never).await?)
    }

    async fn source(&self, address: &str) -> Result<RedisSource, BoxError> {
        let redis = at(&format!("redis://{address}")).limit(Duration::from_secs(1));
        let config = SourceConfig::new().lease(Duration::from_secs(1));
        Ok(redis.source(topic("orders", SHARDS), "billing", config).await?)
    }

    async fn published(&self, address: &str) -> Result<Vec<(String, Vec<u8>)>, BoxError> {
        let url = format!("redis://{address}");
        let mut connection = connect(&url).await?;
        let mut count = 0;
        for shard in 0..SHARDS {
            let mut length = redis::cmd("XLEN");
            count += length
                .arg(format!("{{orders}}:{shard}"))
                .query_async::<usize>(&mut connection)
                .await?;
        }
        let source = at(&url).source(topic("orders", SHARDS), "count", SourceConfig::new()).await?;
        source.want(count);
        let mut found = Vec::new();
        while found.len() < count {
            let messages = source.receive().await?.messages.into_iter();
            found.extend(messages.map(|it| (it.key.clone(), it.payload.clone())));
        }
        Ok(found)
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    if !buttress_torture::begin(&Streams, TEST).await? {
        return Ok(ExitCode::SUCCESS);
    }
    let Some(server) = Server::start(TEST, &[]).await else { return Ok(ExitCode::SUCCESS) };
    let address = ([127, 0, 0, 1], server.port()).into();
    let (proxy, time) =
        (TcpProxy::to(address)?, buttress_torture::time_of("BUTTRESS_REDIS_SECONDS"));
    buttress_torture::run(&Streams, address, &proxy, time).await
}
