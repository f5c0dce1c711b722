//! The committed figures of buttress alone, and the check that they do not grow.

use std::num::NonZero;

use super::figures::{Line, Table, field, figure};
use super::toolchain::Toolchain;

pub const FILE: &str = "benches/baseline.tsv";
pub const COMMAND: &str = "cargo benchmarks baseline";

const HEADER: &str = "row\tinstructions\tallocations\tbytes\tfuture\tidle\tlocked\tshared\tbinary";
/// The end of the line that names the number of cores.
const CORES: &str = " cores";
/// The number of figures of a row.
const COLUMNS: usize = 8;

/// One figure of each row.
struct Column {
    name: &'static str,
    depends: On,
    /// The allowed growth in per cent.
    tolerance: f64,
}

/// What a figure depends on besides the code.
#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    Nothing,
    /// Machine code, and so the toolchain. The figure needs valgrind or a build.
    Toolchain,
    /// The number of cores: counters have a shard per core.
    Cores,
}

const fn column(name: &'static str, depends: On, tolerance: f64) -> Column {
    Column { name, depends, tolerance }
}

const FIGURES: [Column; COLUMNS] = [
    column("instructions", On::Toolchain, 5.0),
    column("allocations", On::Nothing, 5.0),
    column("bytes", On::Nothing, 5.0),
    column("future", On::Nothing, 5.0),
    column("idle", On::Cores, 5.0),
    column("locked read-modify-writes", On::Toolchain, 0.0),
    column("locked read-modify-writes on shared lines", On::Toolchain, 0.0),
    column("bytes of binary", On::Toolchain, 5.0),
];

/// One row of the file. A missing or unmeasured figure is `None`.
#[derive(Clone, PartialEq, Debug)]
pub struct Cost {
    row: String,
    figures: [Option<f64>; COLUMNS],
}

#[derive(Clone, PartialEq, Debug)]
pub struct Baseline {
    pub toolchain: Toolchain,
    /// The number of cores of the machine. `None` if the file does not name it.
    pub cores: Option<usize>,
    pub costs: Vec<Cost>,
}

/// The comparison of a row with the baseline.
#[derive(Clone, PartialEq, Debug)]
pub enum Verdict {
    Same,
    /// The figure that grew, before and now.
    Grew(&'static str, f64, f64),
    Shrank(&'static str, f64, f64),
    /// The figure exists on one side only.
    Unmatched(&'static str, Option<f64>, Option<f64>),
    /// The row is in the baseline, and was not measured.
    Missing,
    /// The row was measured, and is not in the baseline.
    New,
}

impl Verdict {
    pub fn fails(&self) -> bool {
        matches!(self, Self::Grew(..) | Self::Unmatched(..) | Self::Missing | Self::New)
    }
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

impl Cost {
    fn new(line: &Line) -> Self {
        let Line { row, figures, .. } = line;
        let figures = [
            figures.instructions,
            figures.allocations,
            figures.bytes,
            figures.future,
            figures.idle,
            figures.locked,
            figures.locked_shared,
            figures.binary,
        ];
        Self { row: row.clone(), figures: figures.map(|figure| figure.map(tenth)) }
    }

    fn from_text(line: &str) -> Result<Self, String> {
        let mut fields = line.split('\t');
        let row = fields.next().unwrap_or_default().to_owned();
        let figures = fields.map(figure).collect::<Result<Vec<_>, _>>()?;
        let figures = <[_; COLUMNS]>::try_from(figures)
            .map_err(|figures| format!("{} figures, {COLUMNS} are needed", figures.len()))?;
        if figures.iter().all(Option::is_none) {
            return Err("the row has no figure".to_owned());
        }
        Ok(Self { row, figures })
    }
}

/// Returns `None` if the figure is unchanged.
fn judge(column: &Column, before: Option<f64>, now: Option<f64>) -> Option<Verdict> {
    let name = column.name;
    match (before, now) {
        (None, None) => None,
        (Some(before), Some(now)) if column.grew(before, now) => {
            Some(Verdict::Grew(name, before, now))
        }
        (Some(before), Some(now)) => {
            column.grew(now, before).then_some(Verdict::Shrank(name, before, now))
        }
        _ => Some(Verdict::Unmatched(name, before, now)),
    }
}

impl Column {
    /// Whether the growth exceeds the tolerance. Any growth from zero does.
    fn grew(&self, before: f64, now: f64) -> bool {
        now * 100.0 > before * (100.0 + self.tolerance)
    }
}

impl Baseline {
    pub fn new(toolchain: Toolchain, table: &Table) -> Self {
        let cores = std::thread::available_parallelism().ok().map(NonZero::get);
        Self { toolchain, cores, costs: table.lines.iter().map(Cost::new).collect() }
    }

    pub fn to_text(&self) -> String {
        let Toolchain { rustc, target } = &self.toolchain;
        let mut text = format!("# {rustc}\n# {target}\n");
        if let Some(cores) = self.cores {
            text += &format!("# {cores}{CORES}\n");
        }
        text += &format!("# written by `{COMMAND}`\n{HEADER}\n");
        for Cost { row, figures } in &self.costs {
            text += row;
            for figure in figures {
                text += "\t";
                text += &field(*figure);
            }
            text += "\n";
        }
        text
    }

    /// Reads a baseline. The error names the line and the mistake.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let mut lines = (1..).zip(text.lines());
        let mut comment = || {
            let comment = lines.next().and_then(|(_, line)| line.strip_prefix("# "));
            comment.map(str::to_owned).ok_or("line 1 and line 2 must name the toolchain")
        };
        let toolchain = Toolchain { rustc: comment()?, target: comment()? };
        let named = text.lines().find_map(|line| line.strip_prefix("# ")?.strip_suffix(CORES));
        let cores = named.and_then(|cores| cores.parse().ok());
        let rows = lines.filter(|(_, line)| !line.starts_with('#') && *line != HEADER);
        let costs = rows.map(|(number, line)| {
            Cost::from_text(line).map_err(|wrong| format!("line {number}: {wrong}"))
        });
        let costs = costs.collect::<Result<Vec<_>, _>>()?;
        if costs.is_empty() {
            return Err("the file has no row".to_owned());
        }
        Ok(Self { toolchain, cores, costs })
    }

    /// Returns each row's verdicts against `now`. Without `compiled`, figures of machine code are
    /// not compared, because another toolchain made it or valgrind was missing. Figures that depend
    /// on the number of cores are compared only with the same number.
    pub fn compare(&self, now: &Self, compiled: bool) -> Vec<(String, Verdict)> {
        let mut verdicts = Vec::new();
        let comparable = |column: &Column| match column.depends {
            On::Nothing => true,
            On::Toolchain => compiled,
            On::Cores => self.cores == now.cores,
        };
        let found = |costs: &[Cost], row: &str| costs.iter().find(|cost| cost.row == row).cloned();
        for before in &self.costs {
            let row = || before.row.clone();
            let Some(now) = found(&now.costs, &before.row) else {
                verdicts.push((row(), Verdict::Missing));
                continue;
            };
            let pairs = FIGURES.into_iter().zip(before.figures.iter().zip(now.figures));
            let pairs = pairs.filter(|(column, _)| comparable(column));
            let judged = pairs.filter_map(|(column, (before, now))| judge(&column, *before, now));
            let judged = judged.map(|verdict| (row(), verdict));
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
