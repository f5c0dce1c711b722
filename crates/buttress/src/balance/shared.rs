//! The state that the services of one balancer share. `seat.rs` has the guard of a call.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::{Config, Policy};
use super::endpoints::{Endpoint, Pool};
use super::history::{History, nanos};
use super::outliers::Outliers;
use super::state::Decision;
use crate::discover::Instance;
use crate::machinery::counters::{Counters, counters};
use crate::machinery::reconfigure::Reconfigure;
use crate::machinery::wakers::WakerSet;
use crate::sync::{Mutex, lock};
use crate::vocabulary::classify::{Classify, Outcome};
use crate::vocabulary::clock;
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::observe::Common;
use crate::vocabulary::pattern::Pattern;
use crate::vocabulary::rng::Rng;

counters! {
    /// The counters of a balancer.
    pub(super) enum Counter {
        Calls,
        Refused,
        Panicked,
        Failures,
        Ejections,
        Spared,
        NotReady,
        Changes,
        ResolveFailed,
    }
}

/// The rules that can change while the balancer runs. Only rare paths read them.
#[derive(Clone, Copy, Debug)]
pub(super) struct InForce {
    pub max_wait: Duration,
    pub ramp: Duration,
    pub eject: Option<Outliers>,
}

/// The age of the set, if a resolver makes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolved {
    /// The last success, or the start.
    pub since: Instant,
    pub known: bool,
    /// The failures since.
    pub failures: u32,
    /// The instances that were left out of the current set.
    pub left_out: usize,
}

/// The part of the state that does not depend on the type of the endpoints.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) policy: Policy,
    /// The window of the ejection, if endpoints are ejected.
    pub(super) window: Option<Duration>,
    rules: Mutex<InForce>,
    pub(super) counters: Counters<Counter>,
    pub(super) common: Common,
    pub(super) rng: Rng,
    anchor: Instant,
    pub(super) resolved: Mutex<Option<Resolved>>,
}

impl Shared {
    pub(super) fn new(config: &Config) -> Result<Arc<Self>, InvalidConfig> {
        config.check()?;
        Ok(Arc::new(Self {
            policy: config.policy,
            window: config.eject.map(|rules| rules.window),
            rules: Mutex::new(InForce::of(config)),
            counters: Counters::new(),
            common: config.common.of(Pattern::Balance),
            rng: config.rng.clone().unwrap_or_default(),
            anchor: config.common.clock.now(),
            resolved: Mutex::new(None),
        }))
    }

    pub(super) fn rules(&self) -> InForce {
        *lock(&self.rules)
    }

    /// Returns the nanoseconds since the balancer was made.
    #[inline]
    pub(super) fn now(&self) -> u64 {
        clock::nanos_since(self.anchor, self.common.clock.now())
    }

    /// Returns the nanoseconds from the making of the balancer to `at`.
    pub(super) fn nanos(&self, at: Instant) -> u64 {
        clock::nanos_since(self.anchor, at)
    }

    pub(super) fn instant(&self, nanos: u64) -> Instant {
        clock::after(self.anchor, Duration::from_nanos(nanos))
    }

    /// Returns `true` if a resolver has returned the current set.
    pub(super) fn is_set_known(&self) -> bool {
        lock(&self.resolved).is_some_and(|resolved| resolved.known)
    }

    /// Returns a number from -1 to 1.
    pub(super) fn jitter(&self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
}

impl InForce {
    fn of(config: &Config) -> Self {
        Self { max_wait: config.max_wait, ramp: config.ramp, eject: config.eject }
    }
}

impl Reconfigure for Shared {
    type Config = Config;

    fn config(&self) -> Config {
        let InForce { max_wait, ramp, eject } = self.rules();
        let (rng, common) = (Some(self.rng.clone()), self.common.clone());
        Config { policy: self.policy, eject, max_wait, ramp, rng, common }
    }

    fn accepts(old: &Config, new: &Config) -> Result<(), InvalidConfig> {
        new.check()?;
        if new.policy != old.policy {
            let bound = format!("the policy of the running balancer, {}", old.policy);
            return Err(InvalidConfig::new("policy", new.policy, bound));
        }
        match (&old.eject, &new.eject) {
            (Some(old), Some(new)) if old.window != new.window => {
                let bound = format!("the window of the running balancer, {:?}", old.window);
                Err(InvalidConfig::new("eject.window", format!("{:?}", new.window), bound))
            }
            (Some(_), None) => {
                Err(InvalidConfig::new("eject", "unset", "set as in the running balancer"))
            }
            (None, Some(_)) => {
                Err(InvalidConfig::new("eject", "set", "unset as in the running balancer"))
            }
            _ => Ok(()),
        }
    }

    fn apply(&self, config: &Config) {
        *lock(&self.rules) = InForce::of(config);
    }

    fn common(&self) -> &Common {
        &self.common
    }
}

/// The verdict of the classifier on a call that ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    outcome: Outcome,
    refused: bool,
}

impl Verdict {
    #[inline]
    pub(super) fn of<Res, E>(classify: &impl Classify<Res, E>, result: &Result<Res, E>) -> Self {
        Self { outcome: classify.classify(result), refused: classify.is_refusal(result) }
    }
}

