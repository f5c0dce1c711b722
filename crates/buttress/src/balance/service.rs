use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::{BoxError, Service};

use super::choice::Choice;
use super::config::Config;
use super::endpoints::{Endpoints, Set};
use super::future::ResponseFuture;
use super::handle::Handle;
use super::history::mix;
use super::request_key::{FindKey, FindTried, NoKey, NoTried};
use super::rules::Rules;
use super::seat::Seat;
use super::shared::{Core, Counter};
use super::tried::Tried;
use super::waiting::{Wishes, choose};
use crate::discover::{Instance, Resolve};
use crate::machinery::published::Seen;
use crate::vocabulary::classify::{Classify, ServiceErrors};
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::reject::{AsError, Reject};
use crate::vocabulary::spawn::Spawner;

/// A service that sends each call to one of several endpoints. Cheap to clone. The [module](super) explains the
/// pattern.
///
/// It is always ready, and chooses in `call`. All clones share one state.
pub struct Balance<S, X = NoKey, T = NoTried, C = ServiceErrors, R = AsError> {
    core: Arc<Core<S>>,
    /// The set as this value has last seen it.
    seen: Seen<Set<S>>,
    /// The number that this value hashes into its next draw.
    draws: u64,
    key: X,
    tried: T,
    classify: C,
    reject: R,
}

impl<S: Clone> Balance<S> {
    /// Creates a balancer over `set`. Keep a clone of the set to change it later.
    ///
    /// # Errors
    /// Returns an error that names the first field of `config` that is out of its bounds, and an error for a set that
    /// another balancer uses.
    pub fn new(set: Endpoints<S>, config: Config) -> Result<Self, InvalidConfig> {
        Self::with_rules(set, &Rules::new(&config)?)
    }

    /// Creates a balancer over `set` with rules that a registry keeps.
    ///
    /// # Errors
    /// Returns an error for a set that another balancer uses.
    pub fn with_rules(set: Endpoints<S>, rules: &Rules) -> Result<Self, InvalidConfig> {
        let core = Core::new(set.pool, rules.shared.clone())?;
        let (seen, draws) = (core.pool.published.see(), core.shared.rng.next_u64());
        let (key, tried, classify, reject) = (NoKey, NoTried, ServiceErrors, AsError);
        Ok(Self { core, seen, draws, key, tried, classify, reject })
    }
}

impl<S: Clone + Send + 'static> Balance<S> {
    /// Creates a balancer over the instances that `resolve` finds. `make` makes the stack of an instance. Short for
    /// [`new`](Self::new) over an empty set and [`resolve_on`](Self::resolve_on) with tokio.
    ///
    /// Until the first set is known, calls wait for at most [`max_wait`](Config::max_wait). While the set is empty because
    /// `resolve` has returned an empty one, calls are refused immediately.
    ///
    /// # Errors
    /// Returns an error that names the first field of `config` that is out of its bounds.
    ///
    /// # Panics
    /// Panics outside of a tokio runtime.
    pub fn resolving<V>(
        resolve: V,
        make: impl Fn(&Instance) -> S + Send + 'static,
        config: Config,
    ) -> Result<Self, InvalidConfig>
    where
        V: Resolve + 'static,
    {
        Ok(Self::new(Endpoints::new(), config)?.resolve_on(&Spawner::default(), resolve, make))
    }

    /// Creates a balancer like [`resolving`](Self::resolving), with a `make` that can fail, e.g. for a malformed
    /// address. [`try_resolve_on`](Self::try_resolve_on) describes what happens then.
    ///
    /// # Errors
    /// Returns an error that names the first field of `config` that is out of its bounds.
    ///
    /// # Panics
    /// Panics outside of a tokio runtime.
    pub fn try_resolving<V, E>(
        resolve: V,
        make: impl Fn(&Instance) -> Result<S, E> + Send + 'static,
        config: Config,
    ) -> Result<Self, InvalidConfig>
    where
        V: Resolve + 'static,
        E: Into<BoxError> + 'static,
    {
        Ok(Self::new(Endpoints::new(), config)?.try_resolve_on(&Spawner::default(), resolve, make))
    }
}

impl<S: Clone + Send + 'static, X, T, C, R> Balance<S, X, T, C, R> {
    /// Starts a task on `spawner` that replaces the set by the instances that `resolve` finds. `make` makes the stack
    /// of an instance.
    ///
    /// The task ends when the balancer and its clones are dropped. If the resolver fails, the last set stays, and
    /// [`Stats::resolver`](super::Stats::resolver) shows its age. The task asks again after 1 second, then after
    /// twice as long, up to 30 seconds, with a jitter of 10 %. A panic of the resolver is a failure too. An instance for
    /// which `make` panics is left out: see [`try_resolve_on`](Self::try_resolve_on).
    ///
    /// # Panics
    /// Panics on the default spawner, outside of a tokio runtime.
    #[must_use]
    pub fn resolve_on<V>(
        self,
        spawner: &Spawner,
        resolve: V,
        make: impl Fn(&Instance) -> S + Send + 'static,
    ) -> Self
    where
        V: Resolve + 'static,
    {
        self.try_resolve_on(spawner, resolve, move |instance| Ok::<S, Infallible>(make(instance)))
    }

    /// Starts a task like [`resolve_on`](Self::resolve_on), with a `make` that can fail.
    ///
    /// An instance for which `make` returns an error, or panics, is left out of the set. The balancer logs a warning,
    /// reports [`Event::ResolveFailed`](crate::Event::ResolveFailed), and counts it in
    /// [`ResolverStats::left_out`](super::ResolverStats::left_out). It tries the instance again when the resolver
    /// returns the next set. If every instance of a set is left out, the last set stays, as after a failure of the
    /// resolver.
    ///
    /// # Panics
    /// Panics on the default spawner, outside of a tokio runtime.
    #[must_use]
    pub fn try_resolve_on<V, E>(
        self,
        spawner: &Spawner,
        resolve: V,
        make: impl Fn(&Instance) -> Result<S, E> + Send + 'static,
    ) -> Self
    where
        V: Resolve + 'static,
        E: Into<BoxError> + 'static,
    {
        let set = Endpoints { pool: self.core.pool.clone() };
        spawner.spawn(super::resolving::run(Arc::downgrade(&self.core), set, resolve, make));
        self
    }
}

