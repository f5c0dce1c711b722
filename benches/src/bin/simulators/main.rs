//! How many requests per second simulators do: this one on its two engines, what one would write by hand on tokio's
//! paused clock, and turmoil. The same work for all: requests at random times to one server that is 70 % busy.
//!
//! `cargo run --profile measure --manifest-path benches/Cargo.toml --features simulators --bin simulators [requests]`.
//! Of three runs the best is printed: other programs on the same cores can only make it slower. Figures per
//! second of CPU time are beside it where the system tells that time. The mean time in the system tells how exact
//! a simulator is: whatever waits on tokio's clock is rounded up to a millisecond.
#![allow(
    clippy::disallowed_methods,
    reason = "a program for the developers of buttress: it reads time"
)]

mod by_hand;
mod in_turmoil;
mod ours;

use std::time::{Duration, Instant};

use buttress_sim::Engine;

/// Offered per second of simulated time, to one server that is 70 % busy.
const RATE: f64 = 1000.0;
const WORK: Duration = Duration::from_micros(700);

/// Requests, and their mean time in the system.
type Done = (u64, Duration);

fn main() {
    let argument = std::env::args().nth(1).and_then(|text| text.parse().ok());
    let requests: u64 = argument.unwrap_or(1_000_000);
    println!("{requests} requests each; mean time in the system {:.3?} in theory", WORK * 10 / 3);
    println!("{:32} {:>12} {:>14} {:>14}", "", "wall 1/s", "CPU 1/s", "mean");
    for (name, engine) in [("own engine", Engine::Own), ("tokio engine", Engine::Tokio)] {
        best(&format!("{name}, open loop"), || ours::open_loop(requests, engine));
        best(&format!("{name}, four layers"), || ours::four_layers(requests, engine));
        best(&format!("{name}, over a link"), || ours::over_a_link(requests, engine));
    }
    if argument.is_none() {
        best("own engine, 10 million", || ours::open_loop(10_000_000, Engine::Own));
    }
    // Before the others, which have a task for each request.
    if let Some(peak) = proc_number("/proc/self/status", "VmHWM:") {
        println!("most memory used so far: {} MiB", peak / 1024);
    }
    best("tokio's paused clock, by hand", || by_hand::run(requests));
    best("turmoil, a datagram each way", || in_turmoil::run(requests));
}

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
