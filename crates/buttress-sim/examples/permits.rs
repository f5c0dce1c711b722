//! How many permits does the bulkhead in front of this database need? How long do calls wait for one, and how long is
//! the queue?
//!
//! `cargo run --release -p buttress-sim --example permits`

use std::error::Error;
use std::fmt::Write;
use std::time::Duration;

use buttress::bulkhead;
use buttress::time_limit;
use buttress_sim::{
    Cause, Distribution, Fault, Faults, Load, Outcome, Rate, Scenario, Server, SimError,
};
use tower::ServiceBuilder;

/// Requests per second.
const BASE: f64 = 120.0;

/// Sends `BASE` requests per second, and 400 per second from the 60th to the 75th second.
fn peak() -> Rate {
    let sec = Duration::from_secs;
    Rate::spike(BASE, 400.0, sec(60), sec(15))
}

/// A query takes 100 ms on average. More than 16 concurrent queries share 16 cores, and each takes
/// longer.
fn database() -> Server {
    Server::new("database", Distribution::exponential(Duration::from_millis(100)))
        .servers(u32::MAX)
        .slowdown(|load| (f64::from(load.running) / 16.0).max(1.0))
}

/// Runs the deployed stack with this number of permits.
fn run(permits: u32, rate: impl Into<Rate>, faults: Faults) -> Result<Outcome, SimError> {
    let scenario = Scenario::new("permits", Duration::from_secs(180)).load(Load::poisson(rate));
    scenario.faults(faults).run(|world| {
        let bulkhead = bulkhead::Config::new().max_concurrent(permits).clock(world.clock());
        let limit = time_limit::Config::new(Duration::from_secs(1)).clock(world.clock());
        Ok(ServiceBuilder::new()
            .layer(bulkhead.build()?)
            .layer(limit.build()?)
            .service(world.server(database())?))
    })
}

pub(crate) fn table() -> Result<String, Box<dyn Error>> {
    let mut table =
        "permits  answered  refused  timed out       p50       p99  refused without the peak\n"
            .to_owned();
    for permits in [8, 12, 16, 20, 24, 32, 64, 256] {
        let outcome = run(permits, peak(), Faults::new())?;
        let steady = run(permits, BASE, Faults::new())?;
        let share = |cause| 100.0 * outcome.share(cause);
        let millis = |q| outcome.latency().quantile(q).as_secs_f64() * 1000.0;
        writeln!(
            table,
            "{permits:>7}  {:>6.1} %  {:>5.1} %  {:>7.1} %  {:>5.0} ms  {:>5.0} ms  {:>22.1} %",
            share(Cause::Ok),
            share(Cause::Full),
            share(Cause::Timeout),
            millis(0.5),
            millis(0.99),
            100.0 * steady.share(Cause::Full),
        )?;
    }
    Ok(table)
}

/// The database becomes three times slower for 30 seconds, at the steady rate.
pub(crate) fn slow() -> Result<String, Box<dyn Error>> {
    let sec = Duration::from_secs;
    let faults = Faults::new().at(sec(60), sec(30), "database", Fault::Slow(3.0));
    let mut table = "permits  answered  refused  timed out       p99  recovered\n".to_owned();
    for permits in [16, 24, 32, 64, 256] {
        let outcome = run(permits, BASE, faults.clone())?;
        let recovered = match outcome.recoveries().first().and_then(|recovery| recovery.after) {
            Some(after) => format!("after {:.1} s", after.as_secs_f64()),
            None => "not in 90 s".to_owned(),
        };
        let share = |cause| 100.0 * outcome.share(cause);
        writeln!(
            table,
            "{permits:>7}  {:>6.1} %  {:>5.1} %  {:>7.1} %  {:>5.0} ms  {recovered}",
            share(Cause::Ok),
            share(Cause::Full),
            share(Cause::Timeout),
            outcome.latency().quantile(0.99).as_secs_f64() * 1000.0,
        )?;
    }
    Ok(table)
}

/// Sends 200 requests per second, each of 40 ms, through a bulkhead in which a thousand calls may wait. Their latency
/// above 40 ms is the wait. Returns the longest queue too.
fn waiting(permits: u32) -> Result<(Outcome, usize), SimError> {
    let scenario = Scenario::new("waits", Duration::from_secs(120)).load(Load::poisson(200.0));
    let mut handle = None;
    let outcome = scenario.run(|world| {
        let config = bulkhead::Config::new().max_concurrent(permits).queue(1000);
        let bulkhead = config.clock(world.clock()).build()?;
        handle = Some(bulkhead.handle());
        let backend = Server::new("backend", Distribution::constant(CALL)).servers(u32::MAX);
        Ok(ServiceBuilder::new().layer(bulkhead.queued()).service(world.server(backend)?))
    })?;
    Ok((outcome, handle.map_or(0, |bulkhead| bulkhead.stats().peak_queued)))
}

/// How long a call takes.
const CALL: Duration = Duration::from_millis(40);

pub(crate) fn waits() -> Result<String, Box<dyn Error>> {
    let mut table = "permits  wait p50  wait p99  longest queue\n".to_owned();
    for permits in [8, 9, 10, 12, 14, 16, 20] {
        let (outcome, longest) = waiting(permits)?;
        let wait = |q| outcome.latency().quantile(q).saturating_sub(CALL).as_secs_f64() * 1000.0;
        let (p50, p99) = (wait(0.5), wait(0.99));
        writeln!(table, "{permits:>7}  {p50:>5.0} ms  {p99:>5.0} ms  {longest:>13}")?;
    }
    Ok(table)
}

#[allow(dead_code, reason = "a test compiles this file as a module")]
fn main() -> Result<(), Box<dyn Error>> {
    print!("{}\n{}\n{}", table()?, slow()?, waits()?);
    Ok(())
}
