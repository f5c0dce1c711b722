//! The writes of a call that delay other threads: the table, and its targets.

use super::cells::{count, line, table};
use super::figures::Table;
use super::targets::{Judged, at_most};
use crate::patterns::{
    BUTTRESS, bulkhead, circuit_breaker, fallback, rate_limit, retry, stack, time_limit,
};
use crate::row::Row;

/// The rows whose writes are counted.
const ROWS: [Row; 16] = [
    circuit_breaker::CONSECUTIVE,
    circuit_breaker::COUNT,
    circuit_breaker::TIME,
    rate_limit::ADMITTED,
    bulkhead::ADMITTED,
    retry::FIRST,
    retry::BUDGET,
    time_limit::READY,
    fallback::PRIMARY,
    stack::SIX,
    stack::COUNTED,
    stack::CLONED,
    stack::REQUEST,
    stack::LEAKED,
    stack::LEAKED_CLONED,
    stack::LEAKED_REQUEST,
];

pub(super) const CALL: &str = "six layers: locked read-modify-writes on shared lines, a call";
pub(super) const CLONE: &str = "six layers: locked read-modify-writes on shared lines, a clone";
const LEAKED_CALL: &str = "six layers, leaked: locked read-modify-writes on shared lines, a call";
const LEAKED_CLONE: &str = "six layers, leaked: locked read-modify-writes on shared lines, a clone";

const READING: &str = "\
Two threads share one instance by clones, as the calls of two requests do. A program under lackey, a tool of
valgrind, traces every write of some calls on the one thread and then on the other. A cache line that both
wrote is *shared*: on two cores it moves from one to the other at each write. *Locked* are instructions with a
lock prefix, and `xchg` with memory. Per call, the median of the calls of both threads, so that the figure is the same
in every run and on every machine:
";

/// Returns the arguments with which the program measures only these rows.
pub fn only() -> Vec<&'static str> {
    ROWS.iter().flat_map(|row| ["--exactly", row.name]).collect()
}

pub(super) fn section(text: &mut String, all: &Table) {
    *text += "\n## Shared cache lines\n\n";
    *text += READING;
    *text += "\n";
    let columns =
        ["path", "of", "locked", "locked, on shared lines", "other writes to shared lines"];
    table(text, &columns);
    for each in &all.lines {
        let figures = &each.figures;
        if figures.locked.is_some() {
            let counts = [figures.locked, figures.locked_shared, figures.plain_shared].map(count);
            let names = [each.row.clone(), each.candidate.clone()];
            line(text, &[&names[..], &counts[..]].concat());
        }
    }
}

pub(super) fn judged(all: &Table) -> [Judged; 4] {
    let bounds = [
        (CALL, stack::SIX, 5),
        (CLONE, stack::CLONED, 2),
        (LEAKED_CALL, stack::LEAKED, 3),
        (LEAKED_CLONE, stack::LEAKED_CLONED, 0),
    ];
    bounds.map(|(what, row, most)| {
        let found = all.get(row.name, BUTTRESS).and_then(|figures| figures.locked_shared);
        at_most(what, &format!("at most {most}"), f64::from(most), found, "")
    })
}
