//! How the candidates behave under load: each probe asks one question of everybody who can be asked.

pub mod line;
pub mod opening;
pub mod refusing;
pub mod retrying;
pub mod waiting;
pub mod window;

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

pub const OPENING: &str = "failures in a row to open, after 100 000 successes";
pub const WINDOW: &str = "time window: cost of a call with 10 000 in it over 100";
pub const OPEN: &str = "open breaker refusing on two threads";
pub const FULL: &str = "full bulkhead refusing";
pub const ZERO_BACKOFF: &str = "three attempts, zero backoff";
pub const RATE: &str = "waiting limiter, 8 tasks at 20 000/s: rate reached";
pub const RATE_CPU: &str = "waiting limiter, 8 tasks at 20 000/s: of a core";
pub const RATE_ORDER: &str = "waiting limiter, 8 tasks at 20 000/s: order";
pub const LINE: &str =
    "half a second of waiters, burst 1, 10 to 100 000/s: lowest share of the rate";
pub const POLLS: &str = "2 000 waiters on 1 000/s, polls per grant";

/// One line of the program's output. `value` is what a target is held against, `text` what is read.
pub fn finding(probe: &str, candidate: &str, value: f64, text: &str) {
    println!("{probe}\t{candidate}\t{value}\t{text}");
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime")
}

/// A time with three digits and a unit that fits.
pub fn time(nanos: f64) -> String {
    let (value, unit) = match nanos {
        n if n < 1e3 => (n, "ns"),
        n if n < 1e6 => (n / 1e3, "µs"),
        n => (n / 1e6, "ms"),
    };
    let digits = if value < 10.0 { 1 } else { 0 };
    format!("{value:.digits$} {unit}")
}

fn nanos(time: Duration) -> f64 {
    time.as_nanos() as f64
}

/// What a reader of the findings must know.
pub const NOTES: &[&str] = &[
    "Tasks: tokio rounds each up to a multiple of 128 bytes, so a few bytes can make such a step, and \
     fewer none: the size of the response future stands beside. A boxed one is 16 bytes, and what is in \
     the box is in the other figure.",
    "Refusals are timed one by one, so each figure holds two reads of the clock; \"nothing\" is those \
     alone.",
    "Waiting limiter: each has a burst of 100 where the name does not say otherwise, and every task \
     comes back at once after a yield. tower's rate limit cannot be shared by tasks without a buffer, \
     and has no figure. leaky-bucket refills 100 every 5 ms, with which it is fastest.",
    "2 000 waiters: with a burst of 10; tower-resilience with a window of 100 ms, with which it polls \
     least.",
];
