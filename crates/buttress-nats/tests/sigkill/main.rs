//! Relays and consumers that are killed with SIGKILL, over a connection to NATS that is cut at random.
//!
//! `BUTTRESS_NATS_SECONDS` is the time. Default: 10.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers fail as the tests do")]

#[path = "../suite/server.rs"]
#[expect(dead_code, reason = "the other suite uses the rest")]
mod server;

use std::process::ExitCode;
use std::time::Duration;

use buttress_nats::async_nats::{ConnectOptions, jetstream};
use buttress_nats::{Nats, Publish, Publisher, Subscribe, Subscription, Topic};
use buttress_sim::TcpProxy;
use buttress_torture::Transport;
use tower::BoxError;

use server::Server;

const TEST: &str = "events_7_2_kills_and_cuts";
const LIMIT: Duration = Duration::from_secs(2);

struct JetStream;

async fn connect(address: &str) -> Result<(Nats, Topic), BoxError> {
    let nats = Nats::connect(address, ConnectOptions::new()).await?;
    Ok((nats, Topic::new("orders").shards(8)))
}

impl Transport for JetStream {
    type Publisher = Publisher;
    type Source = Subscription;

    async fn publisher(&self, address: &str) -> Result<Publisher, BoxError> {
        let (nats, topic) = connect(address).await?;
        Ok(nats.publisher(&topic, Publish::new().limit(LIMIT)).await?)
    }

    async fn source(&self, address: &str) -> Result<Subscription, BoxError> {
        let (nats, topic) = connect(address).await?;
        Ok(nats.subscribe(&topic, Subscribe::new("billing").lease(LIMIT)).await?)
    }

    async fn published(&self, address: &str) -> Result<Vec<(String, Vec<u8>)>, BoxError> {
        let (nats, _) = connect(address).await?;
        let stream = jetstream::new(nats.client()).get_stream("orders").await?;
        let mut found = Vec::new();
        for sequence in 1..=stream.cached_info().state.last_sequence {
            let stored = stream.get_raw_message(sequence).await?;
            let subject = stored.headers.get("ce-subject");
            let subject = subject.map(ToString::to_string).unwrap_or_default();
            found.push((subject, stored.payload.to_vec()));
        }
        Ok(found)
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    if !buttress_torture::begin(&JetStream, TEST).await? {
        return Ok(ExitCode::SUCCESS);
    }
    let Some(own) = Server::start(TEST).await else { return Ok(ExitCode::SUCCESS) };
    let address = own.address();
    let (proxy, time) =
        (TcpProxy::to(address)?, buttress_torture::time_of("BUTTRESS_NATS_SECONDS"));
    buttress_torture::run(&JetStream, address, &proxy, time).await
}
