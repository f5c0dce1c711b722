//! The committed figures of buttress alone, and what may not grow beyond them.

use super::figures::{Line, Table};
use super::toolchain::Toolchain;

pub const FILE: &str = "benches/baseline.tsv";
pub const COMMAND: &str = "cargo benchmarks baseline";

const HEADER: &str = "row\tinstructions\tallocations\tbytes\tfuture";
const FIGURES: [&str; 4] = ["instructions", "allocations", "bytes", "future"];

/// One row of the file. Clones have no response future.
#[derive(Clone, PartialEq, Debug)]
pub struct Cost {
    row: String,
    figures: [Option<f64>; 4],
}

#[derive(Clone, PartialEq, Debug)]
pub struct Baseline {
    pub toolchain: Toolchain,
    pub costs: Vec<Cost>,
}

/// How a row stands to the baseline.
#[derive(Clone, PartialEq, Debug)]
pub enum Verdict {
    Same,
    /// Which figure, before and now.
    Grew(&'static str, f64, f64),
    Shrank(&'static str, f64, f64),
    /// In the baseline, and not measured.
    Missing,
    /// Measured, and not in the baseline.
    New,
}

impl Verdict {
    pub fn fails(&self) -> bool {
        matches!(self, Self::Grew(..) | Self::Missing | Self::New)
    }
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

impl Cost {
    fn new(line: &Line) -> Self {
        let Line { row, figures, .. } = line;
        let figures = [figures.instructions, figures.allocations, figures.bytes, figures.future];
        Self { row: row.clone(), figures: figures.map(|figure| figure.map(tenth)) }
    }
}

/// More than 5 % beyond what it was; from nothing, anything.
fn grew(before: f64, now: f64) -> bool {
    now * 100.0 > before * 105.0
}

impl Baseline {
    pub fn new(toolchain: Toolchain, table: &Table) -> Self {
        Self { toolchain, costs: table.lines.iter().map(Cost::new).collect() }
    }

    pub fn to_text(&self) -> String {
        let Toolchain { rustc, target } = &self.toolchain;
        let mut text = format!("# {rustc}\n# {target}\n# written by `{COMMAND}`\n{HEADER}\n");
        for Cost { row, figures } in &self.costs {
            text += row;
            for figure in figures {
                text += "\t";
                text += &figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string());
            }
            text += "\n";
        }
        text
    }

    /// None if it is not a baseline.
    pub fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut comment = || Some(lines.next()?.strip_prefix("# ")?.to_owned());
        let toolchain = Toolchain { rustc: comment()?, target: comment()? };
        let costs = lines.filter(|line| !line.starts_with('#') && *line != HEADER).map(|line| {
            let mut fields = line.split('\t');
            let row = fields.next()?.to_owned();
            let mut figure = || Some(fields.next()?.parse().ok());
            Some(Cost { row, figures: [figure()?, figure()?, figure()?, figure()?] })
        });
        Some(Self { toolchain, costs: costs.collect::<Option<_>>()? })
    }

    /// Each row's verdicts against `now`. Instructions of another toolchain, or not counted, are not
    /// compared.
    pub fn compare(&self, now: &Self, instructions: bool) -> Vec<(String, Verdict)> {
        let mut verdicts = Vec::new();
        let found = |costs: &[Cost], row: &str| costs.iter().find(|cost| cost.row == row).cloned();
        for before in &self.costs {
            let row = || before.row.clone();
            let Some(now) = found(&now.costs, &before.row) else {
                verdicts.push((row(), Verdict::Missing));
                continue;
            };
            let pairs = FIGURES.into_iter().zip(before.figures.iter().zip(now.figures));
            let judged = pairs.skip(usize::from(!instructions)).filter_map(|(name, pair)| {
                let (before, now) = ((*pair.0)?, pair.1?);
                if grew(before, now) {
                    return Some((row(), Verdict::Grew(name, before, now)));
                }
                grew(now, before).then(|| (row(), Verdict::Shrank(name, before, now)))
            });
            let judged: Vec<_> = judged.collect();
            let same = judged.is_empty().then(|| (row(), Verdict::Same));
            verdicts.extend(judged.into_iter().chain(same));
        }
        let new = now.costs.iter().filter(|cost| found(&self.costs, &cost.row).is_none());
        verdicts.extend(new.map(|cost| (cost.row.clone(), Verdict::New)));
        verdicts
    }
}

#[cfg(test)]
#[path = "baseline_tests.rs"]
mod tests;
