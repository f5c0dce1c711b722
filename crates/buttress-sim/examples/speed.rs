//! How many requests per second the simulator does, beside the same work on tokio's paused clock.
//!
//! `cargo run --release -p buttress-sim --example speed [requests]`. Of three runs the best is printed: other
//! programs on the same cores can only make it slower. Figures per second of CPU time are beside it where the
//! system tells that time.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the real clock")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use buttress::bulkhead::{self, BulkheadLayer};
use buttress::circuit_breaker::{self, CircuitBreakerLayer};
use buttress::rate_limit::{self, RateLimitLayer};
use buttress::time_limit::{self, TimeLimitLayer};
use buttress::{InvalidConfig, ServiceBuilderExt};
use buttress_sim::{Distribution, Engine, Histogram, Load, Scenario, Seed, Server, World};
use tower::ServiceBuilder;

/// Offered per second of simulated time, to one server that is 70 % busy.
const RATE: f64 = 1000.0;
const WORK: Duration = Duration::from_micros(700);

fn main() {
    let argument = std::env::args().nth(1).and_then(|text| text.parse().ok());
    let requests: u64 = argument.unwrap_or(1_000_000);
    println!("{requests} requests each; mean time in the system {:.3?} in theory", WORK * 10 / 3);
    println!("{:32} {:>12} {:>14} {:>14}", "", "wall 1/s", "CPU 1/s", "mean");
    for (name, engine) in [("own engine", Engine::Own), ("tokio engine", Engine::Tokio)] {
        best(&format!("{name}, open loop"), || open_loop(requests, engine));
        best(&format!("{name}, four layers"), || four_layers(requests, engine));
    }
    if argument.is_none() {
        best("own engine, 10 million", || open_loop(10_000_000, Engine::Own));
    }
    // Before the runs by hand, which have a task for each request.
    if let Some(peak) = proc_number("/proc/self/status", "VmHWM:") {
        println!("most memory used by the simulator: {} MiB", peak / 1024);
    }
    best("tokio's paused clock, by hand", || paused(requests));
}

/// Requests, and their mean time in the system.
type Done = (u64, Duration);

fn best(name: &str, run: impl Fn() -> Done) {
    let runs = if name.contains("million") { 1 } else { 3 };
    let (mut wall, mut cpu, mut mean) = (0f64, 0f64, Duration::ZERO);
    for _ in 0..runs {
        let (start, used) = (Instant::now(), cpu_nanos());
        let (done, of) = run();
        wall = wall.max(done as f64 / start.elapsed().as_secs_f64());
        if let (Some(before), Some(after)) = (used, cpu_nanos()) {
            cpu = cpu.max(done as f64 / ((after - before) as f64 * 1e-9));
        }
        mean = of;
    }
    println!("{name:32} {wall:>12.0} {cpu:>14.0} {mean:>14.3?}");
}

fn scenario(requests: u64, engine: Engine) -> Scenario {
    let duration = Duration::from_secs_f64(requests as f64 / RATE);
    Scenario::new("speed", duration).engine(engine).load(Load::poisson(RATE))
}

fn server() -> Server {
    Server::new("server", Distribution::exponential(WORK))
}

fn open_loop(requests: u64, engine: Engine) -> Done {
    match scenario(requests, engine).run(|world| world.server(server())) {
        Ok(outcome) => (outcome.requests(), outcome.latency().mean()),
        Err(error) => unreachable!("{error}"),
    }
}

fn four_layers(requests: u64, engine: Engine) -> Done {
    let outcome = scenario(requests, engine).run(|world| {
        let Layers { limiter, breaker, bulkhead, limit } = layers(world)?;
        Ok(ServiceBuilder::new()
            .layer(limiter)
            .circuit_breaker(breaker)
            .bulkhead(bulkhead)
            .time_limit(limit)
            .service(world.server(server())?))
    });
    match outcome {
        Ok(outcome) => (outcome.requests(), outcome.latency().mean()),
        Err(error) => unreachable!("{error}"),
    }
}

struct Layers {
    limiter: RateLimitLayer,
    breaker: CircuitBreakerLayer,
    bulkhead: BulkheadLayer,
    limit: TimeLimitLayer,
}

fn layers(world: &World) -> Result<Layers, InvalidConfig> {
    let (clock, watch) = (world.clock(), world.observer());
    let limiter =
        rate_limit::Config::new().max_tokens(10_000).refill(10_000, Duration::from_secs(1));
    let breaker = circuit_breaker::Config::new();
    let bulkhead = bulkhead::Config::new().max_concurrent(1000);
    let limit = time_limit::Config::new(Duration::from_secs(1));
    Ok(Layers {
        limiter: RateLimitLayer::new(limiter.clock(clock.clone()).observer(watch.clone()))?,
        breaker: CircuitBreakerLayer::new(breaker.clock(clock.clone()).observer(watch.clone()))?,
        bulkhead: BulkheadLayer::new(bulkhead.clock(clock.clone()).observer(watch.clone()))?,
        limit: TimeLimitLayer::new(limit.clock(clock).observer(watch))?,
    })
}

/// What one would write without a simulator: a task a request, a semaphore for the server, sleeps. Every sleep
/// is rounded up to a millisecond, so the answer is another one.
fn paused(requests: u64) -> Done {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let Ok(runtime) = runtime else { unreachable!("a runtime without I/O") };
    let seed = Seed::new(0);
    let (gaps, work) = (seed.named("arrivals"), seed.named("work"));
    let gap = Distribution::exponential(Duration::from_secs_f64(1.0 / RATE));
    runtime.block_on(async move {
        let server = Arc::new(tokio::sync::Semaphore::new(1));
        let times = Arc::new(std::sync::Mutex::new(Histogram::new()));
        let mut next = tokio::time::Instant::now();
        let mut last = None;
        for _ in 0..requests {
            next += gap.draw(&gaps);
            tokio::time::sleep_until(next).await;
            let (server, times) = (server.clone(), times.clone());
            let work = Distribution::exponential(WORK).draw(&work);
            last = Some(tokio::spawn(async move {
                let came = tokio::time::Instant::now();
                let permit = server.acquire().await;
                tokio::time::sleep(work).await;
                drop(permit);
                times
                    .lock()
                    .unwrap_or_else(|poisoned| poisoned.into_inner())
                    .record(came.elapsed());
            }));
        }
        if let Some(last) = last {
            let _ = last.await;
        }
        let times = times.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        (times.count(), times.mean())
    })
}

/// The time this process has had on a core.
fn cpu_nanos() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn proc_number(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
