//! Customers: an open loop of purchases over real sockets.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::Uri;
use buttress::Clock;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::task::JoinSet;

use crate::{IN_TIME, PATIENCE, since};

/// The arrivals of customers.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Purchases per second.
    pub rate: u32,
    /// The duration; `None` means forever.
    pub length: Option<Duration>,
}

/// How one purchase ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purchase {
    Full,
    Degraded,
    Failed,
}

/// The answers to customers: each purchase with its end and its time.
#[derive(Clone, Default)]
pub(crate) struct Tally {
    purchases: Arc<Mutex<Vec<(Purchase, Duration)>>>,
}

impl Tally {
    pub(crate) fn purchases(&self) -> MutexGuard<'_, Vec<(Purchase, Duration)>> {
        self.purchases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn in_time(&self) -> usize {
        let good =
            |(end, took): &&(Purchase, Duration)| *end != Purchase::Failed && *took <= IN_TIME;
        self.purchases().iter().filter(good).count()
    }
}

type Customer = Client<HttpConnector, Empty<Bytes>>;

/// Buys at `shop` by `plan`, records the answers in `tally`, and waits for the last answers.
pub(crate) async fn run(shop: SocketAddr, start: Instant, plan: Plan, tally: Option<Tally>) {
    let clock = Clock::default();
    let client: Customer = Client::builder(TokioExecutor::new()).build_http();
    let gap = Duration::from_secs(1) / plan.rate.max(1);
    let mut customers = JoinSet::new();
    for number in 0u32.. {
        // Purchases follow the clock: real customers do not wait for each other.
        let due = start + gap * number;
        if plan.length.is_some_and(|length| gap * number >= length) {
            break;
        }
        clock.sleep_until(due).await;
        customers.spawn(buy(client.clone(), shop, number, tally.clone()));
        while customers.try_join_next().is_some() {}
    }
    while customers.join_next().await.is_some() {}
}

async fn buy(client: Customer, shop: SocketAddr, number: u32, tally: Option<Tally>) {
    let clock = Clock::default();
    let begun = clock.now();
    let answer = tokio::select! {
        biased;
        answer = ask(client, shop, number % 50) => answer,
        () = clock.sleep(PATIENCE) => None,
    };
    let end = answer.unwrap_or(Purchase::Failed);
    if let Some(tally) = tally {
        tally.purchases().push((end, since(begun)));
    }
}

/// Buys one item. Returns `None` without a successful answer.
async fn ask(client: Customer, shop: SocketAddr, item: u32) -> Option<Purchase> {
    let uri: Uri = format!("http://{shop}/buy?item={item}").parse().ok()?;
    let response = client.get(uri).await.ok()?;
    let good = response.status().is_success();
    let degraded = response.headers().get("x-answer").is_some_and(|quality| quality == "degraded");
    response.into_body().collect().await.ok()?;
    good.then_some(if degraded { Purchase::Degraded } else { Purchase::Full })
}
