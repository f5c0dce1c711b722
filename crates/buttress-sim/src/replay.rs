//! The same run again: whether it is the same, and how to get back to one that failed.

use std::fmt;
use std::ops::Range;

use buttress::{AsRefusal, InvalidConfig};
use tower::Service;

use crate::measure::Event;
use crate::scenario::SimError;
use crate::world::World;
use crate::{Outcome, Request, Scenario};

/// An invariant that did not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which.
    pub invariant: String,
    /// After what.
    pub event: Event,
    /// The how many-th event of the run that was; the first is 1.
    pub number: u64,
    /// What it said.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { invariant, event, number, what } = self;
        write!(f, "\"{invariant}\" does not hold: {what}, after event {number}: {event}")
    }
}

/// Why two runs of one seed are not known to be the same.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Diverged {
    /// A run could not be done.
    #[error(transparent)]
    Failed(#[from] SimError),
    /// The runs are different from here on.
    #[error(
        "the runs differ from event {number} on: first {}, then {}",
        told(.first),
        told(.second)
    )]
    At {
        /// The how many-th event; the first is 1.
        number: usize,
        /// The event of the first run; `None` if it had ended.
        first: Option<Event>,
        /// The event of the second.
        second: Option<Event>,
    },
}

fn told(event: &Option<Event>) -> String {
    event.map_or_else(|| "nothing".to_owned(), |event| event.to_string())
}

/// Runs a scenario twice, and names the first event that was not the same: what reads a real clock, draws from
/// a source that is not seeded, or depends on the order of a hash map.
///
/// All events of a run are kept in memory for that; a short run tells as much as a long one.
///
/// # Errors
/// [`Diverged::At`] where they differ, and what a run itself returned.
pub fn check_determinism<S>(
    scenario: &Scenario,
    build: impl Fn(&World) -> Result<S, InvalidConfig>,
) -> Result<Outcome, Diverged>
where
    S: Service<Request> + Clone + Send + 'static,
    S::Error: AsRefusal,
    S::Future: Send,
{
    let scenario = scenario.clone().keep_events(true);
    let (first, second) = (scenario.run(&build)?, scenario.run(&build)?);
    let events = |outcome: &Outcome| outcome.events().unwrap_or_default().to_vec();
    let (events, others) = (events(&first), events(&second));
    if events == others && first.trace_hash() == second.trace_hash() {
        return Ok(first);
    }
    let differ = |index: &usize| events.get(*index) != others.get(*index);
    let index = (0..events.len().max(others.len())).find(differ).unwrap_or(events.len());
    let (first, second) = (events.get(index).copied(), others.get(index).copied());
    Err(Diverged::At { number: index + 1, first, second })
}

/// The variable that picks one seed.
const SEED: &str = "BUTTRESS_SIM_SEED";

/// A property that failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("seed {seed}: {what}\nreproduce: {SEED}={seed} cargo test -- --exact {test}")]
pub struct Failed {
    /// The seed of the run.
    pub seed: u64,
    /// What the property said.
    pub what: String,
    /// The test that runs, as far as its thread knows.
    pub test: String,
}

/// Asks a property of every seed in a range. A failure prints one line that reproduces it at once: with the
/// variable `BUTTRESS_SIM_SEED` set only that seed is tried.
///
/// ```
/// use std::time::Duration;
/// use buttress_sim::{Scenario, Server, explore};
/// explore(0..20, |seed| {
///     let scenario = Scenario::new("property", Duration::from_secs(1)).seed(seed);
///     let outcome = scenario.run(|world| {
///         let server = world.server(Server::new("server", Duration::from_millis(2)))?;
///         let station = server.clone();
///         world.invariant("one at a time", move |_| match station.stats().running {
///             0 | 1 => Ok(()),
///             n => Err(format!("{n} at once")),
///         });
///         Ok(server)
///     });
///     outcome.map_err(|error| error.to_string())?.check()
/// })
/// .unwrap();
/// ```
///
/// # Errors
/// The first seed for which it does not hold.
pub fn explore(
    seeds: Range<u64>,
    property: impl Fn(u64) -> Result<(), String>,
) -> Result<(), Failed> {
    let only = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    let seeds = only.map_or(seeds, |seed: u64| seed..seed.saturating_add(1));
    for seed in seeds {
        property(seed).map_err(|what| {
            let thread = std::thread::current();
            Failed { seed, what, test: thread.name().unwrap_or("<test>").to_owned() }
        })?;
    }
    Ok(())
}

impl Outcome {
    /// Whether every invariant held.
    ///
    /// # Errors
    /// The first that did not, with the event and the seed.
    pub fn check(&self) -> Result<(), String> {
        match self.violations().first() {
            None => Ok(()),
            Some(violation) => {
                Err(format!("{violation} (scenario \"{}\", seed {})", self.name(), self.seed()))
            }
        }
    }
}
