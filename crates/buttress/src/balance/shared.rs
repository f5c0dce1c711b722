//! State that the services of one balancer share, and the guard of a call.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::{Config, Policy};
use super::endpoints::{Endpoint, Pool};
use super::history::{History, nanos};
use super::outliers::Outliers;
use super::state::Verdict;
use crate::discover::Instance;
use crate::machinery::counters::{Counters, counters};
use crate::machinery::guard::Guard;
use crate::machinery::reconfigure::Reconfigure;
use crate::machinery::wakers::WakerSet;
use crate::sync::{Mutex, lock};
use crate::vocabulary::classify::Outcome;
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
    pub(super) max_wait: Duration,
    pub(super) ramp: Duration,
    pub(super) eject: Option<Outliers>,
}

/// The age of the set, if a resolver makes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolved {
    /// The last success, or the start.
    pub(super) since: Instant,
    pub(super) known: bool,
    /// The failures since.
    pub(super) failures: u32,
}

/// The part of the state that does not depend on the type of the endpoints.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) policy: Policy,
    /// The window of the ejection, if endpoints are ejected.
    pub(super) window: Option<Duration>,
    rules: Mutex<InForce>,
    pub(super) counters: Counters<{ Counter::COUNT }, Counter>,
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

    pub(super) fn instant(&self, nanos: u64) -> Instant {
        clock::after(self.anchor, Duration::from_nanos(nanos))
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

/// The state that all clones of a balancer share.
pub(super) struct Core<S> {
    pub(super) pool: Arc<Pool<S>>,
    pub(super) shared: Arc<Shared>,
    /// Wakes the task of the resolver when the balancer is dropped.
    pub(super) closed: Arc<WakerSet>,
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
    fn ended(&self, history: &History, seat: (u64, u32), outcome: Outcome, is_error: bool) {
        let (started, epoch) = seat;
        let shared = &*self.shared;
        if outcome == Outcome::Success {
            if shared.policy != Policy::PeakEwma && shared.window.is_none() {
                return;
            }
            let now = shared.now();
            history.measure.took(now, now.saturating_sub(started));
            if let Some(window) = shared.window {
                history.succeeded(epoch, now, window);
            }
        } else if is_error || outcome == Outcome::Failure {
            self.failed(history, started, epoch, outcome);
        }
    }

    /// Counts a failure, or an error that says nothing about the service. The latter only makes the endpoint look
    /// slow: a stack that refuses calls must not draw them.
    #[cold]
    fn failed(&self, history: &History, started: u64, epoch: u32, outcome: Outcome) {
        let shared = &*self.shared;
        let now = shared.now();
        let others = self.pool.published.see().value().plan.load_of_others(history.serial);
        history.measure.failed(now, now.saturating_sub(started), others);
        if outcome != Outcome::Failure {
            return;
        }
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
        let (verdict, instance) = self.pool.change(|state| {
            let verdict = state.eject(history.serial, now, rules, jitter);
            let mut members = state.members.iter();
            let member = members.find(|it| it.history.serial == history.serial);
            let instance = member.map(|it| it.instance.clone());
            let changed = matches!(verdict, Verdict::Ejected(_));
            ((verdict, instance), changed)
        });
        match (verdict, instance) {
            (Verdict::Ejected(away), Some(instance)) => {
                shared.counters.add(Counter::Ejections);
                shared.common.endpoint_ejected(&instance.shared_id(), away);
            }
            (Verdict::Spared, _) => shared.counters.add(Counter::Spared),
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

/// The place of a call at its endpoint. Dropping it ends the call.
pub(super) struct Seat<S> {
    pub(super) core: Arc<Core<S>>,
    /// `None` before the endpoint is chosen, and once the call is over.
    endpoint: Option<Arc<Endpoint<S>>>,
    started: u64,
    epoch: u32,
}

impl<S> Seat<S> {
    /// Begins a call, whose time counts from `now`.
    #[inline]
    pub(super) fn new(core: Arc<Core<S>>, endpoint: Option<Arc<Endpoint<S>>>, now: u64) -> Self {
        let mut seat = Self { core, endpoint: None, started: now, epoch: 0 };
        if let Some(endpoint) = endpoint {
            seat.take(endpoint, now);
        }
        seat
    }

    #[inline]
    pub(super) fn take(&mut self, endpoint: Arc<Endpoint<S>>, now: u64) {
        endpoint.history.begin();
        (self.started, self.epoch) = (now, endpoint.history.epoch());
        self.endpoint = Some(endpoint);
    }

    #[inline]
    pub(super) fn endpoint(&self) -> Option<&Arc<Endpoint<S>>> {
        self.endpoint.as_ref()
    }

    /// Counts the call, which the endpoint gets now.
    #[inline]
    pub(super) fn called(&self) {
        if self.core.shared.common.count_calls {
            if let Some(endpoint) = &self.endpoint {
                endpoint.history.calls.fetch_add(1, crate::sync::Ordering::Relaxed);
            }
        }
    }

    /// Leaves the endpoint, which did not get the call.
    #[cold]
    pub(super) fn leave(&mut self) -> Option<Arc<Endpoint<S>>> {
        let endpoint = self.endpoint.take()?;
        endpoint.history.end();
        Some(endpoint)
    }

    #[inline]
    pub(super) fn end(&mut self, outcome: Outcome, is_error: bool) {
        if let Some(endpoint) = self.endpoint.take() {
            endpoint.history.end();
            self.core.ended(&endpoint.history, (self.started, self.epoch), outcome, is_error);
        }
    }

    /// Ends a call that was dropped. It is no failure, but it took at least this long.
    #[cold]
    #[inline(never)]
    fn abandon(&mut self) {
        if let Some(endpoint) = self.leave() {
            let now = self.core.shared.now();
            endpoint.history.measure.took(now, now.saturating_sub(self.started));
        }
    }
}

impl<S> Guard for Seat<S> {
    #[inline]
    fn give_back(&mut self) {
        if self.endpoint.is_some() {
            self.abandon();
        }
    }
}

impl<S> Drop for Seat<S> {
    #[inline]
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Returns the longest wait of a call in nanoseconds.
pub(super) fn longest_wait(rules: InForce, now: impl FnOnce() -> Instant) -> Duration {
    let longest = crate::context::wait_until_deadline(Some(rules.max_wait), now);
    longest.unwrap_or(rules.max_wait).min(rules.max_wait)
}

/// Returns the instant `wait` after `now`, both in nanoseconds.
pub(super) fn after(now: u64, wait: Duration) -> u64 {
    now.saturating_add(nanos(wait))
}