/// The state that all clones of a balancer share.
pub(super) struct Core<S> {
    pub pool: Arc<Pool<S>>,
    pub shared: Arc<Shared>,
    /// Wakes the task of the resolver when the balancer is dropped.
    pub closed: Arc<WakerSet>,
}

impl<S> Drop for Core<S> {
    fn drop(&mut self) {
        self.closed.wake_all();
    }
}

impl<S> Core<S> {
    pub(super) fn new(pool: Arc<Pool<S>>, shared: Arc<Shared>) -> Result<Arc<Self>, InvalidConfig> {
        if !pool.take(&shared) {
            return Err(InvalidConfig::new(
                "endpoints",
                "a set in use",
                "the set of no other balancer",
            ));
        }
        Ok(Arc::new(Self { pool, shared, closed: Arc::new(WakerSet::new()) }))
    }

    /// Takes back the endpoints whose time has come.
    #[cold]
    pub(super) fn turn(&self, now: u64) {
        let back: Vec<Instance> = self.pool.change(|state| {
            let due = state.choices().next <= now;
            let back = state.turn(now);
            let back = back.into_iter().filter_map(|place| state.members.get(place));
            (back.map(|member| member.instance.clone()).collect(), due)
        });
        for instance in back {
            self.shared.common.endpoint_returned(&instance.shared_id());
        }
    }

    /// Judges a call that ended.
    #[inline]
    pub(super) fn ended(&self, history: &History, seat: (u64, u32), verdict: Verdict) {
        let (started, epoch) = seat;
        let shared = &*self.shared;
        if verdict == (Verdict { outcome: Outcome::Success, refused: false }) {
            if shared.policy != Policy::PeakEwma && shared.window.is_none() {
                return;
            }
            let now = shared.now();
            history.measure.took(now, now.saturating_sub(started));
            if let Some(window) = shared.window {
                history.succeeded(epoch, now, window);
            }
        } else {
            self.not_answered(history, started, epoch, verdict);
        }
    }

    /// Counts a failure, a refusal, or an answer that says nothing about the endpoint. The last two are not failures,
    /// and must not draw calls: they come faster than answers.
    #[cold]
    fn not_answered(&self, history: &History, started: u64, epoch: u32, verdict: Verdict) {
        let shared = &*self.shared;
        let now = shared.now();
        let took = now.saturating_sub(started);
        let others = self.pool.published.see().value().plan.load_of_others(history.serial);
        if verdict.outcome == Outcome::Ignored && !verdict.refused {
            history.measure.ignored(now, took, others);
            return;
        }
        history.measure.failed(now, took, others);
        if shared.policy == Policy::LeastPending {
            history.penalty.raise(now);
        }
        match (verdict.outcome, shared.window) {
            (Outcome::Failure, _) => self.count_failure(history, epoch, now),
            (Outcome::Success, Some(window)) => history.succeeded(epoch, now, window),
            _ => {}
        }
    }

    fn count_failure(&self, history: &History, epoch: u32, now: u64) {
        let shared = &*self.shared;
        shared.counters.add(Counter::Failures);
        history.failures.fetch_add(1, crate::sync::Ordering::Relaxed);
        if let Some(rules) = shared.rules().eject {
            if history.failed(epoch, now, &rules) {
                self.eject(history, now, &rules);
            }
        }
    }

    fn eject(&self, history: &History, now: u64, rules: &Outliers) {
        let (shared, jitter) = (&*self.shared, self.shared.jitter());
        let (decision, instance) = self.pool.change(|state| {
            let decision = state.eject(history.serial, now, rules, jitter);
            let mut members = state.members.iter();
            let member = members.find(|it| it.history.serial == history.serial);
            let instance = member.map(|it| it.instance.clone());
            let changed = matches!(decision, Decision::Ejected(_));
            ((decision, instance), changed)
        });
        match (decision, instance) {
            (Decision::Ejected(away), Some(instance)) => {
                shared.counters.add(Counter::Ejections);
                shared.common.endpoint_ejected(&instance.shared_id(), away);
            }
            (Decision::Spared, _) => shared.counters.add(Counter::Spared),
            _ => {}
        }
    }

    /// Lets an endpoint rest that failed to become ready.
    #[cold]
    pub(super) fn not_ready(&self, endpoint: &Endpoint<S>) {
        let (shared, jitter) = (&*self.shared, self.shared.jitter());
        let (serial, now) = (endpoint.history.serial, shared.now());
        shared.counters.add(Counter::NotReady);
        let rested = self.pool.change(|state| {
            let rest = state.rest(serial, now, jitter);
            let member = state.members.iter().find(|it| it.history.serial == serial);
            let rested = member.and_then(|it| Some((it.instance.clone(), rest?)));
            let changed = rested.is_some();
            (rested, changed)
        });
        if let Some((instance, rest)) = rested {
            shared.common.endpoint_not_ready(&instance.shared_id(), rest);
        }
    }
}

/// Returns the longest wait of a call, and whether the deadline of its request ends it.
pub(super) fn longest_wait(rules: InForce, now: impl FnOnce() -> Instant) -> (Duration, bool) {
    match crate::context::wait_until_deadline(None, now) {
        Some(left) if left <= rules.max_wait => (left, true),
        _ => (rules.max_wait, false),
    }
}

/// Returns the instant `wait` after `now`, both in nanoseconds.
pub(super) fn after(now: u64, wait: Duration) -> u64 {
    now.saturating_add(nanos(wait))
}
