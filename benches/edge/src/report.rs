//! The report, as Markdown: printed, and written to `EDGE.md`.

use std::fmt::Write;
use std::fs;

use crate::candidates::{
    AXUM, BARE, Backend, ENVOY, FULL, MANY_ROUTES, ONE_ROUTE, PINGORA, ROUTES,
};
use crate::costs::{self, Cost, Costs, RELAY};
use crate::toolchain::{Toolchain, today};
use crate::{Error, instructions, process, root};

const LOCK: &str = include_str!("../Cargo.lock");

/// The head of the column of idle memory.
pub const IDLE_COLUMN: &str = "idle MiB";

const READING: &str = "\
- *CPU* is `utime` and `stime` of the proxy's process per request: a GET with an answer of 1 KiB. 64 connections keep
  the proxy busy. Every proxy has one worker thread, because load and backend need the other core.
- The candidates take turns of a second. The figures are medians of 5 rounds, of 3 for bodies of 1 MiB and the tunnel.
  Compare ratios; another machine has other figures.
- *bare hyper* is a proxy of about twenty lines on hyper and hyper-util's client. It forwards every request unchanged:
  no routes, no limits, no numbers, and the fields of the connection pass. All programs that cargo builds have the same
  profile.
- *buttress, 100 routes* has 100 routes by prefix with a time limit, checks path and host, replaces the forwarded
  fields, reads and writes the context (correlation, trace, deadline), and counts. *All limits* adds admission by an
  API key, a limit per client, a limit of the route, a circuit breaker, a retry that is
  not needed, and a balance over 3 backends.
- nginx, HAProxy, Envoy and pingora have one route and set `X-Forwarded-For`; axum-reverse-proxy has one route. None of
  them writes a log or has a limit.
- *RSS* is the resident memory after the load. *Idle* is the resident memory of a new process with 10 000 connections,
  each after one request. A measurement counts if all of them are still open at its end.
- *Instructions* are those of user space, counted by callgrind, on one connection. System calls are not in them: they
  are about half of the time.
- *Why the targets of CPU are missed.* A request with 100 routes takes about 23 000 instructions more than with bare hyper. A
  profile by callgrind (1 500 requests) finds no single large cost: functions in sources of buttress 8 %, of `http` (maps
  of fields, targets) 11 %, copies of futures and bytes 9 %, the allocator 10 %, SipHash (in the pool of
  hyper-util, which bare hyper has too) 4 %, the clock 2 %. tokio, hyper, hyper-util and inlined code of the standard
  library are the rest. Bare hyper sets no timer, reads no field and counts nothing.
- *Why the target of idle connections is missed.* hyper keeps a buffer of 8 KiB for reads and one for writes of each
  connection of HTTP/1.1 that has had a request, so bare hyper needs more than 100 MiB as well. A connection without a first
  byte has neither. A profile of the heap by massif (200 idle connections) finds these two buffers in both proxies. Besides
  them, a connection of the gateway has about 6 kB, and one of bare hyper 3 kB: the task, the futures of connection and
  limits, the map of fields that hyper keeps for the next request. Pages of a buffer that were never written are not
  resident.
";

/// Measures everything, prints the report and writes it to `EDGE.md`.
pub fn write(without: &[&str]) -> Result<(), Error> {
    let costs = costs::measure(without)?;
    let counted = instructions::count(&Backend::start()?)?;
    let text = text(&costs, counted.as_deref());
    println!("{text}");
    fs::write(root().join("EDGE.md"), text)?;
    Ok(())
}

