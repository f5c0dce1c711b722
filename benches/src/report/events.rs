//! The cost of events without an observer: the programs built with them, and without.

use super::figures::Table;
use super::programs::Programs;
use crate::patterns::stack::SIX;
use crate::patterns::{BUTTRESS, FLOOR, bulkhead, circuit_breaker, rate_limit, retry};
use crate::peers::TOWER_RESILIENCE;
use crate::row::Row;
use crate::spread::median;

/// A path without events, and paths with an event.
const ROWS: [Row; 6] = [
    SIX,
    circuit_breaker::OPEN,
    rate_limit::REFUSED,
    bulkhead::REFUSED,
    circuit_breaker::FAILED,
    retry::AGAIN,
];
/// The number of alternating runs of the two builds.
const TURNS: usize = 5;

/// One candidate of one row, without events and with them.
pub struct Events {
    pub row: String,
    pub candidate: String,
    /// Measured for six layers only.
    pub nanos: Option<[f64; 2]>,
    pub instructions: [Option<f64>; 2],
    pub allocations: [f64; 2],
}

impl Events {
    pub fn compare(without: &Programs, with: &Programs) -> Vec<Self> {
        let only: Vec<&str> = ROWS.iter().flat_map(|row| ["--exactly", row.name]).collect();
        let both = [without, with];
        let mut tables = [(); 2].map(|()| Table::default());
        for (table, programs) in tables.iter_mut().zip(both) {
            programs.instructions(table, &only);
            programs.allocations(table, &only);
        }
        let timed = [(); TURNS].map(|()| both.map(timed));
        let lines = tables[0].lines.iter().filter(|line| compared(&line.row, &line.candidate));
        let of = |row: &str, candidate: &str| {
            let figures = [0, 1].map(|i| tables[i].get(row, candidate).expect("measured twice"));
            let nanos = [0, 1].map(|i| {
                let turns = timed.iter().filter_map(|turn| turn[i].get(row, candidate)?.nanos);
                median(turns.collect())
            });
            Self {
                row: row.to_owned(),
                candidate: candidate.to_owned(),
                nanos: nanos[0].zip(nanos[1]).map(|(without, with)| [without, with]),
                instructions: figures.map(|figures| figures.instructions),
                allocations: figures.map(|figures| figures.allocations.expect("counted")),
            }
        };
        lines.map(|line| of(&line.row, &line.candidate)).collect()
    }
}

fn timed(programs: &Programs) -> Table {
    let mut table = Table::default();
    programs.timings(&mut table, &["--exactly", SIX.name]);
    table
}

/// Whether to compare a candidate. The peer has events too, and the floor of six layers shows the
/// effect of the build.
fn compared(row: &str, candidate: &str) -> bool {
    candidate == BUTTRESS
        || candidate.starts_with(TOWER_RESILIENCE)
        || (candidate == FLOOR && row == SIX.name)
}
