//! The checks of a service and their state, shared by all handles and tasks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::check::{Check, Looking};
use super::config::Config;
use super::finding::{Finding, Status};
use super::state::{Begin, Change, State, Times};
use crate::sync::{Mutex, lock};
use crate::vocabulary::clock::Clock;
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::name::Name;
use crate::vocabulary::observe::simulated::check_clock;
use crate::vocabulary::spawn::Spawner;

pub(super) struct Shared {
    pub name: Name,
    pub version: String,
    config: Config,
    state: Mutex<State>,
    /// The functions of the checks, by index.
    looks: Mutex<Vec<Look>>,
    /// Notifies the tasks that start checks of a new one.
    added: watch::Sender<()>,
}

/// Starts one run of a check.
pub(super) type Look = Arc<dyn Fn() -> Looking + Send + Sync>;

impl Shared {
    /// `config` was checked.
    pub(super) fn new(name: Name, version: String, config: Config) -> Self {
        check_clock(name.as_str(), &config.clock);
        let times = Times { interval: config.interval, limit: config.limit };
        let (state, looks) = (Mutex::new(State::new(times)), Mutex::default());
        Self { name, version, config, state, looks, added: watch::Sender::new(()) }
    }

    pub(super) const fn clock(&self) -> &Clock {
        &self.config.clock
    }

    pub(super) const fn spawner(&self) -> &Spawner {
        &self.config.spawner
    }

    /// Returns how long one run may take.
    pub(super) const fn limit(&self) -> Duration {
        self.config.limit
    }

    pub(super) fn add(&self, check: Check) -> Result<(), InvalidConfig> {
        check.check_name()?;
        let Check { identity, look } = check;
        let name = identity.name;
        {
            // Both lists grow under one lock, so an index means one check.
            let mut looks = lock(&self.looks);
            if lock(&self.state).add(identity).is_none() {
                let bound = "a name that no other check has";
                return Err(InvalidConfig::new("check", format!("{:?}", name.as_str()), bound));
            }
            looks.push(look.into());
        }
        self.added.send_replace(());
        Ok(())
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.added.subscribe()
    }

    /// Returns the functions of the checks from `index` on.
    pub(super) fn looks_from(&self, index: usize) -> Vec<Look> {
        lock(&self.looks).iter().skip(index).cloned().collect()
    }

    /// Decides on the state as of now.
    pub(super) fn decide<T>(&self, decide: impl FnOnce(&mut State, Instant) -> T) -> T {
        let now = self.clock().now();
        decide(&mut lock(&self.state), now)
    }

    /// Begins a run of a check, or returns when to ask again.
    pub(super) fn begin(self: &Arc<Self>, index: usize) -> Result<Run, Instant> {
        match self.decide(|state, now| state.begin(index, now)) {
            Begin::Now => Ok(Run { shared: self.clone(), index, in_flight: true }),
            Begin::Later(at) => Err(at),
        }
    }

    fn report(&self, change: Change) {
        let Change { check, status, text } = change;
        let (layer, check) = (self.name.as_str(), check.as_str());
        if status == Status::Up {
            tracing::info!(target: "buttress", layer, check, "a health check is UP again");
        } else {
            let status = status.as_str();
            tracing::warn!(target: "buttress", layer, check, status, text, "a health check is not UP");
        }
    }
}

/// A run of a check that is in flight. Dropping it abandons the run: the check has no new result.
pub(super) struct Run {
    shared: Arc<Shared>,
    index: usize,
    in_flight: bool,
}

impl Run {
    /// Ends the run with its finding, or with `None` if it was cancelled at its limit.
    pub(super) fn end(mut self, finding: Option<Finding>) {
        self.in_flight = false;
        let change = self.shared.decide(|state, now| state.end(self.index, finding, now));
        if let Some(change) = change {
            self.shared.report(change);
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.in_flight {
            self.shared.decide(|state, _| state.abandon(self.index));
        }
    }
}
