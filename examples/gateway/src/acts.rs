//! The acts before the restart. Each sends a known number of requests.

use std::sync::atomic::Ordering;

use buttress::VirtualClock;
use http::StatusCode;
use tokio::task::{JoinSet, yield_now};
use tower::BoxError;

use crate::account::Account;
use crate::admission::{ANN, BOB, ENDED};
use crate::client::{Ask, Client};
use crate::gateway::{EXPORTS, FAILURES, Gateway, OPEN_FOR, REPORTS};
use crate::services::{Service, Services};

const ORDER: &str = "/api/orders/items/7";
const PRICE: &str = "/api/prices/items/7";
const REPORT: &str = "/api/reports/items/7";
const EXPORT: &str = "/api/exports/held";

fn requests(service: &Service) -> u64 {
    service.facts.requests.load(Ordering::Relaxed)
}

/// Eight clients call both services at the same time.
pub(crate) async fn calm(
    client: &Client,
    gateway: &Gateway,
    services: &Services,
    account: &mut Account,
) -> Result<(), BoxError> {
    account.act("Eight clients, 250 times each: read an order, place an order, read a price");
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let (client, at) = (client.clone(), gateway.address);
        clients.spawn(async move {
            let read = Ask::get(ORDER).with_key(ANN);
            let place = Ask { path: "/api/orders/items", key: Some(BOB), body: Some("{}") };
            let mut good = [0; 3];
            for _ in 0..250 {
                let answers = [
                    (read, StatusCode::OK),
                    (place, StatusCode::CREATED),
                    (Ask::get(PRICE), StatusCode::OK),
                ];
                for (good, (ask, wanted)) in good.iter_mut().zip(answers) {
                    *good += u64::from(client.ask(at, ask).await? == wanted);
                }
            }
            Ok::<_, BoxError>(good)
        });
    }
    let mut sums = [0; 3];
    while let Some(good) = clients.join_next().await {
        for (sum, good) in sums.iter_mut().zip(good??) {
            *sum += good;
        }
    }
    let [read, placed, priced] = sums;
    account.check("orders read", 2000, read);
    account.check("orders placed", 2000, placed);
    account.check("prices read", 2000, priced);
    account.check("answers of the route orders", 4000, gateway.stats("orders").answered);
    account.check("requests that reached the service orders", 4000, requests(&services.orders));
    account.check("requests that reached the service prices", 2000, requests(&services.prices));
    Ok(())
}

/// Requests that the gateway answers itself. None of them reaches a service.
pub(crate) async fn refused(
    client: &Client,
    gateway: &Gateway,
    services: &Services,
    account: &mut Account,
) -> Result<(), BoxError> {
    account.act("Requests that no service may see");
    let at = gateway.address;
    let before = requests(&services.orders) + requests(&services.prices);
    let cases = [
        ("without a key (401)", Ask::get(ORDER), StatusCode::UNAUTHORIZED),
        ("with an ended key (401)", Ask::get(ORDER).with_key(ENDED), StatusCode::UNAUTHORIZED),
        ("with a wrong key (401)", Ask::get(ORDER).with_key("guess"), StatusCode::UNAUTHORIZED),
        ("without a route (404)", Ask::get("/api/basket"), StatusCode::NOT_FOUND),
        ("with dot segments (400)", Ask::get("/api/prices/../orders"), StatusCode::BAD_REQUEST),
        ("with an encoded slash (400)", Ask::get("/api/prices%2fx"), StatusCode::BAD_REQUEST),
    ];
    for (what, ask, status) in cases {
        let [found] = client.ask_times(at, 50, ask, [status]).await?;
        account.check(what, 50, found);
    }
    let refused = gateway.stats("orders").refused;
    account.check("refusals of the route orders", 150, refused.unauthenticated);
    account.check("requests without a route", 150, gateway.proxy.unrouted());
    let after = requests(&services.orders) + requests(&services.prices);
    account.check("of these reached a service", 0, after - before);
    Ok(())
}

