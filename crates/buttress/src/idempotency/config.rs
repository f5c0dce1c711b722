use std::fmt;
use std::time::Duration;

use crate::vocabulary::invalid_config::{
    InvalidConfig, check_at_least, check_duration, check_not_endless,
};
use crate::vocabulary::observe::{Common, common_setters};
use crate::vocabulary::rng::Rng;
use crate::vocabulary::spawn::Spawner;

/// What becomes of a key whose handler ended without an answer that is kept.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Leave {
    /// It is free at once: the next call with it runs.
    #[default]
    Free,
    /// It stays claimed until the lease ends, for whoever may still be at work elsewhere.
    UntilLeaseEnds,
}

/// What a layer does when its store does not work.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum StoreFailure {
    /// Refuses the call.
    #[default]
    Closed,
    /// Runs the call unprotected, as one without a key.
    Open,
}

/// What the caller gets whose handler ran, while somebody else took the key over.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum LostClaim {
    /// A [`ClaimLost`](crate::ErrorKind::ClaimLost) error, as soon as it is known; a handler that still
    /// runs is dropped.
    #[default]
    Refuse,
    /// The answer of its own handler, which runs to its end.
    Answer,
}

/// How long claims and results are kept, and what happens to duplicates.
///
/// Built with by-value setters; checked when a layer is made of it.
#[derive(Clone)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields, rename_all = "kebab-case"))]
#[must_use]
pub struct Config {
    #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
    pub(super) result_lifetime: Duration,
    #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
    pub(super) lease: Duration,
    pub(super) refuse_in_flight: bool,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "crate::vocabulary::duration_text::optional")
    )]
    pub(super) in_flight_hint: Option<Duration>,
    #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
    pub(super) longest_wait: Duration,
    #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
    pub(super) poll_interval: Duration,
    pub(super) key_required: bool,
    pub(super) failed_calls: Leave,
    pub(super) rerun_if_not_kept: bool,
    pub(super) abandoned_calls: Leave,
    pub(super) store_failure: StoreFailure,
    pub(super) store_attempts: u32,
    #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
    pub(super) patience: Duration,
    pub(super) lost_claim: LostClaim,
    #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
    pub(super) sweep_interval: Duration,
    pub(super) sweep_batch: usize,
    pub(super) detached: Option<u32>,
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(super) rng: Rng,
    /// `None` for tokio's, where there is a runtime.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(super) spawner: Spawner,
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(super) common: Common,
}

impl Config {
    /// Returns the defaults.
    pub fn new() -> Self {
        Self {
            result_lifetime: Duration::from_secs(300),
            lease: Duration::from_secs(30),
            refuse_in_flight: false,
            in_flight_hint: None,
            longest_wait: Duration::from_secs(30),
            poll_interval: Duration::from_millis(100),
            key_required: false,
            failed_calls: Leave::Free,
            rerun_if_not_kept: false,
            abandoned_calls: Leave::Free,
            store_failure: StoreFailure::Closed,
            store_attempts: 3,
            patience: Duration::from_secs(30),
            lost_claim: LostClaim::Refuse,
            sweep_interval: Duration::from_secs(60),
            sweep_batch: 500,
            detached: None,
            rng: Rng::default(),
            spawner: Spawner::default(),
            common: Common::default(),
        }
    }

    /// Sets how long an answer is kept. Defaults to 300 s, beyond the retries of most clients;
    /// clients that come back after hours need more.
    pub fn result_lifetime(mut self, lifetime: Duration) -> Self {
        self.result_lifetime = lifetime;
        self
    }

    /// For how long a claim holds without being renewed; it is renewed every third of that while its
    /// handler runs. Defaults to 30 s: after a crash a key is taken up again that soon, and a pause of
    /// the process of less than 20 s costs nothing.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Whether a call whose key is in flight is refused immediately, with the
    /// [`in_flight_hint`](Self::in_flight_hint) as `retry_after`. Default: off. The call waits for the answer
    /// of the call in flight.
    pub fn refuse_in_flight(mut self, refuse: bool) -> Self {
        self.refuse_in_flight = refuse;
        self
    }

    /// Sets the `retry_after` of a call that is refused because its key is in flight: more than 0 s. Default:
    /// what is left of the lease, when the key is free at the latest. Most handlers end long before
    /// that, so a client that waits for the hint waits too long; over HTTP the default is 1 s. The refusal says
    /// less if the lease ends earlier.
    pub fn in_flight_hint(mut self, hint: Duration) -> Self {
        self.in_flight_hint = Some(hint);
        self
    }

    /// Sets the [`in_flight_hint`](Self::in_flight_hint) unless it is set already: for layers that are made of
    /// this one and have a default of their own.
    pub fn default_in_flight_hint(mut self, hint: Duration) -> Self {
        self.in_flight_hint.get_or_insert(hint);
        self
    }

    /// Sets how long a call waits whose key is in flight, before it is refused. Defaults to 30 s,
    /// as long as a lease.
    pub fn longest_wait(mut self, wait: Duration) -> Self {
        self.longest_wait = wait;
        self
    }

    /// How often the first of those who wait for a call of another process asks the store, and how
    /// long a failed operation of the store waits for its next attempt. Defaults to 100 ms. Calls of
    /// the same layer do not poll: they are woken.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// Whether a request without a key is refused. Defaults to no: it passes through unprotected.
    pub fn key_required(mut self, required: bool) -> Self {
        self.key_required = required;
        self
    }

