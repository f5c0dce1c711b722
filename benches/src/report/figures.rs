//! All measurements of each candidate of each row, in the order of the rows.

use super::profile::Profile;

/// The figures of a candidate. A figure that was not measured or does not exist is `None`.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub instructions: Option<f64>,
    /// The instructions by source file. Empty if they were not counted.
    pub profile: Profile,
    pub allocations: Option<f64>,
    pub bytes: Option<f64>,
    /// Bytes of the response future.
    pub future: Option<f64>,
    /// Bytes of heap that an instance holds before its first call.
    pub idle: Option<f64>,
    pub nanos: Option<f64>,
    /// The time on two threads, per round; `None` for a round that does not count.
    pub nanos_of_two: Vec<Option<f64>>,
    /// Locked read-modify-writes.
    pub locked: Option<f64>,
    /// Locked read-modify-writes on cache lines that two threads write.
    pub locked_shared: Option<f64>,
    /// Other writes to cache lines that two threads write.
    pub plain_shared: Option<f64>,
    /// Bytes of a stripped program in addition to the program without layers.
    pub binary: Option<f64>,
}

#[derive(Clone, Debug)]
pub struct Line {
    pub row: String,
    pub candidate: String,
    pub figures: Figures,
}

#[derive(Clone, Debug, Default)]
pub struct Table {
    pub lines: Vec<Line>,
}

impl Table {
    /// Returns the figures of a candidate, to write into.
    pub fn entry(&mut self, row: &str, candidate: &str) -> &mut Figures {
        let known = |line: &Line| line.row == row && line.candidate == candidate;
        let index = self.lines.iter().position(known).unwrap_or_else(|| {
            let (row, candidate) = (row.to_owned(), candidate.to_owned());
            self.lines.push(Line { row, candidate, figures: Figures::default() });
            self.lines.len() - 1
        });
        &mut self.lines[index].figures
    }

    pub fn get(&self, row: &str, candidate: &str) -> Option<&Figures> {
        let mut lines = self.lines.iter();
        lines.find(|line| line.row == row && line.candidate == candidate).map(|line| &line.figures)
    }

    pub fn of_row<'a>(&'a self, row: &'a str) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |line| line.row == row)
    }
}

/// Formats a figure for [`figure`].
pub fn field(figure: Option<f64>) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string())
}

/// Reads a figure from a field of text; `-` is `None`.
pub fn figure(field: &str) -> Result<Option<f64>, String> {
    match field.parse::<f64>() {
        _ if field == "-" => Ok(None),
        Ok(value) if value.is_finite() => Ok(Some(value)),
        _ => Err(format!("{field:?} is not a figure")),
    }
}

/// One finding of a probe, or held bytes.
#[derive(Clone, Debug)]
pub struct Finding {
    pub what: String,
    pub who: String,
    pub value: f64,
    pub text: String,
}

/// Returns the value found for `who`.
pub fn value(findings: &[Finding], what: &str, who: &str) -> Option<f64> {
    findings.iter().find(|found| found.what == what && found.who == who).map(|found| found.value)
}
