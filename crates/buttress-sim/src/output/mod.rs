//! Reports of runs: a table for the terminal, a page, and numbers for other programs.

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

/// A report that shows outcomes side by side.
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
    /// Creates a report without outcomes.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), intro: String::new(), outcomes: Vec::new() }
    }

    /// Sets a paragraph for the beginning, in plain text. Default: none.
    pub fn intro(mut self, text: impl Into<String>) -> Self {
        self.intro = text.into();
        self
    }

    /// Adds an outcome below the earlier ones.
    #[expect(clippy::should_implement_trait, reason = "nothing is summed up here")]
    pub fn add(mut self, outcome: Outcome) -> Self {
        self.outcomes.push(outcome);
        self
    }

    /// Returns the outcomes, in order.
    #[must_use]
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// Returns a table with one line per outcome, and its goodput over the time as a row of blocks.
    #[must_use]
    pub fn to_text(&self) -> String {
        text::table(&self.outcomes)
    }

    /// Returns a self-contained page: it needs no server, no network and no script.
    #[must_use]
    pub fn to_html(&self) -> String {
        html::page(&self.title, &self.intro, &self.outcomes)
    }

    /// Returns all numbers as JSON: an array with one object per outcome. Times are in seconds.
    #[must_use]
    pub fn to_json(&self) -> String {
        json::array(&self.outcomes)
    }

    /// Returns the numbers of every window as CSV, with one line per window of each outcome. Times
    /// are in seconds.
    #[must_use]
    pub fn to_csv(&self) -> String {
        csv::windows(&self.outcomes)
    }

    /// Writes the page to a file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn write_html(&self, path: impl AsRef<Path>) -> io::Result<()> {
        std::fs::write(path, self.to_html())
    }
}
