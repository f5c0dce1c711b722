//! An act: a new service takes over from an old one, customer by customer, while a load runs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use buttress::split::{self, Handle};
use buttress_edge::{Config, Proxy, Route, RouteSplit, Upstream, serve};
use http::StatusCode;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tower::BoxError;

use crate::account::Account;
use crate::admission::FIELD;
use crate::client::{Ask, Client};
use crate::services::Service;

const CLIENTS: u64 = 8;
const CUSTOMERS: u64 = 25;
/// The requests of each customer.
const EACH: u64 = 20;
/// The shares of the new service, and the answers after which they begin.
const STEPS: [(u64, f64); 3] = [(1000, 0.05), (2000, 0.25), (3000, 1.0)];

/// What the clients of the load have seen.
#[derive(Debug, Default)]
struct Seen {
    by_old: AtomicU64,
    by_new: AtomicU64,
    other: AtomicU64,
    /// Customers that went back to the old service.
    returns: AtomicU64,
    answers: watch::Sender<u64>,
}

/// Reads an item as `customer`, and notes who has answered. Returns whether it was the new service.
async fn read(
    client: &Client,
    at: SocketAddr,
    customer: &str,
    seen: &Seen,
) -> Result<bool, BoxError> {
    let (status, by) = client.text(at, Ask::get("/who").with_key(customer)).await?;
    let is_new = by == "new";
    let counter = match by.as_str() {
        "old" if status == StatusCode::OK => &seen.by_old,
        "new" if status == StatusCode::OK => &seen.by_new,
        _ => &seen.other,
    };
    counter.fetch_add(1, Ordering::Relaxed);
    seen.answers.send_modify(|answers| *answers += 1);
    Ok(is_new)
}

/// Sends the requests of some customers in turn.
async fn load(client: Client, at: SocketAddr, first: u64, seen: Arc<Seen>) -> Result<(), BoxError> {
    let mut sides: BTreeMap<u64, bool> = BTreeMap::new();
    for _ in 0..EACH {
        for customer in first..first + CUSTOMERS {
            let is_new = read(&client, at, &format!("customer-{customer}"), &seen).await?;
            let was_new = sides.insert(customer, is_new).unwrap_or(false);
            seen.returns.fetch_add(u64::from(was_new && !is_new), Ordering::Relaxed);
        }
    }
    Ok(())
}

pub(crate) async fn under_load(client: &Client, account: &mut Account) -> Result<(), BoxError> {
    account.act("200 customers read 4000 times; the new service gets 5 %, 25 % and 100 % of them");
    let (old, new) = (Service::named("old", 1).await?, Service::named("new", 1).await?);
    let upstream = |service: &Service| {
        Upstream::fixed(service.instances.iter().map(|one| format!("http://{}", one.address)))
    };
    let share = Handle::new(&split::Config::new().name("shift").count_calls(true))?;
    let split = RouteSplit::new(upstream(&new)?, &share).stick_by_header(FIELD).fall_back();
    let route = Route::new("shift").to(upstream(&old)?).split(split).public();
    let proxy = Proxy::new(Config::new().name("shop"), [route])?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let at = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = serve(listener, proxy.clone()).drain(Duration::from_secs(10)).until(async {
        // A dropped sender begins the drain too.
        drop(stopped.await);
    });
    let serving = tokio::spawn(serving.into_future());

    let seen = Arc::new(Seen::default());
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(load(client.clone(), at, number * CUSTOMERS, seen.clone()));
    }
    let mut answers = seen.answers.subscribe();
    for (after, next) in STEPS {
        // The sender is in `seen`, so the wait cannot fail.
        drop(answers.wait_for(|answers| *answers >= after).await);
        share.share(next)?;
    }
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    let by_new = seen.by_new.load(Ordering::Relaxed);
    let by_old = seen.by_old.load(Ordering::Relaxed);
    let total = by_old + by_new;
    account.check("answers", CLIENTS * CUSTOMERS * EACH, total);
    account.check("answers of the old service, by its own count", requests(&old), by_old);
    account.check("answers of the new service, by its own count", requests(&new), by_new);
    account.check("other answers", 0, seen.other.load(Ordering::Relaxed));
    account.check("customers that went back", 0, seen.returns.load(Ordering::Relaxed));
    let stats = share.stats();
    let counted = stats.old.unwrap_or_default() + stats.new.unwrap_or_default();
    account.check("requests that the split has counted", total, counted);

    let before = requests(&old);
    let mut moved = 0;
    for customer in 0..CLIENTS * CUSTOMERS {
        let customer = format!("customer-{customer}");
        moved += u64::from(read(client, at, &customer, &seen).await?);
    }
    account.check("customers of the new service at the end", CLIENTS * CUSTOMERS, moved);
    account.check("requests that reached the old service since", 0, requests(&old) - before);
    account.sum("shift", "shift", crate::gateway::stats(&proxy, "shift"));
    // The error of a listener that has ended already is not an error here.
    let _ = stop.send(());
    account.check("connections cut off", 0, serving.await?.cut);
    Ok(())
}

fn requests(service: &Service) -> u64 {
    service.facts.requests.load(Ordering::Relaxed)
}
