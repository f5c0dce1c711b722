//! [`Scenario`]: one run with its load, its faults and its measurements.

mod running;

use std::sync::Arc;
use std::time::Duration;

use buttress::{__const_setters as const_setters, __setters as setters};
use buttress::{AsRefusal, InvalidConfig, Spawner, VirtualClock};
use tower::Service;

use crate::executor::{Executor, Stuck};
use crate::fault::Faults;
use crate::load::{Load, Request};
use crate::measure::Recorder;
use crate::outcome::Outcome;
use crate::world::World;
use crate::{Seed, tokio_engine};

/// The executor of the tasks of a run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Engine {
    /// The executor of this crate. It is the fastest, and names the waiting tasks of a deadlock.
    /// The default.
    #[default]
    Own,
    /// A current-thread runtime of tokio. User code with `tokio::spawn` runs unchanged. Layers need the clock of the
    /// world here too: tokio's clock is the real time. See [`tokio_engine`].
    Tokio,
}

/// Why a run was impossible.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SimError {
    /// A part of the scenario has an invalid configuration.
    #[error(transparent)]
    Invalid(#[from] InvalidConfig),
    /// The run stopped before its end.
    #[error(transparent)]
    Stuck(#[from] Stuck),
    /// The runtime of tokio could not be built.
    #[error("cannot build the tokio runtime")]
    Runtime(#[source] NoRuntime),
}

/// Why the runtime of tokio could not be built. Two errors of the same kind are equal.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct NoRuntime(#[from] Arc<std::io::Error>);

impl PartialEq for NoRuntime {
    fn eq(&self, other: &Self) -> bool {
        self.0.kind() == other.0.kind()
    }
}

impl Eq for NoRuntime {}

/// A run: its load, its faults, its duration and its measurements. The same scenario with the same
/// seed has the same outcome, to the byte.
///
/// ```
/// use std::time::Duration;
/// use buttress::time_limit::{Config, TimeLimitLayer};
/// use buttress_sim::{Cause, Distribution, Load, Scenario, Server};
/// use tower::Layer;
///
/// let ms = Duration::from_millis;
/// let scenario = Scenario::new("checkout", Duration::from_secs(60)).load(Load::poisson(80.0));
/// let outcome = scenario.run(|world| {
///     let database = world.server(Server::new("database", Distribution::exponential(ms(10))))?;
///     let config = Config::new(ms(100)).clock(world.clock()).observer(world.observer());
///     Ok(TimeLimitLayer::new(config)?.layer(database))
/// })?;
/// assert!(outcome.requests() > 4_500);
/// assert!(outcome.share(Cause::Timeout) > 0.05); // the tail of a queue that is 80 % busy
/// # Ok::<(), buttress_sim::SimError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Scenario {
    pub(crate) name: String,
    pub(crate) seed: Seed,
    pub(crate) duration: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) window: Option<Duration>,
    pub(crate) load: Load,
    pub(crate) faults: Faults,
    engine: Engine,
    vary_ties: bool,
    full_trace: bool,
    pub(crate) keep_events: bool,
    pub(crate) healthy: f64,
    pub(crate) target: Option<String>,
}

/// The most windows of a run. A run of more than a day can have windows of a second.
const MOST_WINDOWS: u128 = 100_000;

impl Scenario {
    /// Creates a run of `duration`. Without [`load`](Self::load) it has 100 requests per second at
    /// random times.
    pub fn new(name: impl Into<String>, duration: Duration) -> Self {
        Self {
            name: name.into(),
            seed: Seed::new(0),
            duration,
            warm_up: Duration::ZERO,
            window: None,
            load: Load::poisson(100.0),
            faults: Faults::new(),
            engine: Engine::Own,
            vary_ties: false,
            full_trace: false,
            keep_events: false,
            healthy: 0.9,
            target: None,
        }
    }

