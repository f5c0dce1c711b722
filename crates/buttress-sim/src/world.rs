//! [`World`]: the environment in which a stack is built.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use buttress::__simulated::Simulation;
use buttress::{Clock, InvalidConfig, Observer, Rng, Spawner, VirtualClock};

use crate::Seed;
use crate::fault::{Condition, Fault};
use crate::link::{Link, LinkLayer, LinkState};
use crate::measure::{Event, Recorder, SourceId, StationWindow, What};
use crate::server::{Core, Server, Station, StationStats};
use crate::watch::Watch;

/// The environment of one run: its clock, random sources, services and observers. Cheap to clone;
/// clones are the same world.
///
/// A [`Scenario`](crate::Scenario) passes it to the closure that builds the stack.
#[derive(Clone)]
pub struct World {
    inner: Arc<Inner>,
}

struct Inner {
    time: VirtualClock,
    start: Instant,
    seed: Seed,
    spawner: Spawner,
    recorder: Arc<Recorder>,
    /// The number of observers.
    watches: AtomicU32,
    parts: Mutex<Parts>,
}

#[derive(Default)]
struct Parts {
    stations: Vec<Arc<Core>>,
    /// The counts of each station when the last window closed.
    before: Vec<StationStats>,
    links: Vec<(String, Arc<LinkState>)>,
    nodes: Vec<(String, VirtualClock)>,
    gauges: Vec<(String, Box<dyn Fn() -> f64 + Send>)>,
}

impl World {
    pub(crate) fn new(
        time: &VirtualClock,
        seed: Seed,
        spawner: Spawner,
        recorder: Arc<Recorder>,
    ) -> Self {
        let start = time.clock().now();
        let (time, parts) = (time.clone(), Mutex::default());
        let watches = AtomicU32::new(0);
        Self { inner: Arc::new(Inner { time, start, seed, spawner, recorder, watches, parts }) }
    }

