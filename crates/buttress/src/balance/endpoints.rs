use std::collections::HashSet;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, OnceLock};

use super::choice::Plan;
use super::history::{History, nanos};
use super::shared::{Counter, Shared};
use super::state::{Change, Member, Stack, State};
use crate::discover::Instance;
use crate::machinery::cloned::Cloned;
use crate::machinery::published::Published;
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering, lock};

/// The endpoints of a balancer, which may change while calls run. Cheap to clone; all clones are one set.
///
/// An endpoint is a whole stack of layers around the client of one instance. The balancer clones it for each call.
pub struct Endpoints<S> {
    pub(super) pool: Arc<Pool<S>>,
}

/// One endpoint: its stack and its history.
pub(super) struct Endpoint<S> {
    service: Cloned<S>,
    pub history: Arc<History>,
    /// 1 once the endpoint has left the set. Only a flag: `Published` publishes the set.
    removed: AtomicU32,
}

impl<S: Clone> Endpoint<S> {
    pub(super) fn service(&self) -> S {
        self.service.get()
    }
}

impl<S> Endpoint<S> {
    #[inline]
    pub(super) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Relaxed) != 0
    }
}

/// The endpoints that calls may use, in the order of the plan.
pub(super) struct Set<S> {
    pub plan: Plan,
    pub endpoints: Box<[Arc<Endpoint<S>>]>,
}

pub(super) struct Pool<S> {
    pub published: Published<Set<S>>,
    locked: Mutex<Locked<S>>,
    /// The turn of the next call in a round.
    pub turn: AtomicU64,
    /// Set by the balancer.
    shared: OnceLock<Arc<Shared>>,
}

struct Locked<S> {
    state: State,
    /// The endpoints of the members, in their order.
    endpoints: Vec<Arc<Endpoint<S>>>,
}

impl<S> Locked<S> {
    fn set(&self) -> Set<S> {
        let choices = self.state.choices();
        let endpoints = choices.places.iter().filter_map(|place| self.endpoints.get(*place));
        let endpoints = endpoints.cloned().collect();
        Set { plan: Plan::new(&self.state.members, &choices), endpoints }
    }
}

impl<S> Pool<S> {
    fn new() -> Self {
        let locked = Locked { state: State::default(), endpoints: Vec::new() };
        Self {
            published: Published::new(locked.set()),
            locked: Mutex::new(locked),
            turn: AtomicU64::new(0),
            shared: OnceLock::new(),
        }
    }

    /// Gives the pool to a balancer. Returns `false` if it has one already.
    pub(super) fn take(&self, shared: &Arc<Shared>) -> bool {
        let taken = self.shared.set(shared.clone()).is_ok();
        if taken {
            // No call came before: all of these are equally new.
            let forget = |member: &mut Member| member.standing.new = None;
            lock(&self.locked).state.members.iter_mut().for_each(forget);
        }
        taken
    }

    /// Reads the state. `f` runs under the lock.
    pub(super) fn read<T>(&self, f: impl FnOnce(&State) -> T) -> T {
        f(&lock(&self.locked).state)
    }

    /// Changes the state, and publishes the new set if `f` returns `true`. `f` runs under the lock.
    pub(super) fn change<T>(&self, f: impl FnOnce(&mut State) -> (T, bool)) -> T {
        let mut locked = lock(&self.locked);
        let (value, changed) = f(&mut locked.state);
        if changed {
            let new = locked.set();
            self.publish(new, locked);
        }
        value
    }

    /// Publishes under the lock, so that sets follow each other as their states do. Reports after it.
    fn publish(&self, new: Set<S>, locked: crate::sync::MutexGuard<'_, Locked<S>>) {
        let panic = new.plan.panic;
        let old = self.published.publish(new);
        drop(locked);
        self.published.wake();
        let changed = old.plan.panic != panic;
        // Outside of the lock: this may drop the last reference to a stack.
        drop(old);
        if let (true, Some(shared)) = (changed, self.shared.get()) {
            shared.common.panic_changed(panic);
        }
    }

