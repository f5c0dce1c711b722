//! The state that the services of one layer share.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backend::{Backend, Op, Typed};
use super::bounded::bounded;
use super::config::Config;
use super::holding::{Asking, release_later};
use super::identity::Identity;
use super::key::InvalidKey;
use super::outage::Outage;
use super::owner::Owner;
use super::store::{ClaimId, Claimed, Store};
use super::tasks::Tasks;
use super::waiters::Waiters;
use crate::machinery::counters::{Counters, counters};
use crate::sync::{AtomicU64, AtomicUsize, Ordering};
use crate::vocabulary::clock;
use crate::vocabulary::error::{Error, ErrorKind, RetryAfter, WrongKey};
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::pattern::Pattern;
use crate::vocabulary::store_error::{Answer, StoreError};

counters! {
    /// The counters of an idempotency layer.
    pub(super) enum Counter {
        Started,
        Replayed,
        Waited,
        Refused,
        Mismatched,
        TakenOver,
        Failed,
        Fenced,
        StoreFailed,
        Unprotected,
        Passed,
        NotKept,
    }
}

/// How often background work is repeated if only a person can make it possible.
pub(super) const BY_HAND: Duration = Duration::from_secs(60);

/// The state that the services of one layer share.
pub(super) struct Shared<V> {
    pub config: Config,
    pub store: Arc<dyn Backend<V>>,
    pub waiters: Waiters<V>,
    pub counters: Counters<Counter>,
    /// Claims held by calls of this layer.
    pub in_flight: AtomicUsize,
    pub tasks: Arc<Tasks>,
    pub outage: Outage,
    /// When the next sweep is due, in nanoseconds since the layer was made.
    next_sweep: AtomicU64,
    made: Instant,
    /// A function pointer, because the function needs more bounds on `V` than dropping a call has.
    pub release_later: fn(&Arc<Self>, Owner),
}

impl<V: Send + 'static> Shared<V> {
    pub(super) fn new<St: Store<V>>(
        mut config: Config,
        store: Arc<St>,
    ) -> Result<Arc<Self>, InvalidConfig> {
        config.check()?;
        config.common = config.common.of(Pattern::Idempotency);
        let made = config.common.clock.now();
        let next_sweep = AtomicU64::new(clock::to_nanos(config.sweep_interval));
        Ok(Arc::new(Self {
            store: Arc::new(Typed(store)),
            waiters: Waiters::new(),
            counters: Counters::new(),
            in_flight: AtomicUsize::new(0),
            tasks: Arc::new(Tasks::new(config.max_detached)),
            outage: Outage::new(),
            next_sweep,
            made,
            release_later,
            config,
        }))
    }

    /// Claims the key. Repeats the operation after a transient failure.
    pub(super) async fn claim(
        self: &Arc<Self>,
        identity: &Identity,
        claim: ClaimId,
    ) -> Answer<Claimed<V>> {
        let lease = self.config.lease;
        if let Some(store) = self.store.immediate() {
            return store.claim_now(identity.claimed_by(claim), lease);
        }
        // A caller that drops the call during the operation may have got the key.
        let mut asking = Asking { shared: self, identity, claim, open: true };
        let owner = || Owner::new(identity.clone(), claim);
        let claimed = self.attempt(|store| store.begin_claim(owner(), lease)).await;
        // If an observer panics here, `Asking` releases the claim.
        if claimed.is_ok() {
            self.worked("claim");
        }
        // The store may also have granted the key if it did not answer.
        asking.open = claimed.as_ref().is_err_and(StoreError::is_transient);
        claimed
    }

    /// Runs an operation of the store until it answers, fails for good, or the patience is over.
    pub(super) async fn attempt<T>(
        &self,
        ask: impl FnMut(Arc<dyn Backend<V>>) -> Op<T>,
    ) -> Answer<T> {
        self.attempt_within(self.config.patience, ask).await
    }

    /// Runs an operation like [`attempt`](Self::attempt), with the time limit `patience`.
    pub(super) async fn attempt_within<T>(
        &self,
        patience: Duration,
        mut ask: impl FnMut(Arc<dyn Backend<V>>) -> Op<T>,
    ) -> Answer<T> {
        let clock = &self.config.common.clock;
        let mut left = self.config.store_attempts;
        let ends = clock::after(self.now(), patience);
        let each = patience / left.min(3);
        loop {
            let rest = ends.saturating_duration_since(self.now());
            let answer = bounded(clock, each.min(rest), ask(self.store.clone())).await;
            left -= 1;
            let wait = self.config.poll_interval;
            match &answer {
                Err(error)
                    if error.is_transient()
                        && left > 0
                        && clock::after(self.now(), wait) < ends =>
                {
                    clock.sleep(wait).await;
                }
                _ => return answer,
            }
        }
    }

    /// Removes expired entries if a sweep is due. Stores that answer without waiting remove them by
    /// themselves.
    pub(super) fn sweep(self: &Arc<Self>, now: Instant) {
        let due = self.next_sweep.load(Ordering::Relaxed);
        let since = clock::nanos_since(self.made, now);
        if since < due {
            return;
        }
        let next = since.saturating_add(clock::to_nanos(self.config.sweep_interval));
        // Only one of the calls that find the sweep due starts it.
        let swap =
            self.next_sweep.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed);
        if swap.is_ok() {
            self.sweep_now();
        }
    }

    #[cold]
    fn sweep_now(self: &Arc<Self>) {
        let (shared, batch) = (self.clone(), self.config.sweep_batch);
        self.spawn(async move {
            loop {
                let (clock, patience) = (&shared.config.common.clock, shared.config.patience);
                let sweeping = shared.store.clone().begin_sweep(batch);
                let swept = bounded(clock, patience, sweeping).await;
                shared.rest_from_sweeps(&swept);
                if shared.told("sweep", swept).is_none_or(|removed| removed < batch) {
                    break;
                }
                yield_now().await;
            }
        });
    }
}

