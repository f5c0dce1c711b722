//! Compares two policies or two versions.

use std::fmt;

use crate::sweep::Interval;
use crate::{Cause, Outcome};

/// The figures of two groups of runs and their differences.
#[derive(Clone, PartialEq, Debug)]
pub struct Comparison {
    /// The names of the two groups.
    pub names: (String, String),
    /// The number of compared pairs of runs.
    pub pairs: usize,
    /// The compared figures.
    pub figures: Vec<Compared>,
}

/// One figure of two groups.
#[derive(Clone, PartialEq, Debug)]
pub struct Compared {
    /// The name of the figure, with its unit.
    pub what: &'static str,
    /// The figure of the first group.
    pub first: Interval,
    /// The figure of the second group.
    pub second: Interval,
    /// The second minus the first, pair by pair. With the same seeds in both groups the random
    /// numbers are the same, so small differences show.
    pub difference: Interval,
}

/// Compares runs pair by pair: the first of `a` with the first of `b`, which should have the same
/// seed. For two single runs, pass slices of one run. The result then has no interval.
///
/// ```
/// use std::time::Duration;
/// use buttress_sim::{Distribution, Queue, Scenario, Server, compare};
/// let run = |queue: Queue, seed: u64| {
///     let work = Distribution::exponential(Duration::from_millis(9));
///     let scenario = Scenario::new("queue", Duration::from_secs(30)).seed(seed);
///     scenario.run(|world| world.server(Server::new("server", work).queue(queue)))
/// };
/// let fifo = (0..5).map(|seed| run(Queue::fifo(), seed)).collect::<Result<Vec<_>, _>>()?;
/// let lifo = (0..5).map(|seed| run(Queue::lifo(), seed)).collect::<Result<Vec<_>, _>>()?;
/// let comparison = compare(&fifo, &lifo);
/// assert!(comparison.figure("p50 of ok (s)").unwrap().difference.high() < 0.0); // LIFO's median is lower
/// assert!(comparison.figure("p99 of ok (s)").unwrap().difference.low() > 0.0); // and its tail is longer
/// # Ok::<(), buttress_sim::SimError>(())
/// ```
#[must_use]
pub fn compare(a: &[Outcome], b: &[Outcome]) -> Comparison {
    let name = |group: &[Outcome]| group.first().map_or_else(String::new, |o| o.name().to_owned());
    let figures = FIGURES.iter().map(|(what, figure)| {
        let values = |group: &[Outcome]| group.iter().map(figure).collect::<Vec<f64>>();
        let (first, second) = (values(a), values(b));
        let differences: Vec<f64> = first.iter().zip(&second).map(|(a, b)| b - a).collect();
        Compared {
            what,
            first: Interval::of(&first),
            second: Interval::of(&second),
            difference: Interval::of(&differences),
        }
    });
    Comparison {
        names: (name(a), name(b)),
        pairs: a.len().min(b.len()),
        figures: figures.collect(),
    }
}

type Figure = (&'static str, fn(&Outcome) -> f64);

const FIGURES: [Figure; 10] = [
    ("offered (1/s)", Outcome::offered),
    ("goodput (1/s)", Outcome::goodput),
    ("succeeded", |o| o.share(Cause::Ok)),
    ("mean of ok (s)", |o| o.latency().mean().as_secs_f64()),
    ("p50 of ok (s)", |o| o.latency().quantile(0.5).as_secs_f64()),
    ("p99 of ok (s)", |o| o.latency().quantile(0.99).as_secs_f64()),
    ("attempts per request", Outcome::amplification),
    ("wasted work", Outcome::wasted_work),
    ("refused", |o| o.share(Cause::Open) + o.share(Cause::Full) + o.share(Cause::Limited)),
    ("timed out", |o| o.share(Cause::Timeout)),
];

impl Comparison {
    /// Returns the figure with that name.
    #[must_use]
    pub fn figure(&self, what: &str) -> Option<&Compared> {
        self.figures.iter().find(|figure| figure.what == what)
    }
}

impl fmt::Display for Comparison {
    /// Writes a table for the terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (a, b) = &self.names;
        writeln!(f, "{:22} {:>22} {:>22} {:>24}", "", a, b, "difference")?;
        for Compared { what, first, second, difference } in &self.figures {
            let cell = |i: &Interval| match i.half.is_finite() {
                true => format!("{:.4} ± {:.4}", i.mean, i.half),
                false => format!("{:.4}", i.mean),
            };
            let mark = if difference.half.is_finite() && difference.is_clear() { " *" } else { "" };
            let (first, second) = (cell(first), cell(second));
            writeln!(f, "{what:22} {first:>22} {second:>22} {:>24}{mark}", cell(difference))?;
        }
        if self.pairs > 1 {
            writeln!(
                f,
                "{} pairs of runs; ±: 95 % confidence; *: a difference beyond it",
                self.pairs
            )?;
        }
        Ok(())
    }
}
