//! The speed of simulators in requests per second: buttress-sim on its two engines, a program on
//! tokio's paused clock, turmoil, and SimPy if it is installed. All do the same work: random
//! requests to one server that is 70 % busy. Tab-separated: what, who, requests per second of CPU
//! time, text.
//!
//! `cargo run --profile measure --manifest-path benches/Cargo.toml --features simulators --bin simulators [requests]`.
#![allow(
    clippy::disallowed_methods,
    reason = "a program for the developers of buttress: it reads time"
)]

mod by_hand;
mod in_simpy;
mod in_turmoil;
mod ours;

use std::time::Duration;

use buttress_benches::process::cpu_nanos;
use buttress_benches::simulated::{BY_HAND, LAYERS, LINK, ON_TOKIO, OWN, QUEUE, SIMPY, TURMOIL};
use buttress_sim::Engine;

/// Requests per second of simulated time, to one server that is 70 % busy.
const RATE: f64 = 1000.0;
const WORK: Duration = Duration::from_micros(700);
const REQUESTS: u64 = 1_000_000;
const RUNS: u32 = 3;

/// The requests, and their mean time in the system.
type Done = (u64, Duration);

/// One simulation.
#[derive(Clone, Copy)]
struct Run {
    /// Requests per second of CPU time.
    per_second: f64,
    mean: Duration,
}

fn main() {
    let argument = std::env::args().nth(1).and_then(|text| text.parse().ok());
    let requests: u64 = argument.unwrap_or(REQUESTS);
    for (name, engine) in [(OWN, Engine::Own), (ON_TOKIO, Engine::Tokio)] {
        best(QUEUE, name, || timed(|| ours::open_loop(requests, engine)));
        best(LAYERS, name, || timed(|| ours::four_layers(requests, engine)));
        best(LINK, name, || timed(|| ours::over_a_link(requests, engine)));
    }
    best(QUEUE, BY_HAND, || timed(|| by_hand::run(requests)));
    best(LINK, TURMOIL, || timed(|| in_turmoil::run(requests)));
    best(QUEUE, SIMPY, || in_simpy::run(requests / 10));
}

fn timed(run: impl Fn() -> Done) -> Option<Run> {
    let began = cpu_nanos()?;
    let (done, mean) = run();
    let used = cpu_nanos()? - began;
    Some(Run { per_second: done as f64 / (used * 1e-9), mean })
}

/// Prints the fastest of several runs, unless there is none.
fn best(what: &str, who: &str, run: impl Fn() -> Option<Run>) {
    let runs = (0..RUNS).map_while(|_| run());
    if let Some(Run { per_second, mean }) =
        runs.max_by(|one, other| one.per_second.total_cmp(&other.per_second))
    {
        let theory = WORK * 10 / 3;
        println!("{what}\t{who}\t{per_second}\t{per_second:.0}/s, mean {mean:.2?} of {theory:.2?}");
    }
}