impl<S, X, T, C, R> Balance<S, X, T, C, R> {
    /// Sends requests with the same key to the same endpoint, by rendezvous hashing over the ids of the instances.
    /// While an endpoint is out, its keys go to other endpoints. No other key moves. All processes choose the same
    /// endpoint for a key. The policy chooses the endpoint of a request without a key.
    ///
    /// A key that a caller invents lets that caller choose an endpoint. Hash text of callers with a secret first.
    pub fn key<Req, F>(self, find: F) -> Balance<S, F, T, C, R>
    where
        F: Fn(&Req) -> Option<u64>,
    {
        let Self { core, seen, draws, key: _, tried, classify, reject } = self;
        Balance { core, seen, draws, key: find, tried, classify, reject }
    }

    /// Sends the attempts of a request to different endpoints, as long as there is one that the request has not met.
    /// `find` returns the record of the request's attempts.
    pub fn tried<Req, F>(self, find: F) -> Balance<S, X, F, C, R>
    where
        F: for<'a> Fn(&'a Req) -> Option<&'a Tried>,
    {
        let Self { core, seen, draws, key, tried: _, classify, reject } = self;
        Balance { core, seen, draws, key, tried: find, classify, reject }
    }

    /// Sets the classifier of results, which finds the failures of an endpoint. Default: [`ServiceErrors`], so errors of the service are
    /// failures and refusals are not.
    pub fn classify<D>(self, classify: D) -> Balance<S, X, T, D, R> {
        let Self { core, seen, draws, key, tried, classify: _, reject } = self;
        Balance { core, seen, draws, key, tried, classify, reject }
    }

    /// Sets how refusals are returned. Default: as errors, through [`AsError`].
    pub fn reject<D>(self, reject: D) -> Balance<S, X, T, C, D> {
        let Self { core, seen, draws, key, tried, classify, reject: _ } = self;
        Balance { core, seen, draws, key, tried, classify, reject }
    }

    /// Looks at the set again.
    #[cold]
    fn refresh(&mut self, now: u64) {
        if now >= self.seen.value().plan.next {
            self.core.turn(now);
        }
        self.seen = self.core.pool.published.see();
    }
}

impl<S: Send + 'static, X, T, C, R> Balance<S, X, T, C, R> {
    /// Returns the handle of the shared state, for operators and health checks.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: self.core.shared.clone(), set: self.core.pool.clone() }
    }
}

impl<S, X, T, C, R, Req> Service<Req> for Balance<S, X, T, C, R>
where
    S: Service<Req> + Clone,
    X: FindKey<Req>,
    T: FindTried<Req>,
    C: Classify<S::Response, S::Error> + Clone,
    R: Reject<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, Req, C, R>;

    /// Always ready: the choice is made in `call`.
    #[inline(always)]
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let (key, tried) = (self.key.key(&request), self.tried.tried(&request));
        let core = &*self.core;
        let now = core.shared.now();
        if !core.pool.published.is_current(&self.seen) || now >= self.seen.value().plan.next {
            self.refresh(now);
        }
        let (core, set) = (&*self.core, &**self.seen.value());
        self.draws = self.draws.wrapping_add(1);
        let (policy, turn) = (core.shared.policy, &core.pool.turn);
        let choice = Choice { policy, draw: mix(self.draws), now, turn };
        let wishes = Wishes { key, tried: tried.cloned() };
        let place = if wishes.is_empty() {
            set.plan.choose(choice)
        } else {
            choose(set, choice, &wishes, |_| true)
        };
        let endpoint = place.and_then(|place| set.endpoints.get(place)).cloned();
        if core.shared.common.count_calls {
            core.shared.counters.add(Counter::Calls);
        }
        if set.plan.panic {
            core.shared.counters.add(Counter::Panicked);
        }
        let seat = Seat::new(self.core.clone(), endpoint, now);
        ResponseFuture::new(request, wishes, seat, (self.classify.clone(), self.reject.clone()))
    }
}

impl<S, X: Clone, T: Clone, C: Clone, R: Clone> Clone for Balance<S, X, T, C, R> {
    fn clone(&self) -> Self {
        Self {
            core: self.core.clone(),
            seen: self.seen.clone(),
            // Each value draws its own numbers.
            draws: self.core.shared.rng.next_u64(),
            key: self.key.clone(),
            tried: self.tried.clone(),
            classify: self.classify.clone(),
            reject: self.reject.clone(),
        }
    }
}

impl<S, X, T, C, R> fmt::Debug for Balance<S, X, T, C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balance")
            .field("name", &self.core.shared.common.name)
            .field("endpoints", &self.seen.value().plan.members)
            .finish_non_exhaustive()
    }
}
