//! A service pauses for one second. The policy of its clients decides whether it recovers.
//!
//! The program runs seven client policies against the same service, load and pause, for ten
//! simulated minutes each: `cargo run --release -p retry_storm`. It prints a table and writes a
//! page with charts. It fails if a policy recovers that should not, or the reverse.

mod policies;

use std::path::PathBuf;
use std::time::Duration;

use buttress_sim::{Fault, Faults, Load, PhaseKind, Report, Scenario, SimError, sweep};

use policies::{POLICIES, Policy};

const INTRO: &str = "A service with 20 servers and 40 ms of work per call has a capacity of 500 calls per second. \
    Clients send 330 calls per second, with a time limit of half a second per attempt. At second 60 the service \
    pauses for one second. Afterwards it is as fast as before.\n\n\
    Retries turn each call that timed out into four calls. The service works through a queue of calls whose \
    clients have left. Every new call times out behind them and is repeated, so the overload persists. \
    Jitter spreads the retries but does not reduce their number, so it does not help. Two things help: fewer \
    retries (a budget), or fewer calls while the service does not answer (a circuit breaker, a concurrency limit).";

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
        Report::new("One second of pause: seven clients and a retry storm").intro(INTRO);
    for outcome in outcomes {
        report = report.add(outcome);
    }
    println!("A service pauses from second 60 to 61 of 600. Afterwards it is as fast as before.\n");
    println!("{}", report.to_text());
    let path = directory().join("retry_storm.html");
    report.write_html(&path)?;
    println!("charts: {}", path.display());
    // The claims of the page must match the results.
    for (policy, outcome) in POLICIES.iter().zip(report.outcomes()) {
        let stays_down = outcome.ended_in() == PhaseKind::Metastable;
        if stays_down == policy.recovers() {
            return Err(format!("{} is {:?} at the end", policy.name(), outcome.ended_in()).into());
        }
    }
    Ok(())
}

/// Returns the target directory of cargo if it exists, or the current directory.
fn directory() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    if target.is_dir() { target } else { PathBuf::from(".") }
}
