//! tmp
use buttress::{ServiceBuilderExt, bulkhead, circuit_breaker, rate_limit, retry, time_limit};
use buttress_sim::*;
use std::time::Duration;
use tower::ServiceBuilder;

fn main() {
    let n = std::env::args().nth(1).map_or(2_000_000, |n| n.parse().unwrap());
    for engine in [Engine::Own] {
        #[allow(clippy::disallowed_methods)]
        let t = std::time::Instant::now();
        let s = Scenario::new("open", Duration::from_secs(n / 1000))
            .engine(engine)
            .load(Load::poisson(1000.0));
        let o = s
            .run(|w| {
                w.server(Server::new("s", Distribution::exponential(Duration::from_micros(700))))
            })
            .unwrap();
        #[allow(clippy::disallowed_methods)]
        let e = t.elapsed().as_secs_f64();
        println!(
            "{engine:?} open {} {:.0}/s mean {:?}",
            o.requests(),
            o.requests() as f64 / e,
            o.latency().mean()
        );
        #[allow(clippy::disallowed_methods)]
        let t = std::time::Instant::now();
        let o = s
            .run(|w| {
                let st = w.server(Server::new(
                    "s",
                    Distribution::exponential(Duration::from_micros(700)),
                ))?;
                let c = w.clock();
                Ok(ServiceBuilder::new()
                    .layer(rate_limit::RateLimitLayer::new(
                        rate_limit::Config::new()
                            .max_tokens(100000)
                            .refill(5000, Duration::from_secs(1))
                            .clock(c.clone())
                            .observer(w.observer()),
                    )?)
                    .circuit_breaker(circuit_breaker::CircuitBreakerLayer::new(
                        circuit_breaker::Config::new().clock(c.clone()).observer(w.observer()),
                    )?)
                    .bulkhead(bulkhead::BulkheadLayer::new(
                        bulkhead::Config::new()
                            .max_concurrent(1000)
                            .clock(c.clone())
                            .observer(w.observer()),
                    )?)
                    .time_limit(time_limit::TimeLimitLayer::new(
                        time_limit::Config::new(Duration::from_secs(1))
                            .clock(c.clone())
                            .observer(w.observer()),
                    )?)
                    .service(st))
            })
            .unwrap();
        #[allow(clippy::disallowed_methods)]
        let e = t.elapsed().as_secs_f64();
        println!(
            "{engine:?} four layers {} {:.0}/s mean {:?}",
            o.requests(),
            o.requests() as f64 / e,
            o.latency().mean()
        );
    }
    let _ = retry::RetryLayer::default();
}
