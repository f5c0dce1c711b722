use std::time::Duration;

#[cfg(feature = "serde")]
use crate::vocabulary::duration_text;
use crate::vocabulary::invalid_config::{
    InvalidConfig, check_at_least, check_duration, check_not_endless,
};
use crate::vocabulary::observe::{Common, common_setters};
use crate::vocabulary::rng::Rng;
use crate::vocabulary::setters::{configuration, setters};
use crate::vocabulary::spawn::Spawner;

/// The policy for a key whose handler ended without a kept answer.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Leave {
    /// The key is free immediately. The next call with it runs.
    #[default]
    Free,
    /// The key stays claimed until the lease ends, because the work may still be running elsewhere.
    UntilLeaseEnds,
}

/// The reaction of a layer when its store does not work.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum StoreFailure {
    /// Refuses the call.
    #[default]
    Closed,
    /// Runs the call unprotected, like a call without a key.
    Open,
}

/// The answer to a caller whose handler ran while another call took the key over.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum LostClaim {
    /// A [`ClaimLost`](crate::ErrorKind::ClaimLost) error, as soon as the layer detects the loss. A
    /// handler that still runs is dropped.
    #[default]
    Refuse,
    /// The answer of the caller's own handler, which runs to its end.
    Answer,
}

configuration! {
    /// The configuration of an idempotency layer: the lifetimes of claims and results, and the treatment of
    /// duplicates.
    ///
    /// Setters take the configuration by value. The constructor of the layer checks it.
    #[derive(Clone, Debug)]
    pub struct Config {
        #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
        result_lifetime: Duration = Duration::from_secs(300),
        #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
        lease: Duration = Duration::from_secs(30),
        refuse_in_flight: bool = false,
        #[cfg_attr(feature = "serde", serde(deserialize_with = "duration_text::optional"))]
        in_flight_hint: Option<Duration> = None,
        #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
        longest_wait: Duration = Duration::from_secs(30),
        #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
        poll_interval: Duration = Duration::from_millis(100),
        key_required: bool = false,
        failed_calls: Leave = Leave::Free,
        rerun_if_not_kept: bool = false,
        abandoned_calls: Leave = Leave::Free,
        store_failure: StoreFailure = StoreFailure::Closed,
        store_attempts: u32 = 3,
        #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
        patience: Duration = Duration::from_secs(30),
        lost_claim: LostClaim = LostClaim::Refuse,
        #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
        sweep_interval: Duration = Duration::from_secs(60),
        sweep_batch: usize = 500,
        max_detached: u32 = 1000,
    } and in code {
        rng: Rng = Rng::default(),
        /// `None` for tokio's, if there is a runtime.
        spawner: Spawner = Spawner::default(),
    }
}

impl Config {
    setters! {
        /// Sets how long an answer is kept. Default: 300 s, longer than most clients retry. Clients
        /// that retry after hours need more. Longer than zero, at most 365 days.
        result_lifetime(lifetime: Duration);

        /// Sets how long a claim holds without being renewed. The layer renews it after every third of
        /// this time while the handler runs.
        ///
        /// Default: 30 s. After a crash, the key is free again after at most 30 s. A pause of the
        /// process of up to 20 s has no effect. At least 3 ms, at most 365 days.
        lease(lease: Duration);

        /// Sets whether a call whose key is in flight is refused immediately, with the
        /// [`in_flight_hint`](Self::in_flight_hint) as `retry_after`. Default: off. The call waits for
        /// the answer of the call in flight.
        refuse_in_flight(refuse: bool);

        /// Sets the `retry_after` of a call that is refused because its key is in flight.
        ///
        /// Default: the rest of the lease, after which the key is free at the latest. Most handlers end
        /// long before that, so a client that waits for the hint waits too long. Over HTTP the default
        /// is 1 s. The refusal returns the rest of the lease if that is shorter than the hint. Longer
        /// than zero, at most 365 days.
        in_flight_hint(hint: Duration) => Some(hint);
    }

    /// Sets the [`in_flight_hint`](Self::in_flight_hint) unless it is set already. It is for layers
    /// that wrap this layer and have their own default.
    pub fn default_in_flight_hint(mut self, hint: Duration) -> Self {
        self.in_flight_hint.get_or_insert(hint);
        self
    }

