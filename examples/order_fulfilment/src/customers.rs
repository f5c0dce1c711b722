//! Customers: send their orders, and repeat them until a worker accepts them.

use std::net::SocketAddr;
use std::time::Duration;

use buttress::{Clock, Rng};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::http::{Client, client, post};
use crate::order::Order;

const PATIENCE: Duration = Duration::from_millis(500);

/// Sends `orders` orders to the current worker, and returns after all are accepted. Returns the
/// number of repeated requests.
pub(crate) async fn come(
    orders: i64,
    gap: Duration,
    worker: watch::Receiver<Option<SocketAddr>>,
    rng: &Rng,
) -> u64 {
    let client = client();
    let mut customers = JoinSet::new();
    let mut sent_again = 0;
    for number in 1..=orders {
        let order = Order::draw(number, rng);
        while let Some(again) = customers.try_join_next() {
            sent_again += again.unwrap_or_default();
        }
        customers.spawn(insist(client.clone(), order, worker.clone()));
        Clock::default().sleep(gap).await;
    }
    sent_again + customers.join_all().await.into_iter().sum::<u64>()
}

/// Sends an order until it is accepted. Returns the number of unsuccessful attempts.
async fn insist(
    client: Client,
    order: Order,
    mut worker: watch::Receiver<Option<SocketAddr>>,
) -> u64 {
    let clock = Clock::default();
    let body = serde_json::to_vec(&order).unwrap_or_default();
    for failed in 0.. {
        let address = match worker.wait_for(Option::is_some).await {
            Ok(address) => *address,
            Err(_) => return failed,
        };
        if let Some(address) = address {
            let sent = post(&client, format!("http://{address}/orders"), body.clone(), None);
            tokio::select! {
                biased;
                answer = sent => if answer.is_ok() { return failed },
                () = clock.sleep(PATIENCE) => {}
            }
        }
        clock.sleep(PATIENCE / 10).await;
    }
    0
}
