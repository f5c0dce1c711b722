//! When the keys of a key server are fetched, and how long they serve.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::keys::KeySet;

/// The shortest time between the beginnings of two fetches, whatever tokens arrive.
pub(super) const FLOOR: Duration = Duration::from_secs(10);

/// The age at which keys are fetched again while they serve.
pub(super) const REFRESH: Duration = Duration::from_secs(5 * 60);

/// The age up to which keys serve while the key server is unavailable.
pub(super) const STALE: Duration = Duration::from_secs(24 * 3600);

/// The time after the last fetch from which a request waits for a new one. Without it the first request after a quiet
/// night would be judged by the keys of the evening.
const OVERDUE: Duration = Duration::from_secs(2 * 5 * 60);

/// The end of a fetch.
pub(super) type Fetched = Option<KeySet>;

/// The keys of a key server.
#[derive(Debug, Default)]
pub(super) struct State {
    keys: Option<Kept>,
    /// The beginning of the last fetch.
    begun: Option<Instant>,
    /// The end of the last fetch that has ended.
    ended: Option<End>,
    in_flight: bool,
}

#[derive(Debug)]
struct Kept {
    keys: Arc<KeySet>,
    /// The beginning of their fetch: a key that left since may still be among them.
    since: Instant,
}

#[derive(Clone, Copy, Debug)]
struct End {
    at: Instant,
    succeeded: bool,
}

/// The step that a request takes.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// It uses these keys.
    Use(Arc<KeySet>),
    /// It waits for the end of the fetch in flight, and asks again.
    Wait,
    /// There are no keys. The key server is asked again after this time.
    Unavailable(Duration),
    /// The key server does not have the key.
    Unknown,
}

/// A decision. The caller begins a fetch first if `fetch` says so.
#[derive(Clone, Debug)]
pub(super) struct Decision {
    pub step: Step,
    pub fetch: bool,
}

impl State {
    /// Decides for a request. One that has waited before does not wait again.
    pub(super) fn ask(&mut self, now: Instant, has_waited: bool) -> Decision {
        let age = |since: Instant| now.saturating_duration_since(since);
        let kept = self.keys.as_ref().filter(|kept| age(kept.since) < STALE);
        let kept = kept.map(|kept| (Arc::clone(&kept.keys), age(kept.since)));
        let wants = kept.as_ref().is_none_or(|(_, age)| *age >= REFRESH);
        let fetch = wants && self.begin(now);
        let overdue = self.ended.is_none_or(|ended| age(ended.at) >= OVERDUE);
        let waits = self.in_flight && !has_waited;
        let step = match kept {
            Some(_) if overdue && waits => Step::Wait,
            Some((keys, _)) => Step::Use(keys),
            None if waits => Step::Wait,
            None => Step::Unavailable(self.until_due(now)),
        };
        Decision { step, fetch }
    }

    /// Decides for a request whose key is not among the keys.
    pub(super) fn unknown_key(&mut self, now: Instant, has_waited: bool) -> Decision {
        let fetch = self.begin(now);
        let step = if self.in_flight && !has_waited {
            Step::Wait
        } else if self.ended.is_some_and(|ended| ended.succeeded) {
            Step::Unknown
        } else {
            // The key server may have the key by now.
            Step::Unavailable(self.until_due(now))
        };
        Decision { step, fetch }
    }

    /// Ends the fetch in flight. Without keys it has failed.
    pub(super) fn ended(&mut self, now: Instant, fetched: Fetched) {
        self.in_flight = false;
        self.ended = Some(End { at: now, succeeded: fetched.is_some() });
        if let Some(keys) = fetched {
            let since = self.begun.unwrap_or(now);
            self.keys = Some(Kept { keys: Arc::new(keys), since });
        }
    }

    /// Begins a fetch unless one is in flight, or the last one has begun too recently.
    fn begin(&mut self, now: Instant) -> bool {
        if self.in_flight || !self.until_due(now).is_zero() {
            return false;
        }
        self.begun = Some(now);
        self.in_flight = true;
        true
    }

    fn until_due(&self, now: Instant) -> Duration {
        let since = self.begun.map(|begun| now.saturating_duration_since(begun));
        since.map_or(Duration::ZERO, |since| FLOOR.saturating_sub(since))
    }
}