    setters! {
        /// Sets how long a call whose key is in flight waits before it is refused. Default: 30 s, the
        /// default lease. At most 365 days.
        longest_wait(wait: Duration);

        /// Sets how often the first waiter for a call of another process asks the store. A failed
        /// operation of the store waits as long before its next attempt.
        ///
        /// Default: 100 ms. Calls that wait for a call of the same layer do not poll: they are woken.
        /// Longer than zero, at most 365 days.
        poll_interval(interval: Duration);

        /// Sets whether a request without a key is refused. Default: off. It passes through
        /// unprotected.
        key_required(required: bool);

        /// Sets the state of the key after a call whose answer is not kept. Default: [`Leave::Free`].
        /// After an error the handler is done, and a retry may succeed.
        failed_calls(leave: Leave);

        /// Sets whether the handler runs **again** after a call that did its work but whose result
        /// could not be kept.
        ///
        /// A result cannot be kept if it is too large for the store or the cap, or cannot be encoded.
        /// If on, such a call counts as failed. Default: off. The key stays done for the
        /// [`result_lifetime`](Self::result_lifetime), and repetitions are refused as
        /// [`ResultNotKept`](crate::ErrorKind::ResultNotKept). A payment is therefore not made twice
        /// because its receipt was long.
        rerun_if_not_kept(rerun: bool);

        /// Sets the state of the key after a call that panics or is dropped. Default: [`Leave::Free`],
        /// so that a retry need not wait. Choose [`Leave::UntilLeaseEnds`] if a dropped call may still
        /// have its effect elsewhere.
        abandoned_calls(leave: Leave);

        /// Sets the reaction to a call whose key cannot be claimed because the store does not work.
        /// Default: [`StoreFailure::Closed`], so that no handler runs unprotected.
        ///
        /// The policy also decides about a handler whose lease ends because the store does not renew
        /// it. With [`StoreFailure::Closed`] the layer stops polling the handler until the store
        /// confirms the claim. If the store does not confirm within the [`patience`](Self::patience),
        /// the layer drops the handler, and the call fails as a call whose claim was lost. With
        /// [`StoreFailure::Open`], or [`LostClaim::Answer`], the handler continues. A handler that
        /// completes its claim in its own transaction continues as well, because the store refuses that
        /// transaction after a takeover.
        store_failure(policy: StoreFailure);

        /// Sets how many times a store operation is attempted before it counts as failed. One poll interval
        /// passes between two attempts. Only transient failures are attempted again. Default: 3. At
        /// least 1.
        store_attempts(attempts: u32);

        /// Sets how long the layer waits for a store operation with all its attempts.
        ///
        /// Default: 30 s, the default lease. One attempt gets a third of it, half of it with two
        /// attempts, or all of it with one. Longer than zero, at most 365 days.
        ///
        /// An operation without an answer may still take effect, so the layer treats it as an operation
        /// whose answer was lost. A call whose key cannot be claimed is handled as
        /// [`store_failure`](Self::store_failure) says. A call whose answer cannot be stored still gets
        /// its answer.
        patience(patience: Duration);

        /// Sets the answer to a caller whose claim was taken over. Default: [`LostClaim::Refuse`], so
        /// that a key never has two answers.
        lost_claim(policy: LostClaim);
    }

    /// Sets how often expired entries are removed from the store, and how many in one operation.
    /// Passing calls start the removal.
    ///
    /// Default: every 60 s, 500 entries. An entry counts as absent from the moment it expires,
    /// removed or not. Stores that answer without waiting ([`Immediate`](super::Immediate)) remove
    /// their entries themselves.
    pub fn sweep(mut self, interval: Duration, batch: usize) -> Self {
        self.sweep_interval = interval;
        self.sweep_batch = batch;
        self
    }

    setters! {
        /// Sets how many handlers of a [detached](super::IdempotencyLayer::detached) layer may run
        /// concurrently. At least 1. Default: 1000. A call above the limit is refused as
        /// [`DetachedFull`](crate::ErrorKind::DetachedFull). The setting has no effect on other layers,
        /// whose handlers run with their callers.
        max_detached(handlers: u32);

        /// Sets the source of claim ids. Default: a separate source with a random seed.
        ///
        /// A seeded source makes the same ids in every run, for simulations. Layers that share a store
        /// must then have different seeds, because a claim with the same id is the same claim.
        rng(rng: Rng);

        /// Sets the executor of detached handlers and of the clean-up after dropped calls. Default:
        /// `tokio::spawn`. Without a runtime, the clean-up does not run, and the lease ends by itself.
        spawner(spawner: Spawner);
    }

    common_setters!();

    /// Checks the fields. An error has the name of the layer.
    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        self.common.named(self.check_fields())
    }

    fn check_fields(&self) -> Result<(), InvalidConfig> {
        check_duration("result-lifetime", self.result_lifetime)?;
        check_duration("lease", self.lease)?;
        // A third of the lease must be at least 1 ms, which clocks can measure.
        check_at_least("lease", self.lease.as_millis(), 3)?;
        check_duration("in-flight-hint", self.in_flight_hint.unwrap_or(self.lease))?;
        check_not_endless("longest-wait", self.longest_wait)?;
        check_duration("poll-interval", self.poll_interval)?;
        check_at_least("store-attempts", self.store_attempts, 1)?;
        check_duration("patience", self.patience)?;
        check_duration("sweep-interval", self.sweep_interval)?;
        check_at_least("sweep-batch", self.sweep_batch, 1)?;
        check_at_least("max-detached", self.max_detached, 1)
    }
}