    /// Sets the seed of all random numbers. Default: 0.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Seed::new(seed);
        self
    }

    setters! {
        /// Sets the requests and their times. Default: 100 per second at random times.
        load(load: Load);

        /// Sets the faults. Default: none.
        faults(faults: Faults);
    }

    const_setters! {
        /// Sets the warm-up. Totals count only requests that begin after it; windows count all
        /// requests. Default: 0. Must be shorter than the run.
        warm_up(warm_up: Duration);
    }

    /// Sets the length of each window of the measurements. The last window is shorter if the length
    /// does not divide the run. Default: a 120th of the run. At least a 100 000th of the run.
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = Some(window);
        self
    }

    const_setters! {
        /// Sets the engine that runs the tasks. Default: [`Engine::Own`].
        engine(engine: Engine);

        /// Draws the order of simultaneous events from the seed. Applies to [`Engine::Own`] only.
        /// Default: off.
        vary_ties(vary: bool);

        /// Sets whether the trace has the jobs of stations. The simulation then also checks the
        /// invariants after each job. Default: off. It
        /// costs about a third of the speed.
        full_trace(full: bool);

        /// Keeps every event in [`Outcome::events`]. Memory then grows with the run. Default: off.
        keep_events(keep: bool);

        /// Sets the share of the offered load that a stable system must serve. Default: 0.9. Between 0
        /// and 1.
        healthy(share: f64);
    }

    /// Sets the station whose calls are the attempts of a request. Default: the first station that
    /// was made. A run rejects a name that no station of its world has.
    pub fn target(mut self, station: impl Into<String>) -> Self {
        self.target = Some(station.into());
        self
    }

    /// Runs the scenario. `build` makes the stack in its world, and every caller gets a clone of
    /// the stack.
    ///
    /// # Errors
    /// Returns the error of `build`, an error for an invalid load, fault or time, and [`Stuck`]. Returns
    /// [`SimError::Invalid`] for a layer or a store that was made during the run without the
    /// [clock of the world](World::clock). See the [requirements](crate#requirements-on-a-stack).
    ///
    /// # Panics
    /// If the code under test panics. With [`Engine::Own`], a part that waits on tokio's clock panics, and so does a
    /// part that starts a task of tokio.
    pub fn run<S>(
        &self,
        build: impl FnOnce(&World) -> Result<S, InvalidConfig>,
    ) -> Result<Outcome, SimError>
    where
        S: Service<Request> + Clone + Send + 'static,
        S::Error: AsRefusal,
        S::Future: Send,
    {
        let window = self.check()?;
        let time = VirtualClock::new();
        let warm = self.warm_up.is_zero();
        let recorder = Recorder::new(&time, self.full_trace, self.keep_events, warm);
        match self.engine {
            Engine::Own => {
                let mut executor = Executor::new(&time);
                if self.vary_ties {
                    executor = executor.vary_ties(self.seed.named("ties"));
                }
                let world = World::new(&time, self.seed, executor.spawner(), recorder);
                let simulation = world.simulation();
                let stack = build(&world)?;
                simulation.check()?;
                let main = self.begin(&world, window, stack)?;
                let ended = executor.block_on(main);
                // A layer with another clock explains a run that is stuck.
                simulation.check()?;
                ended?;
                world.recorder().stop();
                drop(executor);
                Ok(Outcome::of(self, &world))
            }
            Engine::Tokio => {
                let runtime = tokio_engine::Runtime::new(&time)
                    .map_err(|error| SimError::Runtime(NoRuntime(Arc::new(error))))?;
                let world = World::new(&time, self.seed, Spawner::default(), recorder);
                let simulation = world.simulation();
                let ended = runtime.block_on(async {
                    let stack = build(&world)?;
                    simulation.check()?;
                    self.begin(&world, window, stack)?.await;
                    world.recorder().stop();
                    Ok::<(), InvalidConfig>(())
                });
                simulation.check()?;
                ended??;
                drop(runtime);
                Ok(Outcome::of(self, &world))
            }
        }
    }

    /// Returns a 120th of the run, rounded up to a nanosecond. Rounding down would leave a 121st
    /// window.
    fn a_120th(&self) -> Duration {
        let nanos = self.duration.as_nanos().div_ceil(120);
        u64::try_from(nanos).map_or(self.duration / 120, Duration::from_nanos)
    }

    fn check(&self) -> Result<Duration, InvalidConfig> {
        self.load.check()?;
        self.faults.check()?;
        if self.duration.is_zero() {
            return Err(InvalidConfig::new("duration", "0s", "above zero"));
        }
        if self.warm_up >= self.duration {
            let bound = format!("less than the duration, {:?}", self.duration);
            return Err(InvalidConfig::new("warm-up", format!("{:?}", self.warm_up), bound));
        }
        let window = self.window.unwrap_or_else(|| self.a_120th()).max(Duration::from_nanos(1));
        if self.duration.as_nanos() / window.as_nanos() > MOST_WINDOWS {
            let bound = format!("at least a {MOST_WINDOWS}th of the duration");
            return Err(InvalidConfig::new("window", format!("{window:?}"), bound));
        }
        if !(0.0..=1.0).contains(&self.healthy) {
            return Err(InvalidConfig::new("healthy", self.healthy, "between 0 and 1"));
        }
        Ok(window)
    }
}
