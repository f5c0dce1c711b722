//! The charts at the top of the report: each pattern and its peers, and the cost of a second
//! thread.

mod svg;

use std::fs;

use svg::{Chart, Line, Panel};

use super::figures::{Figures, Table};
use super::programs::root;
use crate::patterns::{
    BUTTRESS, FLOOR, bulkhead, circuit_breaker, fallback, idempotency, rate_limit, retry, stack,
    time_limit,
};
use crate::row::Row;
use crate::spread::median;

const PATTERNS: &str = "benches/patterns.svg";
const THREADS: &str = "benches/threads.svg";

/// The path of each pattern for a healthy service.
const PATHS: [Row; 8] = [
    circuit_breaker::COUNT_ONE_FAILED,
    rate_limit::ADMITTED,
    bulkhead::ADMITTED,
    retry::AGAIN_SELDOM,
    time_limit::PENDING,
    fallback::PRIMARY,
    idempotency::STORED_BY_TEXT,
    stack::SIX,
];

/// Calls of layers that share little state, and of stacks.
const SHARED: [Row; 6] =
    [fallback::PRIMARY, retry::FIRST, time_limit::READY, stack::SIX, stack::CLONED, stack::REQUEST];

/// Returns the lines of the report with the charts.
pub(super) fn links(all: &Table) -> String {
    charts(all).iter().map(|(path, chart)| format!("![{}]({path})\n\n", chart.title)).collect()
}

/// Writes the charts next to the report.
///
/// # Panics
///
/// If a file cannot be written.
pub fn write(all: &Table) {
    for (path, chart) in charts(all) {
        fs::write(root().join(path), chart.to_svg()).expect("a picture can be written");
    }
}

/// Returns the charts that have measurements.
fn charts(all: &Table) -> Vec<(&'static str, Chart)> {
    let instructions = |figures: &Figures| Some(vec![figures.instructions?]);
    let patterns = Chart {
        title: "Instructions per call, by pattern".to_owned(),
        note: "Logarithmic scale: each line to the right is ten times the last. \
               The floor is the least code that keeps the promise of the pattern."
            .to_owned(),
        panels: panels(all, &PATHS, instructions),
    };
    let nanos = |figures: &Figures| {
        let two = figures.nanos_of_two.iter().copied().flatten().collect();
        Some(vec![figures.nanos?, median(two)?])
    };
    let threads = Chart {
        title: "Nanoseconds per call on one thread and on two".to_owned(),
        note: "Logarithmic scale. The ring is one thread, the dot is two threads that share one instance: \
               a pattern without shared cache lines has both in one place."
            .to_owned(),
        panels: panels(all, &SHARED, nanos),
    };
    let both = [(PATTERNS, patterns), (THREADS, threads)];
    both.into_iter().filter(|(_, chart)| !chart.panels.is_empty()).collect()
}

fn panels(all: &Table, rows: &[Row], of: impl Fn(&Figures) -> Option<Vec<f64>>) -> Vec<Panel> {
    let panel = |row: &Row| {
        let lines = all.of_row(row.name).filter_map(|each| {
            Some(Line {
                label: each.candidate.clone(),
                ours: each.candidate == BUTTRESS,
                floor: each.candidate == FLOOR,
                values: of(&each.figures)
                    .filter(|values| values.iter().all(|value| *value > 0.0))?,
            })
        });
        let mut lines: Vec<_> = lines.collect();
        lines.sort_by(|one, other| one.last().total_cmp(&other.last()));
        (!lines.is_empty()).then(|| Panel { title: row.name.to_owned(), lines })
    };
    rows.iter().filter_map(panel).collect()
}

#[cfg(test)]
mod tests {
    use super::{PATTERNS, charts, links};
    use crate::patterns::{BUTTRESS, FLOOR, fallback};
    use crate::report::figures::Table;

    #[test]
    fn the_cheapest_stands_first_and_what_was_not_measured_is_left_out() {
        let mut all = Table::default();
        all.entry(fallback::PRIMARY.name, BUTTRESS).instructions = Some(18.0);
        all.entry(fallback::PRIMARY.name, FLOOR).instructions = Some(8.0);
        all.entry(fallback::PRIMARY.name, "tower").allocations = Some(0.0);
        let charts = charts(&all);
        let [(path, chart)] = charts.as_slice() else { panic!("nothing was timed") };
        let [panel] = chart.panels.as_slice() else { panic!("one row was measured") };
        let labels: Vec<_> = panel.lines.iter().map(|line| line.label.as_str()).collect();
        assert_eq!((*path, labels), (PATTERNS, vec![FLOOR, BUTTRESS]));
        assert!(links(&all).contains(PATTERNS));
        assert_eq!(links(&Table::default()), "");
    }
}
