//! The last act: a second gateway takes over while a load runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use http::StatusCode;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::BoxError;

use crate::account::Account;
use crate::admission::ANN;
use crate::client::{Ask, Client};
use crate::gateway::{Gateway, stats};
use crate::services::Services;

const CLIENTS: u64 = 8;
const EACH: u64 = 500;
/// The answers after which the first gateway drains.
const UNTIL: u64 = 1000;
const ROUTES: [&str; 5] = ["orders", "prices", "reports", "exports", "stock"];

/// What all clients of the load share.
#[derive(Debug)]
struct Load {
    first: SocketAddr,
    second: SocketAddr,
    /// Whether clients use the second gateway.
    moved: AtomicBool,
    good: watch::Sender<u64>,
    /// All answers of the first gateway.
    by_first: AtomicU64,
}

impl Load {
    /// Reads one order, from the second gateway if the first one stops.
    async fn read(&self, client: &Client, ask: Ask<'_>) -> Result<(), BoxError> {
        while !self.moved.load(Ordering::Relaxed) {
            // A connection that the gateway closed has carried no part of an answer: a GET may be sent again.
            let Ok(status) = client.ask(self.first, ask).await else {
                self.moved.store(true, Ordering::Relaxed);
                break;
            };
            self.by_first.fetch_add(1, Ordering::Relaxed);
            if status == StatusCode::OK {
                self.good.send_modify(|good| *good += 1);
                return Ok(());
            }
            // The gateway drains.
            self.moved.store(true, Ordering::Relaxed);
        }
        let status = client.ask(self.second, ask).await?;
        self.good.send_modify(|good| *good += u64::from(status == StatusCode::OK));
        Ok(())
    }
}

pub(crate) async fn under_load(
    first: Gateway,
    second: &Gateway,
    services: &Services,
    account: &mut Account,
) -> Result<(), BoxError> {
    account.act("Eight clients read 4000 orders; after 1000 a second gateway takes over");
    let load = Arc::new(Load {
        first: first.address,
        second: second.address,
        moved: AtomicBool::new(false),
        good: watch::Sender::new(0),
        by_first: AtomicU64::new(0),
    });
    let proxy = first.proxy.clone();
    let before = ended_with_answer(&proxy);
    // One slow request is under way during the whole drain.
    let slow = tokio::spawn({
        let at = first.address;
        async move { Client::new().ask(at, Ask::get("/api/exports/held")).await }
    });
    services.prices.facts.gate.reached(1).await;

    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let load = load.clone();
        clients.spawn(async move {
            let client = Client::new();
            for _ in 0..EACH {
                load.read(&client, Ask::get("/api/orders/items/7").with_key(ANN)).await?;
            }
            Ok::<_, BoxError>(())
        });
    }
    drop(load.good.subscribe().wait_for(|good| *good >= UNTIL).await);
    let address = first.address;
    let draining = first.drain();
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    let refuses = TcpStream::connect(address).await.is_err();
    services.prices.facts.gate.open();
    let slow = slow.await??;
    let served = draining.await?;

    account.check("orders read", CLIENTS * EACH, *load.good.borrow());
    account.check("new connections refused during the drain", 1, refuses.into());
    account.check("a slow request answered during the drain", 1, (slow == StatusCode::OK).into());
    account.check("connections cut off", 0, served.cut);
    // The slow request is the one more.
    let answers = load.by_first.load(Ordering::Relaxed) + 1;
    account.check(
        "accepted by the first gateway and not answered",
        0,
        (ended_with_answer(&proxy) - before).abs_diff(answers),
    );

    account.act("Every request that began has ended in one way");
    for route in ROUTES {
        account.sum("first", route, stats(&proxy, route));
        account.sum("second", route, second.stats(route));
    }
    let failed: u64 = ROUTES.iter().map(|route| stats(&proxy, route).failed).sum();
    account.check("failed, on all routes: the outage of prices", 5, failed);
    Ok(())
}

/// The requests that the gateway answered, also with a refusal.
fn ended_with_answer(proxy: &buttress_edge::Proxy) -> u64 {
    let all = proxy.stats().into_iter();
    all.map(|(_, stats)| stats.answered + stats.refused.total()).sum()
}