    /// Returns the clock of the run. Every layer of the stack takes it in its `Config`. A run returns an error for a
    /// layer that is made with another clock.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.inner.time.clock()
    }

    /// Returns the virtual clock behind [`clock`](Self::clock), for reading.
    #[must_use]
    pub fn time(&self) -> &VirtualClock {
        &self.inner.time
    }

    /// Returns the instant at which the run began.
    #[must_use]
    pub fn start(&self) -> Instant {
        self.inner.start
    }

    /// Returns the time since the run began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.inner.time.elapsed()
    }

    /// Returns the random source with that name, for jitter, ids and other needs. It is the same
    /// for the same seed.
    #[must_use]
    pub fn rng(&self, name: &str) -> Rng {
        self.inner.seed.child("user").named(name)
    }

    /// Returns the spawner through which orchestrators start their tasks.
    #[must_use]
    pub fn spawner(&self) -> Spawner {
        self.inner.spawner.clone()
    }

    /// Returns an observer that records the events of layers: for the trace, the bands of circuits,
    /// and the counts of retries and refusals. Make one per layer, because observers distinguish layers without a
    /// name.
    ///
    /// A layer that is made during the run without an observer gets one automatically. A layer with an observer of your
    /// own has no observer of the world, so the counts do not include it.
    #[must_use]
    pub fn observer(&self) -> Watch {
        let number = self.inner.watches.fetch_add(1, Ordering::Relaxed);
        Watch { recorder: self.inner.recorder.clone(), number }
    }

    /// Makes a service under test.
    ///
    /// # Errors
    /// Returns an error if there are no servers, if a share of errors is outside of 0 to 1, or if
    /// the name is used twice.
    pub fn server(&self, server: Server) -> Result<Station, InvalidConfig> {
        server.check()?;
        let Inner { time, start, seed, recorder, .. } = &*self.inner;
        let core = Core::new(&server, *seed, time, *start, recorder);
        let mut parts = self.parts();
        if parts.stations.iter().any(|known| known.name() == core.name()) {
            return Err(InvalidConfig::new(
                "name",
                core.name(),
                "a name that no other station has",
            ));
        }
        parts.stations.push(core.clone());
        parts.before.push(StationStats::default());
        Ok(Station::new(core))
    }

    /// Makes a network in front of a service, as a layer.
    ///
    /// # Errors
    /// Returns an error for a loss outside of 0 to 1, or a second link of the same name.
    pub fn link(&self, link: Link) -> Result<LinkLayer, InvalidConfig> {
        link.check()?;
        let name = link.name().to_owned();
        let rng = self.inner.seed.named(&format!("link {name}"));
        let state = LinkState::new(link, rng, self.clock());
        let mut parts = self.parts();
        if parts.links.iter().any(|(known, _)| *known == name) {
            return Err(InvalidConfig::new("name", name, "a name that no other link has"));
        }
        parts.links.push((name, state.clone()));
        Ok(LinkLayer::new(state))
    }

    /// Returns the clock of another machine: the same time, with a wall clock that [`Fault::Skew`]
    /// shifts. A fault affects every node of its name.
    #[must_use]
    pub fn node(&self, name: impl Into<String>) -> Clock {
        let node = self.inner.time.node();
        self.parts().nodes.push((name.into(), node.clone()));
        node.clock()
    }

    /// Reads `value` at the end of every window: tokens, permits, a queue length, or any other
    /// number of a handle.
    pub fn gauge(&self, name: impl Into<String>, value: impl Fn() -> f64 + Send + 'static) {
        self.parts().gauges.push((name.into(), Box::new(value)));
    }

    /// Calls `holds` after every event of the run. The [`Outcome`](crate::Outcome) has each
    /// violation with its event. The closure must not wait.
    pub fn invariant(
        &self,
        name: impl Into<String>,
        holds: impl FnMut(&Event) -> Result<(), String> + Send + 'static,
    ) {
        self.inner.recorder.check(name.into(), Box::new(holds));
    }

    /// Adds a decision of the code under test to the trace. A difference between two runs then
    /// shows at that decision.
    pub fn note(&self, source: &str, id: u64, value: u64) {
        let recorder = &self.inner.recorder;
        recorder.event(recorder.source(source), What::Noted(value), id);
    }

    /// Begins the run on this thread. Until the guard is dropped, layers that are made without an observer have one of
    /// this world, and parts with another clock are found.
    pub(crate) fn simulation(&self) -> Simulation {
        let world = self.clone();
        Simulation::begin(&self.inner.time, move || -> Arc<dyn Observer> {
            Arc::new(world.observer())
        })
    }

    pub(crate) fn seed(&self) -> Seed {
        self.inner.seed
    }

    pub(crate) fn recorder(&self) -> &Arc<Recorder> {
        &self.inner.recorder
    }

    pub(crate) fn source(&self, name: &str) -> SourceId {
        self.inner.recorder.source(name)
    }

    pub(crate) fn has_station(&self, name: &str) -> bool {
        self.parts().stations.iter().any(|core| core.name() == name)
    }

    pub(crate) fn knows(&self, target: &str, fault: &Fault) -> bool {
        let parts = self.parts();
        if fault.strikes_stations() {
            parts.stations.iter().any(|core| core.name() == target)
        } else if fault.strikes_links() {
            parts.links.iter().any(|(name, _)| name == target)
        } else {
            parts.nodes.iter().any(|(name, _)| name == target)
        }
    }

    /// Sets the current faults of every part with the name `target`.
    pub(crate) fn strike(&self, target: &str, faults: &[&Fault]) {
        let parts = self.parts();
        let core = parts.stations.iter().find(|core| core.name() == target).cloned();
        let link =
            parts.links.iter().find(|(name, _)| name == target).map(|(_, link)| link.clone());
        let named = parts.nodes.iter().filter(|(name, _)| name == target);
        let nodes: Vec<_> = named.map(|(_, node)| node.clone()).collect();
        drop(parts);
        if let Some(core) = core {
            core.set_condition(Condition::of(faults.iter().copied()));
        }
        if let Some(link) = link {
            link.strike(faults);
        }
        for node in nodes {
            let skew =
                faults.iter().map(|fault| if let Fault::Skew(nanos) = fault { *nanos } else { 0 });
            node.set_skew(skew.fold(0, i64::saturating_add));
        }
    }

    /// Takes all readings of a window.
    pub(crate) fn sample(&self) {
        let mut parts = self.parts();
        let Parts { stations, before, gauges, .. } = &mut *parts;
        let mut windows = Vec::with_capacity(stations.len());
        for (core, before) in stations.iter().zip(before) {
            let now = core.stats();
            windows.push(StationWindow::between(before, &now));
            *before = now;
        }
        let gauges = gauges.iter().map(|(_, value)| value()).collect();
        drop(parts);
        self.inner.recorder.close_window(windows, gauges);
    }

    pub(crate) fn warm_up_is_over(&self) {
        let mut parts = self.parts();
        parts.stations.iter().for_each(|core| core.restart_tally());
        parts.before.fill(StationStats::default());
        drop(parts);
        self.inner.recorder.warm_up_is_over();
    }

    pub(crate) fn stations(&self) -> Vec<(String, StationStats)> {
        let parts = self.parts();
        parts.stations.iter().map(|core| (core.name().to_owned(), core.stats())).collect()
    }

    pub(crate) fn gauge_names(&self) -> Vec<String> {
        self.parts().gauges.iter().map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn shut_down(&self) {
        let mut parts = self.parts();
        // Handles in a gauge may hold this world.
        let gauges = std::mem::take(&mut parts.gauges);
        let stations = parts.stations.clone();
        drop(parts);
        drop(gauges);
        stations.iter().for_each(|core| core.shut_down());
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.inner.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("seed", &self.inner.seed)
            .field("time", &self.inner.time)
            .finish()
    }
}
