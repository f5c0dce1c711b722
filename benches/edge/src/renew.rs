//! Measures the idle connections alone, and replaces their figures in `EDGE.md`.

use std::fs;

use crate::candidates::{BARE, Backend, FULL, ROUTES};
use crate::report::{IDLE_COLUMN, idle_target};
use crate::toolchain::today;
use crate::{Error, idle, root};

const ROUNDS: usize = 3;
/// The beginning of the line that says when the figures were replaced.
const REMARK: &str = "Idle connections: measured again on";

/// Measures the idle connections of each candidate in new processes, and writes the medians into `EDGE.md`.
pub fn idle() -> Result<(), Error> {
    let backend = Backend::start()?;
    let mut figures = Vec::new();
    for name in [BARE, ROUTES, FULL] {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push(idle::of_new(name, &backend)? / 1024.0);
        }
        rounds.sort_by(f64::total_cmp);
        println!("{name}: {rounds:.1?} MiB");
        figures.push((name, *rounds.get(ROUNDS / 2).ok_or("no round")?));
    }
    let file = root().join("EDGE.md");
    let text = fs::read_to_string(&file)?;
    Ok(fs::write(file, replace(&text, &figures, &today())?)?)
}

/// Returns the report with `figures` in MiB in its column of idle memory and in its target, and with their date.
fn replace(text: &str, figures: &[(&str, f64)], date: &str) -> Result<String, Error> {
    let of_routes = figures.iter().find(|(name, _)| *name == ROUTES);
    let target = idle_target(of_routes.map(|(_, mib)| *mib));
    let first = |line: &str| line.split(" | ").next().unwrap_or_default().to_owned();
    let mut left: Vec<&str> = figures.iter().map(|(name, _)| *name).collect();
    let (mut lines, mut column, mut has_target) = (Vec::new(), None, false);
    for line in text.lines().filter(|line| !line.starts_with(REMARK)) {
        if first(line) == first(&target) {
            has_target = true;
            lines.push(target.clone());
            continue;
        }
        let mut cells: Vec<&str> = line.split(" | ").collect();
        let head = cells.iter().position(|cell| *cell == IDLE_COLUMN);
        // A table ends at a line without a cell.
        column = head.or(column).filter(|_| line.starts_with('|'));
        let name = first(line).trim_start_matches("| ").to_owned();
        let figure = figures.iter().find(|(known, _)| name == *known);
        let figure = figure.map(|(known, mib)| (known, format!("{mib:.1}")));
        if let Some((place, (known, mib))) = column.zip(figure.as_ref()) {
            *cells.get_mut(place).ok_or("a row without the column")? = mib;
            left.retain(|name| name != *known);
        }
        lines.push(cells.join(" | "));
        if line.starts_with("Load: ") {
            lines.push(format!("{REMARK} {date}."));
        }
    }
    match (left.first(), has_target) {
        (Some(name), _) => Err(format!("EDGE.md has no row of {name}").into()),
        (None, false) => Err("EDGE.md has no target of idle connections".into()),
        (None, true) => Ok(lines.join("\n") + "\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "\
Load: wrk.
Idle connections: measured again on 2026-01-01.

| what | measured | target | reached |
|---|---|---|---|
| RSS with 10 000 idle connections, MiB | 197.96 | at most 100 | **no** |

| proxy | RSS MiB | idle MiB | tunnel, MiB/s |
|---|---|---|---|
| bare hyper | 7.7 | 123.5 | – |
| buttress, 100 routes | 9.4 | 198.0 | 181 |

| proxy | instructions | of bare |
|---|---|---|
| buttress, 100 routes | 58896 | 1.50 |
";

    #[test]
    fn only_the_figures_of_idle_connections_are_replaced() {
        let figures = [(BARE, 120.04), (ROUTES, 90.0)];
        let expected = REPORT
            .replace("2026-01-01", "2026-02-02")
            .replace("197.96 | at most 100 | **no**", "90.00 | at most 100 | yes")
            .replace("123.5", "120.0")
            .replace("198.0", "90.0");
        let replaced = replace(REPORT, &figures, "2026-02-02").unwrap();
        assert_eq!(replaced, expected);
        assert_eq!(replace(&replaced, &figures, "2026-02-02").unwrap(), replaced);
    }

    #[test]
    fn a_report_without_a_row_or_the_target_is_an_error() {
        let without = REPORT.replace("| bare hyper |", "| hyper |");
        assert!(replace(&without, &[(BARE, 1.0), (ROUTES, 1.0)], "").is_err());
        let without = REPORT.replace("| RSS with", "| RSS of");
        assert!(replace(&without, &[(ROUTES, 1.0)], "").is_err());
    }
}
