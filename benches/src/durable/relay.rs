//! The messages per second of one relay, in the order of each key.

use std::time::{Duration, Instant};

use buttress_durable::outbox::{Config, Outbox, Relay};

use super::base::{Base, Server, fill, sqlite};
use super::flow::two_threads;
use super::folder::Folder;
use super::order::{Publisher, messages};
use super::users::Users;
use super::{
    BATCH, HEXERACT, RELAY_POSTGRES, RELAY_POSTGRES_BESIDE, RELAY_SQLITE, RELAY_SQLITE_BESIDE,
    WAIT_POSTGRES, WAIT_RELAY, relay_of_hexeract,
};
use crate::patterns::BUTTRESS;
use crate::probes::finding;
use crate::spread::median;

const ROUNDS: usize = 3;
/// The messages that are written before the relay begins.
const MESSAGES: u64 = 60_000;
const THEIRS: u64 = 1_500;

/// Lets a relay publish the written messages, and returns the messages per second. Messages that
/// users write meanwhile count too.
async fn relay<B: Base>(outbox: &Outbox<B>, messages: u64) -> f64 {
    let publisher = Publisher::new();
    let config = Config::new().batch(BATCH);
    let relay = Relay::new(outbox, publisher.clone(), config).expect("valid");
    let (before, began) = (relay.handle().stats().relayed, Instant::now());
    let relay = relay.spawn();
    let relayed = loop {
        // The end of the last of the earlier messages is recorded, so all deliveries are recorded.
        let relayed = relay.stats().relayed - before;
        if publisher.in_order() + publisher.out_of_order() >= messages && relayed >= messages {
            break relayed;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    let each = relayed as f64 / began.elapsed().as_secs_f64();
    relay.shut_down().await;
    assert_eq!((publisher.in_order(), publisher.out_of_order()), (messages, 0), "all, in order");
    each
}

/// Measures the relay alone, and with users.
async fn both<B: Base>(store: B, rates: &mut [Vec<f64>; 2], users: &mut Users) {
    let outbox = Outbox::new(store);
    fill(&outbox, &mut messages(MESSAGES)).await;
    rates[0].push(relay(&outbox, MESSAGES).await);
    fill(&outbox, &mut messages(MESSAGES)).await;
    let (seen, rate) = Users::beside(&outbox, relay(&outbox, MESSAGES)).await;
    rates[1].push(rate);
    users.add(seen);
}

fn report(what: &str, who: &str, rates: Vec<f64>) {
    let rate = median(rates).expect("rounds");
    finding(what, who, rate, &format!("{rate:.0}/s, in order"));
}

async fn on_sqlite() {
    let (mut rates, mut peer, mut users) = ([Vec::new(), Vec::new()], Vec::new(), Users::default());
    for _ in 0..ROUNDS {
        let folder = Folder::new();
        let store = sqlite(&folder).await;
        both(store.clone(), &mut rates, &mut users).await;
        store.close().await;
        peer.push(relay_of_hexeract::rate(THEIRS).await);
    }
    let [idle, beside] = rates;
    report(RELAY_SQLITE, BUTTRESS, idle);
    let (rates, disorder): (Vec<f64>, Vec<u64>) = peer.into_iter().unzip();
    let rate = median(rates).expect("rounds");
    let disorder: u64 = disorder.iter().sum();
    finding(RELAY_SQLITE, HEXERACT, rate, &format!("{rate:.0}/s, {disorder} out of order"));
    report(RELAY_SQLITE_BESIDE, BUTTRESS, beside);
    users.report(WAIT_RELAY, BUTTRESS);
}

async fn on_postgres() {
    let Some(server) = Server::find().await else {
        eprintln!("skipped: relays on PostgreSQL, no server is available");
        return;
    };
    let (mut rates, mut users) = ([Vec::new(), Vec::new()], Users::default());
    for _ in 0..ROUNDS {
        let store = server.store().await;
        both(store.clone(), &mut rates, &mut users).await;
        store.close().await;
    }
    server.drop_schema().await;
    let [idle, beside] = rates;
    report(RELAY_POSTGRES, BUTTRESS, idle);
    report(RELAY_POSTGRES_BESIDE, BUTTRESS, beside);
    users.report(WAIT_POSTGRES, BUTTRESS);
}

pub fn run() {
    let runtime = two_threads();
    runtime.block_on(on_sqlite());
    runtime.block_on(on_postgres());
}
