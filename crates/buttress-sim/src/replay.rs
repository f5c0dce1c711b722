//! Repeating a run: checking that it is deterministic, and reproducing a failure.

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
    /// The name of the invariant.
    pub invariant: String,
    /// The event after which it did not hold.
    pub event: Event,
    /// The number of that event in the run, from 1.
    pub number: u64,
    /// The description that the invariant returned.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { invariant, event, number, what } = self;
        write!(f, "\"{invariant}\" does not hold: {what}, after event {number}: {event}")
    }
}

/// Why two runs with one seed differ, or why the comparison failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Diverged {
    /// A run failed.
    #[error(transparent)]
    Failed(#[from] SimError),
    /// The runs differ from this event on.
    #[error(
        "the runs differ from event {number} on: first {}, then {}",
        told(.first),
        told(.second)
    )]
    At {
        /// The number of the event, from 1.
        number: usize,
        /// The event of the first run; `None` if it had ended.
        first: Option<Event>,
        /// The event of the second run; `None` if it had ended.
        second: Option<Event>,
    },
}

fn told(event: &Option<Event>) -> String {
    event.map_or_else(|| "nothing".to_owned(), |event| event.to_string())
}

/// Runs a scenario twice, and names the first event that differs. Typical causes are a random source without a seed, the
/// order of a hash map, or code that reads the real time. Two runs with the real time can also agree by chance: both take
/// almost none of it. The run itself refuses layers [without the clock of the world](crate#requirements-on-a-stack).
///
/// Both runs keep all events in memory. A short run finds such a difference as well as a long one.
///
/// # Errors
/// Returns [`Diverged::At`] with the first difference, and the error of a run.
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

/// The variable that selects one seed.
const SEED: &str = "BUTTRESS_SIM_SEED";

/// A property that failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("seed {seed}: {what}\nreproduce: {SEED}={seed} cargo test -- --exact {test}")]
pub struct Failed {
    /// The seed of the run.
    pub seed: u64,
    /// The description that the property returned.
    pub what: String,
    /// The name of the running test, from the name of its thread.
    pub test: String,
}

/// Checks a property with every seed in a range. A failure prints one line that reproduces it: with
/// the variable `BUTTRESS_SIM_SEED` set, only that seed runs.
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
///             n => Err(format!("{n} concurrently")),
///         });
///         Ok(server)
///     });
///     outcome.map_err(|error| error.to_string())?.check()
/// })
/// .unwrap();
/// ```
///
/// # Errors
/// Returns the first seed for which the property does not hold.
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
    /// Checks that every invariant held.
    ///
    /// # Errors
    /// Returns the first violation, with its event and the seed.
    pub fn check(&self) -> Result<(), String> {
        match self.violations().first() {
            None => Ok(()),
            Some(violation) => {
                Err(format!("{violation} (scenario \"{}\", seed {})", self.name(), self.seed()))
            }
        }
    }
}