/// A limit per client, and a limit of concurrent requests.
pub(crate) async fn limits(
    client: &Client,
    gateway: &Gateway,
    services: &Services,
    account: &mut Account,
) -> Result<(), BoxError> {
    account.act("Limits: 20 reports per minute and client, 4 exports at the same time");
    let at = gateway.address;
    let both = [StatusCode::OK, StatusCode::TOO_MANY_REQUESTS];
    let ann = Ask::get(REPORT).with_key(ANN);
    let [good, limited] = client.ask_times(at, u64::from(REPORTS) + 10, ann, both).await?;
    account.check("reports of ann", REPORTS.into(), good);
    account.check("too many reports of ann (429)", 10, limited);
    let bob = Ask::get(REPORT).with_key(BOB);
    let [good, limited] = client.ask_times(at, REPORTS.into(), bob, both).await?;
    account.check("reports of bob", REPORTS.into(), good);
    account.check("too many reports of bob (429)", 0, limited);

    let gate = &services.prices.facts.gate;
    let mut exports = JoinSet::new();
    for _ in 0..EXPORTS {
        let client = client.clone();
        exports.spawn(async move { client.ask(at, Ask::get(EXPORT)).await });
    }
    gate.reached(EXPORTS.into()).await;
    let full = [StatusCode::SERVICE_UNAVAILABLE];
    let [refused] = client.ask_times(at, 10, Ask::get(EXPORT), full).await?;
    account.check("exports beside 4 others (503)", 10, refused);
    gate.open();
    let mut good = 0;
    while let Some(status) = exports.join_next().await {
        good += u64::from(status?? == StatusCode::OK);
    }
    gate.close();
    account.check("exports that were in time", EXPORTS.into(), good);
    account.check(
        "refusals for want of a permit",
        10,
        gateway.stats("exports").refused.at_capacity,
    );
    Ok(())
}

/// Clients that leave before the answer.
pub(crate) async fn clients_leave(
    client: &Client,
    gateway: &Gateway,
    services: &Services,
    account: &mut Account,
) -> Result<(), BoxError> {
    account.act("Three clients leave before the answer");
    let gate = &services.prices.facts.gate;
    let mut exports = JoinSet::new();
    for _ in 0..3 {
        let (client, at) = (client.clone(), gateway.address);
        exports.spawn(async move { client.ask(at, Ask::get(EXPORT)).await });
    }
    gate.reached(3).await;
    exports.shutdown().await;
    // The service sees that its requests are gone.
    gate.reached(0).await;
    // The connection of a client may end on another thread.
    while gateway.stats("exports").in_flight > 0 {
        yield_now().await;
    }
    let stats = gateway.stats("exports");
    account.check("abandoned", 3, stats.abandoned);
    account.check("failures of the service for it", 0, stats.failed);
    gate.open();
    let [good] = client
        .ask_times(gateway.address, EXPORTS.into(), Ask::get(EXPORT), [StatusCode::OK])
        .await?;
    gate.close();
    account.check("exports afterwards: their permits are free", EXPORTS.into(), good);
    Ok(())
}

/// A resource that fails at every tenth request.
pub(crate) async fn retries(
    client: &Client,
    gateway: &Gateway,
    services: &Services,
    account: &mut Account,
) -> Result<(), BoxError> {
    account.act("A resource fails at every tenth request; its route makes two attempts");
    let before = requests(&services.orders);
    let ask = Ask::get("/api/stock/flaky");
    let [good] = client.ask_times(gateway.address, 90, ask, [StatusCode::OK]).await?;
    account.check("answers", 90, good);
    account.check("requests that reached the service", 100, requests(&services.orders) - before);
    Ok(())
}

/// One instance of orders stops, and then the only instance of prices.
pub(crate) async fn outages(
    client: &Client,
    gateway: &Gateway,
    services: &mut Services,
    clock: &VirtualClock,
    account: &mut Account,
) -> Result<(), BoxError> {
    let at = gateway.address;
    account.act("One of two instances of orders is down");
    services.orders.stop_first().await;
    let ask = Ask::get(ORDER).with_key(ANN);
    let [good] = client.ask_times(at, 400, ask, [StatusCode::OK]).await?;
    account.check("orders read", 400, good);
    services.orders.restart_first().await?;

    account.act("The only instance of prices is down; 5 failures open the circuit for 10 s");
    services.prices.stop_first().await;
    let three = [StatusCode::OK, StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE];
    let [good, failed, refused] = client.ask_times(at, 100, Ask::get(PRICE), three).await?;
    account.check("prices read", 0, good);
    account.check("failed (502)", FAILURES.into(), failed);
    account.check("refused by the circuit (503)", 100 - u64::from(FAILURES), refused);
    let refused = gateway.stats("prices").refused.circuit_open;
    account.check("refusals of the route prices", 100 - u64::from(FAILURES), refused);
    services.prices.restart_first().await?;
    clock.advance(OPEN_FOR);
    let [good] = client.ask_times(at, 100, Ask::get(PRICE), [StatusCode::OK]).await?;
    account.check("prices read 10 seconds later", 100, good);
    account.check("times that the circuit opened", 1, gateway.circuit.stats().opened);
    Ok(())
}
