//! The report, as Markdown.

use std::fmt::Write;

use super::cells::{count, digits, line, or_none, ratio, table};
use super::figures::{Finding, Line};
use super::lockfile::versions;
use super::reached;
use super::results::Results;
use super::size;
use super::{chart, contention};
use crate::patterns::{self, FLOOR};
use crate::spread::Spread;
use crate::{durable, probes, process, simulated};

const READING: &str = "\
Every candidate wraps the same service, `u64 -> u64`, which answers immediately. Each is built before the
measurement, in its fastest configuration for the guarantee of the row. The *floor* is the least code that
keeps the guarantee for that path alone, with its state in one `Arc`: no configuration, no events, no guard
against panics. It is not a library. It shows how much of a cost the pattern needs.

- *Instructions* are counted by callgrind and repeatable to within a per cent. They exclude caches,
  contention and the kernel. Under valgrind a read of the system's clock is a call of the kernel, so it
  looks cheaper than its 20 ns, and cheaper than a library's own clock.
- *ns* are medians of interleaved rounds. Compare ratios; another machine has other figures.
- *ns, 2 thr* is the time of a call when two threads make calls on clones of one instance: the median, and
  the quartiles in brackets. Rounds in which the machine did not run both threads concurrently are left
  out. A – means that too few rounds were left, or that the candidate is not Clone. A call that waits for the
  other thread is polled in a loop, where a runtime would park the task.
  On a virtual machine the time in which two cores exchange a cache line can double from one row to the
  next: compare within a row.
- *future* is the size of the response future; a boxed one is 16 bytes and an allocation.
- *idle* is the heap that one instance holds before its first call, in the state of its row. The counters of a
  layer of buttress are 128 bytes for each core of the machine, for up to 8 cores.
";

const NOTES: &[&str] = &[
    "Events: buttress always has `tracing` compiled in; its feature adds the facade of `metrics`. \
     tower-resilience has both behind features, and no figure for a retry without a timer.",
    "Hedging is not measured: buttress does not have it yet.",
];

/// Returns the report, and the problems of the run.
pub fn report(results: &Results) -> (String, Vec<String>) {
    let mut text = head(results);
    let wrong = reached::targets(&mut text, results);
    costs(&mut text, results);
    contention::section(&mut text, &results.table);
    size::section(&mut text, &results.table);
    found(&mut text, "Memory", ["bytes", "of", "bytes"], &results.memory);
    found(&mut text, "Under load", ["probe", "of", "found"], &results.probes);
    found(&mut text, "Sagas and messages", ["what", "of", "found"], &results.durable);
    found(&mut text, "Simulators", ["what", "of", "found"], &results.simulators);
    events(&mut text, results);
    text += "\n## How to read it, and what cannot be compared\n\n";
    text += READING;
    let others = [NOTES, probes::NOTES, durable::NOTES, simulated::NOTES];
    for note in patterns::notes().chain(others.into_iter().flatten().copied()) {
        let _ = writeln!(text, "- {note}");
    }
    (text, wrong)
}

fn head(results: &Results) -> String {
    let mut text = format!(
        "# Benchmarks\n\n<!-- Written by `cargo benchmarks`. Do not edit. -->\n\n{}\
         {} · {} · {} · {}\n\nTo repeat it: `cargo benchmarks`, on a machine that does nothing else; \
         valgrind counts the instructions.\n\n",
        chart::links(&results.table),
        results.date,
        results.toolchain.rustc,
        results.toolchain.target,
        process::machine(),
    );
    text += &match &results.valgrind {
        Some(version) => format!("Instructions were counted by {version}.\n\n"),
        None => "valgrind was not available, so no instructions were counted.\n\n".to_owned(),
    };
    let versions = versions().into_iter().map(|(name, version)| format!("{name} {version}"));
    text += &versions.collect::<Vec<_>>().join(" · ");
    text += "\n";
    text
}

/// Splits a row: the pattern is before the colon.
fn parts(row: &str) -> (&str, &str) {
    row.split_once(": ").unwrap_or((row, ""))
}

fn costs(text: &mut String, results: &Results) {
    let mut last = None;
    for each in &results.table.lines {
        let (pattern, _) = parts(&each.row);
        if last != Some(pattern) {
            let (first, rest) = pattern.split_at(1);
            let _ = writeln!(text, "\n## {}{rest}\n", first.to_uppercase());
            table(
                text,
                &[
                    "path",
                    "of",
                    "instructions",
                    "over floor",
                    "allocations",
                    "bytes",
                    "future",
                    "idle",
                    "ns",
                    "ns, 2 thr",
                ],
            );
        }
        last = Some(pattern);
        cost(text, results, each);
    }
}

fn cost(text: &mut String, results: &Results, each: &Line) {
    let figures = &each.figures;
    let floor = results.table.get(&each.row, FLOOR).and_then(|floor| floor.instructions);
    let on_two = Spread::of(figures.nanos_of_two.iter().copied().flatten());
    let fields = [
        parts(&each.row).1.to_owned(),
        each.candidate.clone(),
        digits(figures.instructions, 0),
        ratio(figures.instructions, floor),
        count(figures.allocations),
        count(figures.bytes),
        count(figures.future),
        count(figures.idle),
        digits(figures.nanos, 1),
        or_none(on_two.map(|spread| spread.to_string())),
    ];
    line(text, &fields);
}

fn found(text: &mut String, title: &str, columns: [&str; 3], findings: &[Finding]) {
    let _ = writeln!(text, "\n## {title}\n");
    table(text, &columns);
    for found in findings {
        line(text, &[found.what.clone(), found.who.clone(), found.text.clone()]);
    }
}

fn events(text: &mut String, results: &Results) {
    *text += "\n## Events compiled in, without an observer\n\n";
    let columns = [
        "path",
        "of",
        "instructions",
        "with events",
        "ratio",
        "allocations",
        "with events",
        "ns",
        "with events",
        "ratio",
    ];
    table(text, &columns);
    for events in &results.events {
        let [before, after] = events.instructions;
        let nanos = [0, 1].map(|i| events.nanos.map(|nanos| nanos[i]));
        let fields = [
            events.row.clone(),
            events.candidate.clone(),
            digits(before, 0),
            digits(after, 0),
            ratio(after, before),
            count(Some(events.allocations[0])),
            count(Some(events.allocations[1])),
            digits(nanos[0], 1),
            digits(nanos[1], 1),
            ratio(nanos[1], nanos[0]),
        ];
        line(text, &fields);
    }
}
