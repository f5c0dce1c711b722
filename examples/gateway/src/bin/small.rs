//! A gateway with two backends.

use std::time::Duration;

use buttress::{circuit_breaker, rate_limit, retry};
use buttress_edge::{ApiKey, ApiKeys, Config, Proxy, Route, Upstream, serve};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let partner = ApiKey::sha256(&std::env::var("KEY_SHA256")?, "partner-7")?;
    let second = Duration::from_secs(1);
    let rate = rate_limit::Config::new().max_tokens(1000).refill(1000, second).build()?;
    let circuit = circuit_breaker::Config::new().failure_rate(0.5).build()?;
    let orders = Route::new("orders")
        .prefix("/api/orders")
        .strip("/api")
        .to(Upstream::fixed(["http://127.0.0.1:8001", "http://127.0.0.1:8002"])?)
        .admit(ApiKeys::new("x-api-key", [partner])?)
        .rate_limit(rate.handle())
        .circuit_breaker(circuit.handle())
        .retry(retry::Config::new().attempts(2))
        .time_limit(Duration::from_secs(10));
    let gateway = Proxy::new(Config::new(), [orders])?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    serve(listener, gateway).drain(Duration::from_secs(30)).until(stop).await;
    Ok(())
}