    /// Replaces the set if `made` has the stacks that it needs. Returns the places that need one otherwise.
    fn replace(
        &self,
        wanted: &[Instance],
        made: &mut [Option<S>],
    ) -> Result<Option<Change>, Vec<usize>>
    where
        S: Clone,
    {
        let times = self.shared.get().map(|it| (it.now(), nanos(it.rules().ramp)));
        let (now, ramp) = times.unwrap_or_default();
        let mut locked = lock(&self.locked);
        let Some(change) = locked.state.change_to(wanted) else { return Ok(None) };
        let needed = change.stacks.iter().zip(made.iter()).enumerate();
        let needed = needed.filter(|(_, (stack, made))| **stack == Stack::New && made.is_none());
        let needed: Vec<usize> = needed.map(|(place, _)| place).collect();
        if !needed.is_empty() {
            return Err(needed);
        }
        locked.state.replace(wanted, now, ramp);
        let members = &locked.state.members;
        let stacks = change.stacks.iter().zip(members).zip(made);
        let endpoints = stacks.filter_map(|((stack, member), made)| match stack {
            Stack::Kept(place) => locked.endpoints.get(*place).cloned(),
            Stack::New => made.take().map(|service| {
                let (service, history) = (Cloned::new(service), member.history.clone());
                Arc::new(Endpoint { service, history, removed: AtomicU32::new(0) })
            }),
        });
        let endpoints: Vec<_> = endpoints.collect();
        debug_assert_eq!(endpoints.len(), wanted.len(), "each member has its endpoint");
        let old = std::mem::replace(&mut locked.endpoints, endpoints);
        let kept: HashSet<_> = locked.endpoints.iter().map(Arc::as_ptr).collect();
        for endpoint in old.iter().filter(|endpoint| !kept.contains(&Arc::as_ptr(endpoint))) {
            endpoint.removed.store(1, Ordering::Relaxed);
        }
        let new = locked.set();
        self.publish(new, locked);
        drop(old);
        Ok(Some(change))
    }
}

impl<S: Clone> Endpoints<S> {
    /// Creates an empty set. Calls wait for the first endpoint until
    /// [`max_wait`](super::Config::max_wait) has passed.
    #[must_use]
    pub fn new() -> Self {
        Self { pool: Arc::new(Pool::new()) }
    }

    /// Replaces the set by `instances`. `make` makes the stack of an instance.
    ///
    /// - An instance that stays, with its id, address and metadata, keeps its stack.
    /// - An endpoint that is removed finishes its calls and gets no new one. Calls that wait for it go elsewhere.
    /// - An instance that comes back under its address is known: its latency and its ejections still count. 256
    ///   removed instances are remembered.
    /// - Of two instances with one id, the first counts.
    ///
    /// `make` runs on this thread, outside of every lock.
    ///
    /// # Panics
    /// If `make` panics. The set stays then.
    pub fn replace(&self, instances: &[Instance], make: impl Fn(&Instance) -> S) {
        self.fill(instances, |instance| Ok::<S, Infallible>(make(instance)));
    }

    /// Replaces the set with the members of `instances` whose stacks `make` can make. If it can make none, the set
    /// stays.
    pub(super) fn fill<E>(
        &self,
        instances: &[Instance],
        make: impl Fn(&Instance) -> Result<S, E>,
    ) -> Filled<E> {
        let mut ids = HashSet::new();
        let mut wanted: Vec<Instance> =
            instances.iter().filter(|instance| ids.insert(instance.id())).cloned().collect();
        let mut made: Vec<Option<S>> = wanted.iter().map(|_| None).collect();
        let mut left_out = Vec::new();
        let change = loop {
            match self.pool.replace(&wanted, &mut made) {
                Ok(change) => break change,
                // Another thread may replace the set while stacks are made; then more may be needed.
                Err(needed) => {
                    let (instances, stacks) =
                        (std::mem::take(&mut wanted), std::mem::take(&mut made));
                    for (place, (instance, stack)) in instances.into_iter().zip(stacks).enumerate()
                    {
                        let stack = match stack {
                            None if needed.binary_search(&place).is_ok() => {
                                make(&instance).map(Some)
                            }
                            stack => Ok(stack),
                        };
                        match stack {
                            Ok(stack) => {
                                wanted.push(instance);
                                made.push(stack);
                            }
                            Err(error) => left_out.push((instance, error)),
                        }
                    }
                    if wanted.is_empty() {
                        return Filled { left_out, replaced: false };
                    }
                }
            }
        };
        if let (Some(change), Some(shared)) = (change, self.pool.shared.get()) {
            shared.counters.add(Counter::Changes);
            shared.common.endpoints_changed(wanted.len(), change.added, change.removed);
        }
        Filled { left_out, replaced: true }
    }
}

/// The result of a replacement.
pub(super) struct Filled<E> {
    /// The instances without a stack, and why.
    pub left_out: Vec<(Instance, E)>,
    /// `false` if every instance was left out: the set stays.
    pub replaced: bool,
}

impl<S> Endpoints<S> {
    /// Returns how many endpoints the set has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pool.read(|state| state.members.len())
    }

    /// Returns `true` if the set has no endpoint.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<S: Clone> Default for Endpoints<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Clone for Endpoints<S> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone() }
    }
}

impl<S> fmt::Debug for Endpoints<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoints").field("len", &self.len()).finish()
    }
}
