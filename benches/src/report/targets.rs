//! What must be reached, and whether it was.

use super::figures::{Figures, value};
use super::results::Results;
use crate::patterns::{
    BARE, BUTTRESS, FLOOR, bulkhead, circuit_breaker, fallback, rate_limit, retry, stack,
    time_limit,
};
use crate::peers::{GOVERNOR, TOWER, TOWER_RESILIENCE};
use crate::probes;
use crate::row::Row;

pub const TENTH: &str = "six layers, time over tower-resilience's";

/// At most so many times the instructions of another candidate of the row.
pub struct Target {
    pub row: Row,
    pub of: &'static str,
    pub times: f64,
}

pub const INSTRUCTIONS: [Target; 16] = [
    over(circuit_breaker::CONSECUTIVE, FLOOR, 1.5),
    over(circuit_breaker::COUNT, FLOOR, 1.6),
    over(circuit_breaker::TIME, FLOOR, 1.2),
    over(circuit_breaker::OPEN, FLOOR, 1.2),
    over(rate_limit::ADMITTED, FLOOR, 1.15),
    over(rate_limit::REFUSED, FLOOR, 1.15),
    over(rate_limit::KEYED, GOVERNOR, 1.0),
    over(bulkhead::ADMITTED, FLOOR, 1.6),
    over(bulkhead::REFUSED, FLOOR, 2.0),
    over(retry::FIRST, TOWER, 1.0),
    over(retry::BUDGET, TOWER, 0.5),
    over(time_limit::READY, TOWER, 0.65),
    over(time_limit::PENDING, FLOOR, 1.1),
    over(fallback::PRIMARY, FLOOR, 2.0),
    over(stack::SIX, FLOOR, 1.5),
    over(stack::CLONED, FLOOR, 1.5),
];

const fn over(row: Row, of: &'static str, times: f64) -> Target {
    Target { row, of, times }
}

/// A target that is not about instructions over somebody else's. No value, nothing to judge.
pub struct Judged {
    pub what: String,
    pub target: String,
    pub measured: String,
    pub reached: Option<bool>,
}

fn at_most(what: &str, target: &str, most: f64, measured: Option<f64>, unit: &str) -> Judged {
    Judged {
        what: what.to_owned(),
        target: target.to_owned(),
        measured: measured.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}{unit}")),
        reached: measured.map(|value| value <= most),
    }
}

/// The peer that needs the fewest instructions for a row.
pub fn best_peer<'a>(results: &'a Results, row: &'a str) -> Option<(&'a str, f64)> {
    let peers = results
        .table
        .of_row(row)
        .filter(|line| ![BUTTRESS, FLOOR, BARE].contains(&line.candidate.as_str()));
    let counted =
        peers.filter_map(|line| Some((line.candidate.as_str(), line.figures.instructions?)));
    counted.min_by(|(_, one), (_, other)| one.total_cmp(other))
}

pub fn others(results: &Results) -> Vec<Judged> {
    let of = |row: Row, figure: fn(&Figures) -> Option<f64>| {
        results.table.get(row.name, BUTTRESS).and_then(figure)
    };
    // Further attempts are not the path that must be free.
    let lines = results.table.lines.iter().filter(|line| line.row != retry::AGAIN.name);
    let buttress = lines.filter(|line| line.candidate == BUTTRESS);
    let allocations = buttress.filter_map(|line| line.figures.allocations).reduce(f64::max);
    let more = |figure: fn(&Figures) -> Option<f64>| {
        let without = results.table.get(stack::COUNTED.name, stack::NOT_COUNTED)?;
        Some((of(stack::COUNTED, figure)? - figure(without)?) / 6.0)
    };
    let six = of(stack::SIX, |figures| figures.nanos);
    let theirs = results.table.get(stack::SIX.name, TOWER_RESILIENCE);
    let tenth =
        six.zip(theirs.and_then(|figures| figures.nanos)).map(|(ours, theirs)| ours / theirs);
    let mut judged = vec![
        at_most("most allocations of a call that is not retried", "0", 0.0, allocations, ""),
        at_most(TENTH, "0.10", 0.1, tenth, ""),
        at_most("counting calls, per layer", "12 ns more", 12.0, more(|f| f.nanos), " ns"),
        at_most(
            "counting calls, per layer, on two threads",
            "12 ns more",
            12.0,
            more(|figures| figures.nanos_of_two),
            " ns",
        ),
    ];
    judged.extend(under_load(results));
    judged
}

/// The targets of the probes.
fn under_load(results: &Results) -> Vec<Judged> {
    let probe = |what: &str| value(&results.probes, what, BUTTRESS);
    let held = |what: &str, who| value(&results.memory, what, who);
    let shed = value(&results.probes, probes::FULL, TOWER);
    let pending = "100 000 calls under a time limit, bytes each with the task";
    let tower = held(pending, TOWER);
    let six = "100 000 calls through six layers, bytes each with the task";
    let grown = held("time window, bytes after 10 000 calls", BUTTRESS)
        .zip(held("time window, bytes after 100 calls", BUTTRESS))
        .map(|(many, few)| many / few);
    let ours = results.events.iter().find(|events| events.candidate == BUTTRESS);
    let slower = ours.map(|events| events.nanos[1] / events.nanos[0]);
    let text = |bound: Option<f64>, unit: &str| {
        bound.map_or_else(|| "–".to_owned(), |bound| format!("at most {bound:.0}{unit}"))
    };
    let mut opening = at_most(probes::OPENING, "50", 50.0, probe(probes::OPENING), "");
    opening.reached = probe(probes::OPENING).map(|failures| failures == 50.0);
    let mut rate = at_most(probes::RATE, "0.99 or more", f64::MAX, probe(probes::RATE), "");
    rate.reached = probe(probes::RATE).map(|rate| rate >= 0.99);
    vec![
        opening,
        at_most(probes::WINDOW, "at most 1.1", 1.1, probe(probes::WINDOW), ""),
        at_most("time window: bytes with 10 000 calls over 100", "1", 1.0, grown, ""),
        at_most(
            "open breaker refusing on two threads, p99.9",
            "below 1 µs",
            999.0,
            probe(probes::OPEN),
            " ns",
        ),
        at_most(
            "full bulkhead refusing, p50",
            &format!("{}, LoadShed's", text(shed, " ns")),
            shed.unwrap_or(f64::NAN),
            probe(probes::FULL),
            " ns",
        ),
        at_most(
            probes::ZERO_BACKOFF,
            "no timer: below 1 µs",
            999.0,
            probe(probes::ZERO_BACKOFF),
            " ns",
        ),
        rate,
        at_most(probes::RATE_CPU, "at most 5 %", 5.0, probe(probes::RATE_CPU), " %"),
        at_most(probes::RATE_ORDER, "none overtaken", 0.0, probe(probes::RATE_ORDER), " %"),
        at_most(probes::POLLS, "at most 2", 2.0, probe(probes::POLLS), ""),
        at_most(
            pending,
            &format!("{}, tower's", text(tower, "")),
            tower.unwrap_or(f64::NAN),
            held(pending, BUTTRESS),
            "",
        ),
        at_most(six, "below 560", 559.9, held(six, BUTTRESS), ""),
        at_most("events compiled in, time over without", "at most 1.1", 1.1, slower, ""),
        at_most(
            "events compiled in, allocations",
            "0",
            0.0,
            ours.map(|events| events.allocations[1]),
            "",
        ),
    ]
}