type Rows<'a> = &'a [(&'static str, f64)];

fn text(costs: &Costs, counted: Option<Rows<'_>>) -> String {
    let Toolchain { rustc, target } = Toolchain::current();
    let mut versions: Vec<String> = ["hyper", "hyper-util", "pingora", AXUM]
        .iter()
        .filter_map(|package| Some(format!("{package} {}", version(LOCK, package)?)))
        .collect();
    versions.extend(costs.versions.iter().cloned());
    let mut text = format!(
        "# The gateway beside other proxies

<!-- Written by `cargo run --release --manifest-path benches/edge/Cargo.toml`. Do not edit. -->

{} · {rustc} · {target} · {}

{}

Load: {}.

",
        today(),
        process::machine(),
        versions.join(" · "),
        costs.load,
    );
    for skipped in &costs.skipped {
        line(&mut text, &format!("Not measured: {skipped}.\n"));
    }
    line(&mut text, "## Targets\n\n| what | measured | target | reached |\n|---|---|---|---|");
    for target in targets(&costs.rows, counted) {
        line(&mut text, &target.to_row());
    }
    let columns = [
        "proxy",
        "CPU us",
        "of bare",
        "requests/s",
        "p99 us",
        "RSS MiB",
        IDLE_COLUMN,
        "1 MiB bodies, MiB/s",
        "tunnel, MiB/s",
    ];
    line(
        &mut text,
        &format!("\n## Costs\n\n| {} |\n{}|", columns.join(" | "), "|---".repeat(columns.len())),
    );
    let bare = find(&costs.rows, BARE).and_then(|row| row.cpu);
    for row in &costs.rows {
        let mebibytes = |kib: Option<f64>| kib.map(|kib| kib / 1024.0);
        let cells = [
            row.name.to_owned(),
            number(row.cpu, 1),
            number(over(row.cpu, bare), 2),
            number(row.requests_per_second, 0),
            number(row.p99_micros, 0),
            number(mebibytes(row.resident), 1),
            number(mebibytes(row.idle), 1),
            number(row.large, 0),
            number(row.tunnel, 0),
        ];
        line(&mut text, &format!("| {} |", cells.join(" | ")));
    }
    match counted {
        None => line(&mut text, "\nInstructions were not counted: valgrind is not installed."),
        Some(rows) => {
            line(
                &mut text,
                "\n## Instructions per request\n\n| proxy | instructions | of bare |\n|---|---|---|",
            );
            let bare = instructions_of(rows, BARE);
            for (name, count) in rows {
                let ratio = number(over(Some(*count), bare), 2);
                line(&mut text, &format!("| {name} | {count:.0} | {ratio} |"));
            }
        }
    }
    let _ = write!(text, "\n## How to read it\n\n{READING}");
    text
}

/// A ratio or a figure, and its bound.
struct Target {
    what: &'static str,
    measured: Option<f64>,
    bound: f64,
    /// Whether the measured value must be at least the bound; otherwise at most.
    at_least: bool,
}

impl Target {
    fn to_row(&self) -> String {
        let Self { what, measured, bound, at_least } = *self;
        let reached = measured.map(|value| if at_least { value >= bound } else { value <= bound });
        let reached = match reached {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "–",
        };
        let (side, measured) = (if at_least { "at least" } else { "at most" }, number(measured, 2));
        format!("| {what} | {measured} | {side} {bound} | {reached} |")
    }
}

fn targets(rows: &[Cost], counted: Option<Rows<'_>>) -> Vec<Target> {
    let ratio = |of: fn(&Cost) -> Option<f64>, one, other| {
        over(find(rows, one).and_then(of), find(rows, other).and_then(of))
    };
    let at_most = |what, measured, bound| Target { what, measured, bound, at_least: false };
    let at_least = |what, measured, bound| Target { what, measured, bound, at_least: true };
    let cpu = |one, other| ratio(|row| row.cpu, one, other);
    let counts = |one, other| {
        counted.and_then(|rows| over(instructions_of(rows, one), instructions_of(rows, other)))
    };
    let idle = find(rows, ROUTES).and_then(|row| row.idle).map(|kib| kib / 1024.0);
    vec![
        at_most("CPU, 100 routes, of bare hyper", cpu(ROUTES, BARE), 1.15),
        at_most("CPU, 100 routes, of pingora", cpu(ROUTES, PINGORA), 1.0),
        at_most("CPU, all limits, of bare hyper", cpu(FULL, BARE), 1.3),
        at_most("CPU, all limits, of axum-reverse-proxy that only routes", cpu(FULL, AXUM), 1.0),
        at_most("CPU, all limits, of Envoy that only routes", cpu(FULL, ENVOY), 1.0),
        at_most("CPU, 500 routes, of 1 route", cpu(MANY_ROUTES, ONE_ROUTE), 1.02),
        at_most("instructions, 500 routes, of 1 route", counts(MANY_ROUTES, ONE_ROUTE), 1.02),
        at_most("RSS, 100 routes, of bare hyper", ratio(|row| row.resident, ROUTES, BARE), 3.0),
        at_most("p99, 100 routes, of bare hyper", ratio(|row| row.p99_micros, ROUTES, BARE), 1.3),
        at_least(
            "bodies of 1 MiB per second, of bare hyper",
            ratio(|row| row.large, ROUTES, BARE),
            0.9,
        ),
        at_least(
            "bytes per second of a tunnel, of a bare copy",
            ratio(|row| row.tunnel, ROUTES, RELAY),
            0.9,
        ),
        of_idle(idle),
    ]
}

fn of_idle(measured: Option<f64>) -> Target {
    Target {
        what: "RSS with 10 000 idle connections, MiB",
        measured,
        bound: 100.0,
        at_least: false,
    }
}

/// Returns the row of the target of idle memory in MiB.
pub fn idle_target(measured: Option<f64>) -> String {
    of_idle(measured).to_row()
}

fn find<'r>(rows: &'r [Cost], name: &str) -> Option<&'r Cost> {
    rows.iter().find(|row| row.name == name)
}

fn instructions_of(rows: Rows<'_>, name: &str) -> Option<f64> {
    rows.iter().find(|(row, _)| *row == name).map(|(_, count)| *count)
}

fn over(value: Option<f64>, other: Option<f64>) -> Option<f64> {
    Some(value? / other?)
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// Returns the version of a package in the text of `Cargo.lock`.
fn version<'l>(lock: &'l str, package: &str) -> Option<&'l str> {
    let start = format!("name = \"{package}\"\nversion = \"");
    let (_, rest) = lock.split_once(&start)?;
    rest.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_reached_at_its_bound_and_open_without_a_figure() {
        let target =
            |measured, at_least| Target { what: "x", measured, bound: 1.1, at_least }.to_row();
        assert_eq!(target(Some(1.1), false), "| x | 1.10 | at most 1.1 | yes |");
        assert_eq!(target(Some(1.2), false), "| x | 1.20 | at most 1.1 | **no** |");
        assert_eq!(target(Some(1.2), true), "| x | 1.20 | at least 1.1 | yes |");
        assert_eq!(target(None, true), "| x | – | at least 1.1 | – |");
    }

    #[test]
    fn every_peer_that_cargo_builds_has_a_version() {
        for package in ["hyper", "hyper-util", "pingora", AXUM] {
            assert!(version(LOCK, package).is_some(), "{package}");
        }
    }
}
