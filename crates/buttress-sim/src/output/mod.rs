//! What a run looks like: a table in the terminal, a page, and the numbers for other programs.

mod axis;
mod chart;
mod csv;
mod figures;
mod heat;
mod html;
mod json;
mod panels;
mod scale;
mod style;
#[cfg(test)]
mod tests;
mod text;

use std::io;
use std::path::Path;

use crate::Outcome;

/// Outcomes side by side.
///
/// ```
/// use std::time::Duration;
/// use buttress_sim::{Distribution, Report, Scenario, Server};
/// let scenario = Scenario::new("one server", Duration::from_secs(10));
/// let work = Distribution::exponential(Duration::from_millis(7));
/// let outcome = scenario.run(|world| world.server(Server::new("database", work)))?;
/// let report = Report::new("Is one server enough?").add(outcome);
/// assert!(report.to_text().contains("one server"));
/// assert!(report.to_html().starts_with("<!doctype html>"));
/// # Ok::<(), buttress_sim::SimError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
#[must_use]
pub struct Report {
    title: String,
    intro: String,
    outcomes: Vec<Outcome>,
}

impl Report {
    /// A report without outcomes.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), intro: String::new(), outcomes: Vec::new() }
    }

    /// A paragraph at the beginning, in plain text.
    pub fn intro(mut self, text: impl Into<String>) -> Self {
        self.intro = text.into();
        self
    }

    /// Adds an outcome, below those that were added before.
    #[expect(clippy::should_implement_trait, reason = "nothing is summed up here")]
    pub fn add(mut self, outcome: Outcome) -> Self {
        self.outcomes.push(outcome);
        self
    }

    /// The outcomes, in order.
    #[must_use]
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// A table with a line for each outcome, and its goodput over the time as a row of blocks.
    #[must_use]
    pub fn to_text(&self) -> String {
        text::table(&self.outcomes)
    }

    /// One page that needs nothing else: no server, no network, no script.
    #[must_use]
    pub fn to_html(&self) -> String {
        html::page(&self.title, &self.intro, &self.outcomes)
    }

    /// All numbers as JSON: an array with an object for each outcome. Times are in seconds.
    #[must_use]
    pub fn to_json(&self) -> String {
        json::array(&self.outcomes)
    }

    /// The numbers of every window as CSV, with a line for each window of each outcome. Times are in seconds.
    #[must_use]
    pub fn to_csv(&self) -> String {
        csv::windows(&self.outcomes)
    }

    /// Writes the page to a file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_html(&self, path: impl AsRef<Path>) -> io::Result<()> {
        std::fs::write(path, self.to_html())
    }
}
