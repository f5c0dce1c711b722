//! Runs a shop through outages twice: once with buttress and once without.
//!
//! Each of the two storefronts is an axum service on a loopback port. It calls three services
//! (catalogue, pricing, payment) through hyper clients. The three follow one script: payment goes
//! down, pricing becomes slow, catalogue flaps. A load generator buys from both shops over real
//! sockets at the same rate and records the answers and their times.
//!
//! ```text
//! cargo run --release -p storefront             # about 25 seconds, then a table
//! cargo run --release -p storefront -- --serve  # until Ctrl-C, with a status page
//! cargo run --release -p storefront --features metrics -- --serve  # with /metrics as well
//! ```

mod load;
mod operations;
mod partners;
mod protection;
mod report;
mod shop;
mod upstream;

use std::time::{Duration, Instant};

use buttress::Clock;
#[cfg(feature = "metrics")]
use buttress::telemetry::Sampler;
use tower::BoxError;

use load::Tally;
use partners::Partners;
use protection::Protection;
use upstream::{SCRIPT, Upstreams};

/// Purchases per second at each shop.
const RATE: u32 = 150;
/// An answer after this time counts as late.
const IN_TIME: Duration = Duration::from_millis(500);
/// The customer leaves after this time.
const PATIENCE: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let serve = std::env::args().skip(1).any(|argument| argument == "--serve");
    let clock = Clock::default();
    let start = clock.now();

    // Before the layers are made, so that each registers its counters.
    #[cfg(feature = "metrics")]
    let exporter = if serve { Some(operations::metrics::install()?) } else { None };

    let protection = Protection::from_toml(include_str!("../storefront.toml"), start)?;
    let with_upstreams = Upstreams::start(start, serve).await?;
    let without_upstreams = Upstreams::start(start, serve).await?;
    let (clients, fallbacks) = protection.clients(&with_upstreams)?;
    let partners = Partners::new()?;
    #[cfg(feature = "metrics")]
    let metrics = {
        let sampler = Sampler::new();
        operations::metrics::watch(&protection.registry, &sampler)?;
        fallbacks.iter().for_each(|(_, handle)| sampler.watch(handle.clone()));
        partners.watch(&sampler);
        exporter.map(|exporter| operations::metrics::route(exporter, sampler))
    };
    let with = shop::start(clients, |router| {
        let router = protection.protect(router)?;
        let router = router.merge(operations::routes(&protection, fallbacks, &partners));
        #[cfg(feature = "metrics")]
        let router = router.merge(metrics.unwrap_or_default());
        Ok(router)
    })
    .await?;
    let without = shop::start(protection::bare_clients(&without_upstreams), Ok).await?;

    if serve {
        println!("The shop with buttress:    http://{with}/buy?item=7");
        println!("The shop without buttress: http://{without}/buy?item=7");
        println!("Limits and circuits:       http://{with}/status");
        println!("The same with buttons:     http://{with}/ops (operator, password storefront)");
        #[cfg(feature = "metrics")]
        println!("For Prometheus:            http://{with}/metrics");
        println!("Customers buy from both shops until Ctrl-C.");
        let idle = load::Plan { rate: 20, length: None };
        tokio::select! {
            _ = load::run(with, start, idle, None) => {}
            _ = load::run(without, start, idle, None) => {}
            () = partners.trade() => {}
            stopped = tokio::signal::ctrl_c() => stopped?,
        }
        return Ok(());
    }

    report::script(RATE, SCRIPT);
    let plan = load::Plan { rate: RATE, length: Some(upstream::LENGTH) };
    let (with_tally, without_tally) = (Tally::default(), Tally::default());
    let progress = tokio::spawn(report::progress(
        start,
        protection.clone(),
        with_tally.clone(),
        without_tally.clone(),
    ));
    tokio::join!(
        load::run(with, start, plan, Some(with_tally.clone())),
        load::run(without, start, plan, Some(without_tally.clone())),
    );
    progress.abort();
    report::table(&with_tally, &with_upstreams, &without_tally, &without_upstreams);
    report::transitions(&protection);
    println!("\nTook {:.1} seconds.", since(start).as_secs_f64());
    Ok(())
}

/// Returns the time since `start`.
fn since(start: Instant) -> Duration {
    Clock::default().now().saturating_duration_since(start)
}
