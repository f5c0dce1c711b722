use std::sync::Arc;
use std::time::Duration;

use super::config::Config;
use super::endpoints::Pool;
use super::shared::{Counter, Shared};
use super::state::{EndpointState, Member};
use crate::machinery::reconfigure::{Reconfigure as _, operated};
use crate::sync::{Ordering, lock};
#[cfg(feature = "serde")]
use crate::vocabulary::duration_text;
use crate::vocabulary::reading::snapshot;

/// The handle of a balancer, for operators and health checks. Cheap to clone.
///
/// All clones, and every clone of the balancer, share one state.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) set: Arc<dyn Operate>,
}

/// The set of a balancer, whatever its endpoints are.
pub(super) trait Operate: Send + Sync {
    fn members(&self) -> Vec<Member>;
    fn mark(&self, id: &str, down: bool) -> bool;
}

impl<S: Send> Operate for Pool<S> {
    fn members(&self) -> Vec<Member> {
        self.read(|state| state.members.clone())
    }

    fn mark(&self, id: &str, down: bool) -> bool {
        self.change(|state| match state.mark(id, down) {
            Some(changed) => (changed, changed),
            None => (true, false),
        })
    }
}

impl Handle {
    /// Marks the endpoint with the instance id `id` as down: calls go to other endpoints. Returns `false` if there is
    /// no such endpoint.
    ///
    /// Use it for health checks and operators. If no endpoint is in, calls go to all endpoints that do not rest after a
    /// failed `poll_ready`. So a health check that is wrong about all endpoints stops no call. If all endpoints rest,
    /// calls are refused.
    #[must_use = "`false` means that there is no such endpoint"]
    pub fn mark_down(&self, id: &str) -> bool {
        self.set.mark(id, true)
    }

    /// Takes back the mark of [`mark_down`](Self::mark_down). Returns `false` if there is no such endpoint.
    #[must_use = "`false` means that there is no such endpoint"]
    pub fn mark_up(&self, id: &str) -> bool {
        self.set.mark(id, false)
    }

    /// Returns the current numbers of each endpoint, in the order of the set.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointStats> {
        let now = self.shared.now();
        let stats = |member: &Member| EndpointStats {
            id: member.instance.id().to_owned(),
            address: member.instance.address().to_owned(),
            weight: member.instance.weight(),
            state: member.standing.state(),
            pending: member.history.pending(),
            latency: member.history.measure.at(now),
            calls: self
                .shared
                .common
                .count_calls
                .then(|| member.history.calls.load(Ordering::Relaxed)),
            failures: member.history.failures.load(Ordering::Relaxed),
        };
        self.set.members().iter().map(stats).collect()
    }

    /// Returns a snapshot of the statistics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (shared, members) = (&self.shared, self.set.members());
        let sum = |counter| shared.counters.sum(counter);
        let count = |state| members.iter().filter(|it| it.standing.state() == state).count();
        let now = shared.common.clock.now();
        let resolver = lock(&shared.resolved).map(|resolved| ResolverStats {
            known: resolved.known,
            age: now.saturating_duration_since(resolved.since),
            failing: resolved.failures,
            left_out: resolved.left_out,
        });
        Stats {
            endpoints: members.len(),
            endpoints_in: count(EndpointState::In),
            ejected: count(EndpointState::Ejected),
            resting: count(EndpointState::Resting),
            down: count(EndpointState::Down),
            pending: members.iter().map(|it| u64::from(it.history.pending())).sum(),
            calls: shared.common.count_calls.then(|| sum(Counter::Calls)),
            refused: sum(Counter::Refused),
            panicked: sum(Counter::Panicked),
            failures: sum(Counter::Failures),
            ejections: sum(Counter::Ejections),
            spared: sum(Counter::Spared),
            not_ready: sum(Counter::NotReady),
            changes: sum(Counter::Changes),
            resolve_failed: sum(Counter::ResolveFailed),
            resolver,
        }
    }
}

operated! {
    /// Replaces the longest wait, the bounds of the ejection, and the ramp of endpoints that join from now on,
    /// with the values of `config`.
    ///
    /// # Errors
    /// Returns an error for the first field of `config` that is out of its bounds. Returns an error too for another
    /// policy, another window of the ejection, or ejection switched on or off. After an error nothing has changed.
    pub fn reconfigure(&self, config: &Config);
}

snapshot! {
    /// A snapshot of a balancer.
    pub struct Stats: Copy + Eq {
        /// The endpoints of the set.
        pub endpoints: usize,
        /// Endpoints that get calls.
        pub endpoints_in: usize,
        /// Endpoints that are ejected: they failed too often, and get no calls until their ejection ends.
        pub ejected: usize,
        /// Endpoints that rest: they failed to become ready, and get no calls until the rest ends.
        pub resting: usize,
        /// Endpoints that a health check or an operator marked as down.
        pub down: usize,
        /// Calls in progress.
        pub pending: u64,
        /// The number of calls that have begun. `None` unless [`count_calls`](Config::count_calls) is on.
        pub calls: Option<u64>,
        /// Calls refused because no endpoint took them.
        pub refused: u64,
        /// Calls in panic mode: every endpoint was out, so they went to endpoints that were out.
        pub panicked: u64,
        /// Calls that failed at an endpoint.
        pub failures: u64,
        /// Ejections.
        pub ejections: u64,
        /// Failures that ejected no endpoint only because half of the endpoints were out already.
        pub spared: u64,
        /// How many times an endpoint failed to become ready.
        pub not_ready: u64,
        /// Changes of the set.
        pub changes: u64,
        /// Failures of the resolver, and instances that were left out of a set.
        pub resolve_failed: u64,
        /// The resolver. `None` for a balancer without one.
        pub resolver: Option<ResolverStats>,
    }
}

snapshot! {
    /// A snapshot of the resolver of a balancer.
    pub struct ResolverStats: Copy + Eq {
        /// `true` once the resolver has returned a set.
        pub known: bool,
        /// The time since the resolver returned the current set, or since it was started. A resolver that returns only
        /// changes lets it grow, so look at `failing` too.
        #[cfg_attr(feature = "serde", serde(serialize_with = "duration_text::serialize"))]
        pub age: Duration,
        /// How many times the resolver has failed since it returned the current set. A set of which no stack could be
        /// made counts as a failure.
        pub failing: u32,
        /// Instances that are not in the set, because no stack could be made of them. The balancer tries them again
        /// when the resolver returns the next set.
        pub left_out: usize,
    }
}

snapshot! {
    /// A snapshot of one endpoint of a balancer.
    pub struct EndpointStats: Eq {
        /// The id of the instance.
        pub id: String,
        /// The address of the instance.
        pub address: String,
        /// The weight of the instance.
        pub weight: u32,
        /// Whether the endpoint gets calls.
        pub state: EndpointState,
        /// Calls in progress.
        pub pending: u32,
        /// The measure of its latency, as [`Policy::PeakEwma`](super::Policy::PeakEwma) uses it.
        #[cfg_attr(feature = "serde", serde(serialize_with = "duration_text::serialize"))]
        pub latency: Duration,
        /// Calls that the endpoint got. `None` unless [`count_calls`](Config::count_calls) is on.
        pub calls: Option<u64>,
        /// Calls that failed at the endpoint.
        pub failures: u64,
    }
}
