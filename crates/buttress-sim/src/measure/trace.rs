use std::fmt;
use std::time::Duration;

use buttress::{CircuitState, ErrorKind};

use super::cause::Cause;
use crate::rng::{hash, mix};

/// The kind of an event in a simulation.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// A request began.
    Began,
    /// A request ended.
    Ended(Cause),
    /// A layer refused a call.
    Refused(ErrorKind),
    /// A layer interrupted a call at its time limit.
    TimedOut,
    /// A circuit changed its state.
    CircuitChanged(CircuitState),
    /// An attempt failed and another follows. The number of the failed attempt, from 1.
    Retrying(u32),
    /// An attempt failed and no other follows.
    Exhausted,
    /// A fallback answered. `true` if the fallback failed too.
    FellBack(bool),
    /// The configuration of a layer was changed.
    Reconfigured,
    /// Another event of a layer.
    Other,
    /// A fault began.
    FaultBegan,
    /// A fault ended.
    FaultEnded,
    /// A job arrived at a station and was admitted.
    JobArrived,
    /// A server began to work on a job.
    JobStarted,
    /// A server finished a job.
    JobFinished,
    /// A job was rejected because it had waited for too long.
    JobRejected,
    /// A job was lost in a crash.
    JobCrashed,
    /// A job was dropped because its caller had left.
    JobCancelled,
    /// The code under test noted this number.
    Noted(u64),
}

impl What {
    fn code(self) -> u64 {
        match self {
            Self::Began => 1,
            Self::Ended(cause) => 2 | (cause as u64) << 8,
            Self::Refused(kind) => 3 | hash(kind.as_str().as_bytes()) << 8,
            Self::TimedOut => 4,
            Self::CircuitChanged(to) => 5 | hash(to.as_str().as_bytes()) << 8,
            Self::Retrying(attempt) => 6 | u64::from(attempt) << 8,
            Self::Exhausted => 7,
            Self::FellBack(failed) => 8 | u64::from(failed) << 8,
            Self::Reconfigured => 9,
            Self::Other => 10,
            Self::FaultBegan => 11,
            Self::FaultEnded => 12,
            Self::JobArrived => 13,
            Self::JobStarted => 14,
            Self::JobFinished => 15,
            Self::JobRejected => 16,
            Self::JobCrashed => 17,
            Self::JobCancelled => 18,
            Self::Noted(value) => 19 ^ mix(value) << 8,
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Began => f.write_str("request began"),
            Self::Ended(cause) => write!(f, "request ended: {cause}"),
            Self::Refused(kind) => write!(f, "call refused: {kind}"),
            Self::TimedOut => f.write_str("call timed out"),
            Self::CircuitChanged(to) => write!(f, "circuit is now {to}"),
            Self::Retrying(attempt) => write!(f, "retrying after attempt {attempt}"),
            Self::Exhausted => f.write_str("retries exhausted"),
            Self::FellBack(false) => f.write_str("fallback answered"),
            Self::FellBack(true) => f.write_str("fallback failed"),
            Self::Reconfigured => f.write_str("reconfigured"),
            Self::Other => f.write_str("something else"),
            Self::FaultBegan => f.write_str("fault began"),
            Self::FaultEnded => f.write_str("fault ended"),
            Self::JobArrived => f.write_str("job arrived"),
            Self::JobStarted => f.write_str("job started"),
            Self::JobFinished => f.write_str("job finished"),
            Self::JobRejected => f.write_str("job rejected"),
            Self::JobCrashed => f.write_str("job lost in a crash"),
            Self::JobCancelled => f.write_str("job cancelled"),
            Self::Noted(value) => write!(f, "noted {value}"),
        }
    }
}

/// An event of a simulation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// The time since the start of the run.
    pub at: Duration,
    /// The kind of the event.
    pub what: What,
    /// The source: the name of a layer, a station, or another part.
    pub source: &'static str,
    /// The number of the request, job or fault, counted separately for each source.
    pub id: u64,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} #{}: {}", self.at, self.source, self.id, self.what)
    }
}

/// The events of a run: always their hash, and the events themselves on request.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    count: u64,
    events: Option<Vec<Event>>,
}

impl Trace {
    pub(crate) const fn new(keep: bool) -> Self {
        Self { hash: 0, count: 0, events: if keep { Some(Vec::new()) } else { None } }
    }

    /// Adds an event. `source` enters the hash as its number, and the event as its name.
    #[inline]
    pub(crate) fn push(&mut self, at: u64, what: What, source: u32, id: u64) {
        let event = at ^ what.code().rotate_left(24) ^ u64::from(source).rotate_left(48);
        self.hash = (self.hash.rotate_left(5) ^ event).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.hash = (self.hash.rotate_left(23) ^ id).wrapping_mul(0xd6e8_feb8_6659_fd93);
        self.count += 1;
    }

    pub(crate) fn keep(&mut self, event: Event) {
        if let Some(events) = &mut self.events {
            events.push(event);
        }
    }

    pub(crate) const fn keeps(&self) -> bool {
        self.events.is_some()
    }

    pub(crate) fn into_parts(self) -> (u64, u64, Option<Vec<Event>>) {
        (mix(self.hash ^ self.count), self.count, self.events)
    }

    pub(crate) const fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_of(events: &[(u64, What, u32, u64)]) -> u64 {
        let mut trace = Trace::new(false);
        events.iter().for_each(|(at, what, source, id)| trace.push(*at, *what, *source, *id));
        trace.into_parts().0
    }

    #[test]
    fn every_part_of_every_event_and_their_order_count() {
        let one = [(5, What::Began, 0, 1), (9, What::Ended(Cause::Ok), 0, 1)];
        let mut seen = std::collections::BTreeSet::from([hash_of(&one), hash_of(&[])]);
        for other in [
            [one[1], one[0]],
            [(6, What::Began, 0, 1), one[1]],
            [(5, What::Began, 1, 1), one[1]],
            [(5, What::Began, 0, 2), one[1]],
            [one[0], (9, What::Ended(Cause::Error), 0, 1)],
            [one[0], (9, What::Refused(ErrorKind::CircuitOpen), 0, 1)],
            [one[0], (9, What::Refused(ErrorKind::BulkheadFull), 0, 1)],
        ] {
            assert!(seen.insert(hash_of(&other)), "{other:?}");
        }
    }
}
