//! How many permits does the bulkhead in front of this database need? And how long do calls wait for one?
//!
//! `cargo run --release -p buttress-sim --example permits`

use std::error::Error;
use std::fmt::Write;
use std::time::Duration;

use buttress::bulkhead;
use buttress::time_limit;
use buttress_sim::{Cause, Distribution, Load, Outcome, Rate, Scenario, Server, SimError};
use tower::ServiceBuilder;

/// Sends 120 requests per second, and 400 per second from the 60th to the 75th second.
fn scenario() -> Scenario {
    let (sec, base, peak) = (Duration::from_secs, 120.0, 400.0);
    Scenario::new("permits", sec(180)).load(Load::poisson(Rate::spike(
        base,
        peak,
        sec(60),
        sec(15),
    )))
}

/// A query takes 100 ms on average. More than 16 concurrent queries share 16 cores, and each takes
/// longer.
fn database() -> Server {
    Server::new("database", Distribution::exponential(Duration::from_millis(100)))
        .servers(u32::MAX)
        .slowdown(|load| (f64::from(load.running) / 16.0).max(1.0))
}

/// Runs the deployed stack with this number of permits.
fn run(permits: u32) -> Result<Outcome, SimError> {
    scenario().run(|world| {
        let bulkhead = bulkhead::Config::new().max_concurrent(permits).clock(world.clock());
        let limit = time_limit::Config::new(Duration::from_secs(1)).clock(world.clock());
        Ok(ServiceBuilder::new()
            .layer(bulkhead.build()?)
            .layer(limit.build()?)
            .service(world.server(database())?))
    })
}

pub(crate) fn table() -> Result<String, Box<dyn Error>> {
    let mut table = "permits  answered  refused  timed out       p50       p99\n".to_owned();
    for permits in [8, 12, 16, 20, 24, 32, 64, 256] {
        let outcome = run(permits)?;
        let share = |cause| 100.0 * outcome.share(cause);
        let millis = |q| outcome.latency().quantile(q).as_secs_f64() * 1000.0;
        writeln!(
            table,
            "{permits:>7}  {:>6.1} %  {:>5.1} %  {:>7.1} %  {:>5.0} ms  {:>5.0} ms",
            share(Cause::Ok),
            share(Cause::Full),
            share(Cause::Timeout),
            millis(0.5),
            millis(0.99),
        )?;
    }
    Ok(table)
}

/// Sends 200 requests per second, each of 40 ms, through a bulkhead in which a thousand calls may wait. Their latency
/// above 40 ms is the wait.
fn waiting(permits: u32) -> Result<Outcome, SimError> {
    let scenario = Scenario::new("waits", Duration::from_secs(120)).load(Load::poisson(200.0));
    scenario.run(|world| {
        let bulkhead =
            bulkhead::Config::new().max_concurrent(permits).queue(1000).clock(world.clock());
        let backend = Server::new("backend", Distribution::constant(CALL)).servers(u32::MAX);
        Ok(ServiceBuilder::new().layer(bulkhead.build()?.queued()).service(world.server(backend)?))
    })
}

/// How long a call takes.
const CALL: Duration = Duration::from_millis(40);

pub(crate) fn waits() -> Result<String, Box<dyn Error>> {
    let mut table = "permits  wait p50  wait p99\n".to_owned();
    for permits in [8, 9, 10, 12, 14, 16, 20] {
        let outcome = waiting(permits)?;
        let wait = |q| outcome.latency().quantile(q).saturating_sub(CALL).as_secs_f64() * 1000.0;
        writeln!(table, "{permits:>7}  {:>5.0} ms  {:>5.0} ms", wait(0.5), wait(0.99),)?;
    }
    Ok(table)
}

#[allow(dead_code, reason = "a test compiles this file as a module")]
fn main() -> Result<(), Box<dyn Error>> {
    print!("{}\n{}", table()?, waits()?);
    Ok(())
}
