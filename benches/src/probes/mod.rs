//! The behaviour of the candidates under load: each probe measures one property of every candidate
//! that has it.

pub mod dispatching;
pub mod line;
pub mod opening;
pub mod publishing;
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
pub const DISPATCH: &str = "dispatch: time of a request";
pub const BUS: &str = "bus: time of a message to one subscriber that settles it";
pub const ZERO_BACKOFF: &str = "three attempts, zero backoff";
pub const RATE: &str = "waiting limiter, 8 tasks at 20 000/s: rate reached";
pub const RATE_CPU: &str = "waiting limiter, 8 tasks at 20 000/s: of a core";
pub const RATE_ORDER: &str = "waiting limiter, 8 tasks at 20 000/s: order";
pub const LINE: &str =
    "half a second of waiters, burst 1, 10 to 100 000/s: lowest share of the rate";
pub const POLLS: &str = "2 000 waiters on 1 000/s, polls per grant";

/// Prints one line. `value` is compared with a target, `text` is for the reader.
pub fn finding(probe: &str, candidate: &str, value: f64, text: &str) {
    println!("{probe}\t{candidate}\t{value}\t{text}");
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime")
}

/// Formats a time with three digits and a fitting unit.
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

/// The notes on the findings.
pub const NOTES: &[&str] = &[
    "Tasks: tokio rounds each up to a multiple of 128 bytes, so a few bytes more can cause such \
     a step or none. The report shows the size of the response future too. A boxed future is 16 \
     bytes, and the other figure includes the content of the box.",
    "Refusals are timed one by one, so each figure includes two reads of the clock. \"nothing\" \
     measures those reads alone.",
    "Waiting limiter: each has a burst of 100 unless the name says otherwise, and every task \
     calls again immediately after a yield. Tasks cannot share tower's rate limit without a \
     buffer, so it has no figure. leaky-bucket refills 100 every 5 ms, its fastest setting.",
    "2 000 waiters: the burst is 10. tower-resilience has a window of 100 ms, with which it \
     polls least.",
];
