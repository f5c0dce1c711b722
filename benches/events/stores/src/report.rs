//! The report, as Markdown: printed, and written to `STORES.md`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::bench::{Error, LENGTH, TIME, WRITERS};
use crate::commands::Rate;
use crate::toolchain::{Toolchain, today};
use crate::{loading, on_postgres, on_sqlite, process};

pub struct All {
    pub server: on_postgres::Server,
    pub postgres: on_postgres::Found,
    pub loads: loading::Found,
    pub commands: Vec<Rate>,
    pub sqlite: on_sqlite::Found,
}

/// A measured number and its bound.
struct Target {
    what: &'static str,
    measured: f64,
    bound: f64,
    is_least: bool,
    note: String,
}

impl Target {
    fn at_most(what: &'static str, measured: f64, bound: f64, note: String) -> Self {
        Self { what, measured, bound, is_least: false, note }
    }

    fn at_least(what: &'static str, measured: f64, bound: f64, note: String) -> Self {
        Self { is_least: true, ..Self::at_most(what, measured, bound, note) }
    }

    fn is_reached(&self) -> bool {
        // As it is printed: 0.75 reaches 0.75.
        let measured = (self.measured * 100.0).round() / 100.0;
        if self.is_least { measured >= self.bound } else { measured <= self.bound }
    }
}

fn targets(All { postgres, loads, sqlite, .. }: &All) -> [Target; 7] {
    let rates = |ours: f64, other: f64| format!("{ours:.0} and {other:.0} appends/s");
    let times = |found: &loading::Found| format!("{:.0} and {:.0} µs", found.ours, found.raw);
    let on_postgres::Found { plain, counted, ours, alone, lag } = postgres;
    [
        Target::at_least(
            "PostgreSQL: appends, of a plain insert, while two projections follow",
            ours / plain,
            0.75,
            format!("{}; {alone:.0} without projections", rates(*ours, *plain)),
        ),
        Target::at_most(
            "PostgreSQL: ms from the call of an append to the handler of a projection, 99 of 100",
            *lag,
            100.0,
            String::new(),
        ),
        Target::at_least(
            "PostgreSQL: appends, of inserts with a locked counter row",
            ours / counted,
            3.0,
            rates(*ours, *counted),
        ),
        Target::at_most(
            "PostgreSQL: a load of 100 events, of the same query by hand",
            loads.ours / loads.raw,
            1.2,
            times(loads),
        ),
        Target::at_least("SQLite, FULL: appends/s", sqlite.appends, 3_000.0, String::new()),
        Target::at_least(
            "SQLite, FULL: events/s of a projection that writes a row per event",
            sqlite.projected,
            20_000.0,
            String::new(),
        ),
        Target::at_most(
            "SQLite: a load of 100 events, of the same query by hand",
            sqlite.loads.ours / sqlite.loads.raw,
            1.2,
            times(&sqlite.loads),
        ),
    ]
}

/// Prints the figures and writes them.
pub fn write(all: &All, rounds: usize) -> Result<(), Error> {
    let Toolchain { rustc, target } = Toolchain::current();
    let machine = process::machine();
    let mut text = format!(
        "# The event store beside plain statements and other crates

<!-- Written by `cargo run --release --manifest-path benches/events/stores/Cargo.toml`. Do not edit. -->

{} · {rustc} · {target} · {machine}

## Targets

| what | measured | target | reached | ours and the other |
|---|---|---|---|---|
",
        today(),
    );
    for target in targets(all) {
        let Target { what, measured, bound, is_least, note } = &target;
        let side = if *is_least { "at least" } else { "at most" };
        let reached = if target.is_reached() { "yes" } else { "**no**" };
        writeln!(text, "| {what} | {measured:.2} | {side} {bound} | {reached} | {note} |")?;
    }
    text.push_str(
        "\n## Commands on PostgreSQL\n\n| crate | commands/s | least to most |\n|---|---|---|\n",
    );
    for Rate { name, rate, least, most } in &all.commands {
        writeln!(text, "| {name} | {rate:.0} | {least:.0} to {most:.0} |")?;
    }
    let seconds = TIME.as_secs();
    let on_postgres::Server { version, fsync, synchronous_commit } = &all.server;
    write!(
        text,
        "
## How to read it

- {WRITERS} writers append one event of 200 bytes at a time, each to its own streams of {LENGTH} events. The figures are
  medians of {rounds} rounds of {seconds} seconds. The candidates take turns.
- *A plain insert* is one statement. It writes to a table that has the columns and the indexes of our events. A unique
  constraint is its only check of the version, and a reader cannot follow its events in one order.
- *A locked counter row* is one statement too. It raises a counter, and the row stays locked until the commit.
- Server, writers and projections share the cores. Beside a plain insert, an append also raises the version of its stream,
  in the same statement. The projections write a row of the order for each event, and each of them reads every event.
  *Without projections* is the rate when none follows.
- One of the two projections is in the process of the writers, which wake it. The other one is on another store and polls
  every 100 ms. Each of them gives positions to events. The *lag* is the lag of the first one, and has the append in it.
- *A load* ends with the state of the aggregate: the query, the JSON of 100 events, and their sum.
- *A command* loads an aggregate of up to {LENGTH} events, decides, and appends one event with the version that was loaded.
  The other crates are a separate program on the same server, with the same number of connections. None of them has
  snapshots, handlers or projections here. disintegrate gives its events an order at the append, buttress when they are
  read, cqrs-es and esrs have none. disintegrate refuses some commands because of others for
  other streams: its program repeats those.
- The server is PostgreSQL {version}, with fsync = {fsync} and synchronous_commit = {synchronous_commit}, for every candidate.
"
    )?;
    println!("{text}");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("STORES.md");
    Ok(fs::write(file, text)?)
}
