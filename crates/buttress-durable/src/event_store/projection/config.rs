//! The configuration of a projection.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use buttress::InvalidConfig;
use buttress::retry::Backoff;

use super::parking::{Letters, Parking};
use super::state::Rules;
use crate::check::{check_at_least, check_duration};
use crate::consume::DeadLetters;
use crate::event_store::recorded::Filter;
use crate::setters::{Common, common_setters, retry_setter, setters};

/// The policy for an event that the handler cannot handle.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum OnFailure {
    /// The projection stops at the event, and its handle reports the event. The default, because a read model without
    /// the event would be silently wrong.
    #[default]
    Stop,
    /// The event, and later ones of its stream, become dead letters. Other streams continue. Needs
    /// [`Config::dead_letters`].
    Park,
    /// The projection continues after the event. It logs and counts the event.
    Skip,
}

/// Which events a handler gets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Effects {
    /// The handler gets all events, also replayed ones. The default, for read models.
    #[default]
    All,
    /// The handler gets only events that no projection of this name has passed before, and none during a rebuild. A new
    /// projection begins after the last event. Use it for handlers with effects outside of the database, such as mails.
    Live,
}

impl Effects {
    pub(super) const fn start(self) -> crate::event_store::checkpoint::Start {
        match self {
            Self::All => crate::event_store::checkpoint::Start::First,
            Self::Live => crate::event_store::checkpoint::Start::Last,
        }
    }
}

/// The configuration of a projection.
///
/// Setters take and return the value. [`Projection::new`](super::Projection::new) checks the values.
#[derive(Clone, Debug)]
#[must_use]
pub struct Config {
    pub(super) common: Common,
    pub(super) batch: usize,
    pub(super) filter: Filter,
    pub(super) poll: Duration,
    pub(super) lease: Duration,
    pub(super) attempts: u32,
    pub(super) backoff: Backoff,
    pub(super) on_failure: OnFailure,
    pub(super) effects: Effects,
    pub(super) handler_timeout: Duration,
    pub(super) letters: Option<Letters>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            common: Common::default(),
            batch: 500,
            filter: Filter::all(),
            poll: Duration::from_millis(100),
            lease: Duration::from_secs(15),
            attempts: 6,
            backoff: Backoff::exponential(Duration::from_millis(200)).cap(Duration::from_secs(30)),
            on_failure: OnFailure::default(),
            effects: Effects::default(),
            handler_timeout: Duration::from_secs(60),
            letters: None,
        }
    }
}

impl Config {
    /// Creates the default configuration.
    pub fn new() -> Self {
        Self::default()
    }

    common_setters!(
        "projection",
        "[`Projection::spawn`](super::Projection::spawn) runs the projection"
    );

    setters! {
        /// Sets how many events the handler gets with one call, and so with one transaction. Default: 500, because a
        /// commit per event would wait for the disk each time. Between 1 and 10 000. Large events make a batch shorter: see
        /// [`Page::LARGEST`](crate::event_store::Page::LARGEST).
        batch(events: usize);

        /// Sets which events the handler gets. Default: all.
        filter(filter: Filter);

        /// Sets how often the projection looks for new events that other processes append. Default: 100 ms. Above zero,
        /// at most 365 days. Appends through the same [`Log`](crate::event_store::Log) wake it immediately.
        poll(interval: Duration);

        /// Sets how long the lease lasts without a renewal. Default: 15 s. Above zero, at most 365 days. After a crash
        /// another process continues up to one second after the end of the lease.
        lease(time: Duration);
    }

    retry_setter! {
        /// Sets the number of attempts per event, and the wait after each failed attempt. Default: 6 attempts, which are
        /// 5 retries, exponential from 200 ms to 30 s with full jitter. At least 1 attempt.
        ///
        /// A batch that fails is handled event by event, so one event cannot fail the others. A store that does not
        /// answer, or fails with `Transient` or `Misconfigured`, uses up no attempt.
    }

    setters! {
        /// Sets the reaction to an event that has used up its attempts. Default: [`OnFailure::Stop`].
        on_failure(policy: OnFailure);

        /// Sets which events the handler gets. Default: [`Effects::All`].
        effects(effects: Effects);

        /// Sets how long the handler may take per call, readiness included. Default: 60 s. Above zero, at most 365 days.
        handler_timeout(timeout: Duration);
    }

    /// Sets where [`OnFailure::Park`] keeps events. The group of the letters is the name of the projection, and their
    /// key is the stream.
    pub fn dead_letters(mut self, letters: impl DeadLetters) -> Self {
        self.letters = Some(Letters(Arc::new(letters) as Arc<dyn Parking>));
        self
    }

    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        InvalidConfig::check_range("batch", self.batch, 1..=10_000)?;
        check_at_least("attempts", self.attempts, 1)?;
        self.backoff.check()?;
        self.filter.check()?;
        for (field, time) in
            [("poll", self.poll), ("lease", self.lease), ("handler-timeout", self.handler_timeout)]
        {
            check_duration(field, time)?;
        }
        if self.on_failure == OnFailure::Park && self.letters.is_none() {
            let bound = "possible without dead letters: call `dead_letters`";
            return Err(InvalidConfig::new("on-failure", "park", bound));
        }
        Ok(())
    }

    pub(super) fn rules(&self) -> Rules {
        Rules {
            batch: self.batch,
            attempts: self.attempts,
            lease: self.lease,
            poll: self.poll,
            is_live_only: self.effects == Effects::Live,
        }
    }
}

impl fmt::Debug for Letters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Letters").finish_non_exhaustive()
    }
}
