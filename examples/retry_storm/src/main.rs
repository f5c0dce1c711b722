//! A service stands still for one second. What its clients do then decides whether it ever comes back.
//!
//! Seven client policies meet the same service, the same load and the same pause, for ten simulated minutes
//! each: `cargo run --release -p retry_storm`. It prints a table, writes a page with charts, and ends; with
//! failure, if others recover than it says.

mod policies;

use std::path::PathBuf;
use std::time::Duration;

use buttress_sim::{Fault, Faults, Load, PhaseKind, Report, Scenario, SimError, sweep};

use policies::{POLICIES, Policy};

const INTRO: &str = "A service with 20 servers and 40 ms of work per call could answer 500 calls per second. \
    Clients ask 330 times per second, and give up on an attempt after half a second. At second 60 the service \
    stands still for one second, and is then as well as before.\n\n\
    Retries turn the calls that timed out into four calls each. The service works through a queue of calls \
    that nobody waits for any more, every new call times out behind them and is repeated, and so it stays. \
    Jitter spreads the retries; it does not make them fewer, and so it cures nothing. What does: fewer \
    retries (a budget), or fewer calls while nothing comes back (a circuit breaker, a concurrency limit).";

fn scenario(policy: Policy) -> Scenario {
    let sec = Duration::from_secs;
    Scenario::new(policy.name(), sec(600))
        .seed(2024)
        .window(sec(1))
        .load(Load::poisson(330.0))
        .faults(Faults::new().at(sec(60), sec(1), policies::SERVICE, Fault::Pause))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let outcomes = sweep(&POLICIES, 0, |policy| scenario(*policy).run(|world| policy.stack(world)));
    let outcomes = outcomes.into_iter().collect::<Result<Vec<_>, SimError>>()?;
    let mut report =
        Report::new("One second of silence: seven clients and a retry storm").intro(INTRO);
    for outcome in outcomes {
        report = report.add(outcome);
    }
    println!(
        "A service stands still from second 60 to 61 of 600, and is then as well as before.\n"
    );
    println!("{}", report.to_text());
    let path = directory().join("retry_storm.html");
    report.write_html(&path)?;
    println!("charts: {}", path.display());
    // What the page says of it must be what happened.
    for (policy, outcome) in POLICIES.iter().zip(report.outcomes()) {
        let stays_down = outcome.ended_in() == PhaseKind::Metastable;
        if stays_down == policy.recovers() {
            return Err(format!("{} is {:?} in the end", policy.name(), outcome.ended_in()).into());
        }
    }
    Ok(())
}

/// Where cargo builds, if there is such a place, or here.
fn directory() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    if target.is_dir() { target } else { PathBuf::from(".") }
}
