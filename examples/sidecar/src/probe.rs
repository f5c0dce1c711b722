//! Finds out when a child that has started accepts connections.

use std::time::Duration;

use buttress::Clock;
use buttress::time_limit::TimeLimitLayer;
use tokio::net::TcpStream;

use crate::standing::{Service, Standing};

const EVERY: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(1);

/// Connects to `address` while a child starts, until the child accepts. Then it calls `ready`. Runs until it is dropped.
pub(crate) async fn probe(standing: &Standing, address: &str, ready: impl Fn()) {
    let clock = Clock::default();
    let limit = TimeLimitLayer::after(LIMIT).handle();
    let mut changes = standing.changes();
    loop {
        let starting = changes.wait_for(|service| matches!(service, Service::Starting { .. }));
        // The sender is in `standing`, so the wait cannot fail.
        let Ok(Service::Starting { child }) = starting.await.map(|service| *service) else {
            return;
        };
        match limit.run(TcpStream::connect(address)).await {
            Ok(Ok(_)) => {
                ready();
                standing.serves(child);
            }
            _ => clock.sleep(EVERY).await,
        }
    }
}
