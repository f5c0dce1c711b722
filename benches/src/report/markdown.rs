//! The report, as Markdown.

use std::fmt::Write;

use super::figures::{Finding, Line};
use super::lockfile::versions;
use super::missed::reason;
use super::results::Results;
use super::targets::{INSTRUCTIONS, best_peer, others};
use crate::patterns::{self, BUTTRESS, FLOOR};
use crate::{probes, process};

const NONE: &str = "–";

const READING: &str = "\
Every candidate wraps the same service, `u64 -> u64`, that answers at once, and is built before anything
is measured. Each has the configuration in which it is fastest for what the row promises. The *floor* is
the least code that keeps the promise for that path alone, with its state in one `Arc`: no configuration,
no events, no guard against panics. It is not a library, it says how much of a cost is the pattern's.

- *Instructions* are counted by callgrind and repeatable to within a per cent. Caches and contention are
  not in them, nor the kernel. Under valgrind a read of the system's clock is a call of the kernel, so it
  looks cheaper than its 20 ns, and cheaper than a clock of one's own.
- *ns* are medians of interleaved rounds. Compare ratios; another machine has other figures.
- *ns, 2 thr* is the time of a call when two threads make calls on clones of one instance. Rounds in which
  the machine did not run both at once are left out; – where too few were left, or where it is not Clone.
  What two cores take to hand a cache line over can double from one row to the next on a virtual machine:
  compare within a row.
- *future* is the size of the response future; a boxed one is 16 bytes and an allocation.
- *idle* is the heap that one instance holds before it is called, after whatever brought it into the
  state of its row.
";

fn digits(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| format!("{value:.digits$}"))
}

/// Whole if it is.
fn count(value: Option<f64>) -> String {
    digits(value, usize::from(value.is_some_and(|value| value.fract() != 0.0)))
}

fn ratio(value: Option<f64>, over: Option<f64>) -> String {
    digits(value.zip(over).map(|(value, over)| value / over), 2)
}

fn yes_or_no(reached: Option<bool>) -> &'static str {
    match reached {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => NONE,
    }
}

fn table(text: &mut String, columns: &[&str]) {
    let rule = "|---".repeat(columns.len());
    writeln!(text, "| {} |\n{rule}|", columns.join(" | ")).expect("a string takes all");
}

fn line(text: &mut String, fields: &[String]) {
    writeln!(text, "| {} |", fields.join(" | ")).expect("a string takes all");
}

pub fn report(results: &Results) -> String {
    let mut text = head(results);
    targets(&mut text, results);
    costs(&mut text, results);
    found(&mut text, "Memory", ["bytes", "of", "bytes"], &results.memory);
    found(&mut text, "Under load", ["probe", "of", "found"], &results.probes);
    events(&mut text, results);
    text += "\n## How to read it, and what cannot be compared\n\n";
    text += READING;
    for note in patterns::notes().chain(probes::NOTES.iter().copied()) {
        let _ = writeln!(text, "- {note}");
    }
    text
}

fn head(results: &Results) -> String {
    let mut text = format!(
        "# Benchmarks\n\n<!-- Written by `cargo benchmarks`. Do not edit. -->\n\n\
         {} · {} · {} · {}\n\nTo repeat it: `cargo benchmarks`, on a machine that does nothing else; \
         valgrind counts the instructions.\n\n",
        results.date,
        results.toolchain.rustc,
        results.toolchain.target,
        process::machine(),
    );
    if !results.counted {
        text += "There was no valgrind, so no instructions were counted.\n\n";
    }
    let versions = versions().into_iter().map(|(name, version)| format!("{name} {version}"));
    text += &versions.collect::<Vec<_>>().join(" · ");
    text += "\n";
    text
}

fn targets(text: &mut String, results: &Results) {
    *text += "\n## Targets\n\nInstructions per call:\n\n";
    let mut missed = Vec::new();
    let columns = ["path", "buttress", "floor", "cheapest peer", "target", "measured", "reached"];
    table(text, &columns);
    for target in &INSTRUCTIONS {
        let row = target.row.name;
        let of = |who| results.table.get(row, who).and_then(|figures| figures.instructions);
        let (ours, theirs) = (of(BUTTRESS), of(target.of));
        let peer = best_peer(results, row)
            .map_or_else(|| NONE.to_owned(), |(name, cost)| format!("{name} {cost:.0}"));
        let reached = ours.zip(theirs).map(|(ours, theirs)| ours <= theirs * target.times);
        if reached == Some(false) {
            missed.push(row.to_owned());
        }
        let target = format!("{}x {}", target.times, target.of);
        let measured = ratio(ours, theirs);
        let reached = yes_or_no(reached).to_owned();
        let fields = [
            row.to_owned(),
            digits(ours, 0),
            digits(of(FLOOR), 0),
            peer,
            target,
            measured,
            reached,
        ];
        line(text, &fields);
    }
    *text += "\nEverything else:\n\n";
    table(text, &["what", "target", "measured", "reached"]);
    for judged in others(results) {
        let reached = yes_or_no(judged.reached).to_owned();
        if judged.reached == Some(false) {
            missed.push(judged.what.clone());
        }
        line(text, &[judged.what, judged.target, judged.measured, reached]);
    }
    why_missed(text, &missed);
}

fn why_missed(text: &mut String, missed: &[String]) {
    if missed.is_empty() {
        return;
    }
    *text +=
        "\nWhy a target is missed, by callgrind's profile of the row, and what would reach it:\n\n";
    for what in missed {
        let reason = reason(what).unwrap_or("Not known; look at its profile.");
        let _ = writeln!(text, "- *{what}*: {reason}");
    }
}

/// The pattern of a row is what stands before its colon.
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
        digits(figures.nanos_of_two, 1),
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
    *text += "\n## Events compiled in, nobody listening: six layers\n\n";
    table(
        text,
        &["of", "ns", "with events", "ratio", "instructions", "with events", "allocations"],
    );
    for events in &results.events {
        let fields = [
            events.candidate.to_owned(),
            digits(Some(events.nanos[0]), 1),
            digits(Some(events.nanos[1]), 1),
            ratio(Some(events.nanos[1]), Some(events.nanos[0])),
            digits(events.instructions[0], 0),
            digits(events.instructions[1], 0),
            count(Some(events.allocations[1])),
        ];
        line(text, &fields);
    }
}