    /// What becomes of the key of a call whose answer is not kept. Defaults to [`Leave::Free`]: an
    /// error is an answer, the handler is done, and a retry may do better.
    pub fn failed_calls(mut self, leave: Leave) -> Self {
        self.failed_calls = leave;
        self
    }

    /// Whether the next call with a key runs its handler **again** after a call that did its work and whose
    /// result could not be kept: too large for the store or the cap, or not to be encoded. Such a call then
    /// counts as failed. Default: off. The key stays done for the [`result_lifetime`](Self::result_lifetime),
    /// and repetitions are refused as [`ResultNotKept`](crate::ErrorKind::ResultNotKept): a payment is
    /// not made twice because its receipt was long.
    pub fn rerun_if_not_kept(mut self, rerun: bool) -> Self {
        self.rerun_if_not_kept = rerun;
        self
    }

    /// What becomes of the key of a call that panics or is dropped. Defaults to [`Leave::Free`], so
    /// that a retry need not wait; choose [`Leave::UntilLeaseEnds`] where a dropped call may still have
    /// its effect elsewhere.
    pub fn abandoned_calls(mut self, leave: Leave) -> Self {
        self.abandoned_calls = leave;
        self
    }

    /// What to do with a call whose key cannot be claimed because the store does not work. Defaults to
    /// [`StoreFailure::Closed`]: no effect without protection.
    ///
    /// The policy also decides about a handler whose lease runs out because the store does not renew it. With
    /// [`StoreFailure::Closed`] the layer stops polling the handler until the store confirms the claim. If the
    /// store does not within the [`patience`](Self::patience), the layer drops the handler and the call fails as
    /// one whose claim was lost. With [`StoreFailure::Open`], or [`LostClaim::Answer`], the handler continues. So
    /// does a handler that completes its claim in its own transaction, because the store refuses that
    /// transaction after a takeover.
    pub fn store_failure(mut self, policy: StoreFailure) -> Self {
        self.store_failure = policy;
        self
    }

    /// How often an operation of the store is attempted before it counts as failed, a poll interval
    /// apart; only transient failures are worth another attempt. Defaults to 3.
    pub fn store_attempts(mut self, attempts: u32) -> Self {
        self.store_attempts = attempts;
        self
    }

    /// Sets how long the layer waits for an operation of the store, all its attempts together. Default: 30 s,
    /// as long as a lease; more than 0 s. One attempt gets a third of it, or all of it if there is only one.
    ///
    /// An operation without an answer may still have its effect, so it is treated as one whose answer was
    /// lost. A call whose key cannot be claimed is handled as [`store_failure`](Self::store_failure) says. A
    /// call whose answer cannot be stored still gets its answer.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// What the caller gets whose claim was taken over. Defaults to [`LostClaim::Refuse`], so that a key
    /// never has two answers.
    pub fn lost_claim(mut self, policy: LostClaim) -> Self {
        self.lost_claim = policy;
        self
    }

    /// How often expired entries are removed from the store, by calls that come along, up to `batch` in
    /// one operation. Defaults to every 60 s and 500. They count as absent from the moment they expire
    /// all the same. Stores that answer at once ([`Immediate`](super::Immediate)) sweep themselves.
    pub fn sweep(mut self, interval: Duration, batch: usize) -> Self {
        self.sweep_interval = interval;
        self.sweep_batch = batch;
        self
    }

    /// Runs handlers on tasks of their own, at most `max` at once: a caller that goes away does not stop
    /// them, and its retry finds the answer. Defaults to no. The calls beyond are refused.
    pub fn detached(mut self, max: u32) -> Self {
        self.detached = Some(max);
        self
    }

    /// Where claims draw their ids. Defaults to a source of its own, seeded at random. With a seed the
    /// ids are the same in every run, for simulations; layers that share a store must then have seeds of
    /// their own, because a claim made again under the same id is the same claim.
    pub fn rng(mut self, rng: Rng) -> Self {
        self.rng = rng;
        self
    }

    /// Where detached handlers run, and what is left to do of a call that was dropped. Defaults to
    /// `tokio::spawn`; outside of a runtime, what is left is then not done and the lease runs out.
    pub fn spawner(mut self, spawner: Spawner) -> Self {
        self.spawner = spawner;
        self
    }

    common_setters!();

    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        check_duration("result-lifetime", self.result_lifetime)?;
        check_duration("lease", self.lease)?;
        // A third of it must be a time that clocks can tell.
        check_at_least("lease", self.lease.as_millis(), 3)?;
        check_duration("in-flight-hint", self.in_flight_hint.unwrap_or(self.lease))?;
        check_not_endless("longest-wait", self.longest_wait)?;
        check_duration("poll-interval", self.poll_interval)?;
        check_at_least("store-attempts", self.store_attempts, 1)?;
        check_duration("patience", self.patience)?;
        check_duration("sweep-interval", self.sweep_interval)?;
        check_at_least("sweep-batch", self.sweep_batch, 1)?;
        check_at_least("detached", self.detached.unwrap_or(1), 1)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("result_lifetime", &self.result_lifetime)
            .field("lease", &self.lease)
            .field("detached", &self.detached)
            .finish_non_exhaustive()
    }
}