/// Lets other tasks run between two batches.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

impl<V> Shared<V> {
    #[inline]
    pub(super) fn now(&self) -> Instant {
        self.config.common.clock.now()
    }

    /// Returns the refusal of `kind` for the caller, after it has counted and reported it.
    pub(super) fn refuse(&self, kind: ErrorKind, retry_after: Option<Duration>) -> Error {
        let limit = match kind {
            ErrorKind::DetachedFull => self.config.max_detached,
            _ => 0,
        };
        let after = retry_after.map_or(RetryAfter::UNKNOWN, RetryAfter::from);
        self.refused(Error::idempotency(kind, self.config.common.name, limit, after))
    }

    /// Returns the refusal of a call whose key is in flight. The lease ends after `lease_left`
    /// unless the claim is renewed.
    pub(super) fn refuse_in_flight(&self, lease_left: Duration) -> Error {
        let hint = self.config.in_flight_hint.map_or(lease_left, |hint| hint.min(lease_left));
        self.refuse(ErrorKind::KeyInFlight, Some(hint))
    }

    pub(super) fn refuse_key(&self, error: &InvalidKey) -> Error {
        let why = match error {
            InvalidKey::Empty => WrongKey::Empty,
            InvalidKey::TooLong { length } => {
                WrongKey::TooLong(u32::try_from(*length).unwrap_or(u32::MAX))
            }
            InvalidKey::NoScope => WrongKey::NoScope,
            InvalidKey::Control { character } => WrongKey::Control(*character),
        };
        self.refused(Error::key_invalid(self.config.common.name, why))
    }

    fn refused(&self, error: Error) -> Error {
        self.counters.add(Counter::Refused);
        if error.kind() == ErrorKind::KeyReused {
            self.counters.add(Counter::Mismatched);
        }
        self.config.common.refused(|| error.clone());
        error
    }

    /// Returns the refusal of a call whose key could not be claimed.
    pub(super) fn refuse_store(&self, error: &StoreError) -> Error {
        let kind = match error.may_pass() {
            true => ErrorKind::StoreUnavailable,
            false => ErrorKind::StoreFailed,
        };
        self.refuse(kind, None)
    }

    pub(super) fn store_failed(&self, doing: &'static str, error: &StoreError) {
        self.counters.add(Counter::StoreFailed);
        self.config.common.store_failed(doing, error, self.outage.failed(doing, error));
    }

    /// Records that an operation of the store succeeded.
    #[inline]
    pub(super) fn worked(&self, doing: &'static str) {
        if self.outage.is_on() && self.outage.worked(doing) {
            self.config.common.store_works_again(doing);
        }
    }

    /// Returns the delay of the next sweep after a failed sweep. While the store is unavailable,
    /// the delay doubles with each failure, up to 1 minute. If the store is misconfigured, it is 1
    /// minute. The delay is never shorter than the sweep interval.
    fn rest_from_sweeps(&self, swept: &Answer<usize>) {
        let failed = self.outage.swept(swept.is_ok());
        let Err(error) = swept else { return };
        let interval = self.config.sweep_interval;
        let wait = match error.is_misconfigured() {
            true => BY_HAND,
            false => interval.saturating_mul(1 << failed.min(16)).min(BY_HAND),
        };
        let next = clock::nanos_since(self.made, clock::after(self.now(), wait.max(interval)));
        self.next_sweep.fetch_max(next, Ordering::Relaxed);
    }

    /// Returns the answer of the store, or reports its failure. A fenced operation is not a
    /// failure.
    pub(super) fn told<T>(&self, doing: &'static str, answer: Answer<T>) -> Option<T> {
        match answer {
            Ok(answer) => {
                self.worked(doing);
                Some(answer)
            }
            Err(error) if error.is_fenced() => None,
            Err(error) => {
                self.store_failed(doing, &error);
                None
            }
        }
    }

    /// Counts and reports a replayed answer.
    #[inline]
    pub(super) fn replayed(&self) {
        self.counters.add(Counter::Replayed);
        self.config.common.replayed();
    }

    /// Reports that the work of a call is done and its result is not kept. It runs after the key
    /// was settled: an observer may panic, and this must not make the handler run again.
    pub(super) fn not_kept(&self) {
        self.config.common.result_not_kept();
    }

    /// Counts and reports a lost claim, and returns its error.
    pub(super) fn fenced(&self) -> Error {
        self.counters.add(Counter::Fenced);
        self.config.common.claim_lost();
        Error::idempotency(ErrorKind::ClaimLost, self.config.common.name, 0, RetryAfter::UNKNOWN)
    }

    /// Starts `task`. Returns `false` if there is no runtime.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> bool {
        self.config.spawner.try_spawn(task)
    }
}
