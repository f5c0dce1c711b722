//! The decisions of a projection: its next step, and the effect of a result. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::event_store::checkpoint::{Leased, ProjectionLease};
use crate::event_store::recorded::{Ordered, Page};
use crate::event_store::stream::Position;
use crate::instant;

/// The longest wait before another attempt to get the lease.
const STANDBY: Duration = Duration::from_secs(1);
/// How long the checkpoint may stay behind events that are not for the handler. Each move is a commit, and an append wakes
/// every projection.
const BEHIND: Duration = Duration::from_secs(1);
/// How many such events move the checkpoint earlier.
const FAR_BEHIND: u64 = 10_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rules {
    /// The most events of one call.
    pub batch: usize,
    /// The attempts per event.
    pub attempts: u32,
    pub lease: Duration,
    pub poll: Duration,
    /// Whether replayed events are left out.
    pub is_live_only: bool,
}

/// The next step of a projection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// It asks for the lease, or renews it.
    Lease,
    /// It reads events after a position.
    Read(Position),
    /// It handles the first waiting events, and moves the checkpoint.
    Handle { events: usize, to: Position },
    /// It moves the checkpoint past events that are not for the handler.
    Advance(Position),
    /// It waits until an instant. Without one it waits for an operator.
    Wait(Option<Instant>),
}

/// The meaning of a failed call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum After {
    /// The events are handled one by one.
    Singly,
    /// The projection attempts the event again at this instant.
    Again(Instant),
    /// The event has no attempts left.
    GiveUp,
}

/// The progress of a projection.
#[derive(Debug)]
pub(super) struct Progress {
    rules: Rules,
    /// `None` while another worker may own the projection.
    lease: Option<ProjectionLease>,
    /// When the lease is asked for, or renewed.
    lease_at: Instant,
    /// Nothing but the lease is done before, because the store does not answer.
    held_until: Option<Instant>,
    checkpoint: Position,
    /// Events up to it are replayed.
    replayed_to: Position,
    /// The parked event that was replayed last.
    replayed: Position,
    /// The read model was rebuilt from the events up to it.
    rebuilt: Position,
    /// Events that were read and not handled.
    waiting: VecDeque<Ordered>,
    /// The last position that was read.
    through: Position,
    read_at: Instant,
    /// When the checkpoint is moved past events that are not for the handler.
    advance_at: Option<Instant>,
    /// Whether the last read found the end of the log. A page with few events may not be the last one.
    is_at_end: bool,
    /// Events up to it are handled one by one.
    singly_to: Position,
    /// Failed attempts of the first waiting event.
    failures: u32,
    /// Failed calls in a row, also those that use up no attempt.
    calls: u32,
    retry_at: Option<Instant>,
    is_stopped: bool,
}

impl Progress {
    pub(super) fn new(rules: Rules, now: Instant) -> Self {
        Self {
            rules,
            lease: None,
            lease_at: now,
            held_until: None,
            checkpoint: Position::START,
            replayed_to: Position::START,
            replayed: Position::START,
            rebuilt: Position::START,
            waiting: VecDeque::new(),
            through: Position::START,
            read_at: now,
            advance_at: None,
            is_at_end: false,
            singly_to: Position::START,
            failures: 0,
            calls: 0,
            retry_at: None,
            is_stopped: false,
        }
    }

    /// Treats every event as a replayed one.
    pub(super) fn rebuild(&mut self) {
        self.replayed_to = Position::new(u64::MAX);
    }

    pub(super) fn is_rebuilding(&self) -> bool {
        self.replayed_to == Position::new(u64::MAX)
    }

    /// Whether parked events are replayed now. `Some(false)` means that another worker has the projection, and `None` that it
    /// is not known yet.
    pub(super) fn may_replay(&self, is_paused: bool, now: Instant) -> Option<bool> {
        if self.is_stopped {
            return Some(false);
        }
        let is_held = is_paused || self.held_until.is_some_and(|at| now < at);
        (!self.is_lease_due(now) && !is_held).then_some(self.lease.is_some())
    }

    pub(super) fn is_lease_due(&self, now: Instant) -> bool {
        self.lease_at <= now
    }

    /// Returns `true` if the read model has the effect of an event, although the event is parked.
    pub(super) fn has_taken_effect(&self, parked: Position) -> bool {
        // A rebuild hands no event to effects outside.
        parked == self.replayed || (!self.rules.is_live_only && parked <= self.rebuilt)
    }

    /// Takes in that a parked event has taken effect.
    pub(super) fn replayed(&mut self, parked: Position) {
        self.replayed = parked;
    }

    pub(super) fn next(&self, is_paused: bool, now: Instant) -> Next {
        if self.is_stopped {
            return Next::Wait(None);
        }
        if self.is_lease_due(now) {
            return Next::Lease;
        }
        let until = |at: Option<Instant>| {
            Next::Wait(Some(at.map_or(self.lease_at, |at| at.min(self.lease_at))))
        };
        if self.lease.is_none() || is_paused {
            return until(None);
        }
        if let Some(at) = self.held_until.filter(|at| now < *at) {
            return until(Some(at));
        }
        if let Some(first) = self.waiting.front() {
            if let Some(at) = self.retry_at.filter(|at| now < *at) {
                return until(Some(at));
            }
            let singly = self.failures > 0 || first.position <= self.singly_to;
            let events = if singly { 1 } else { self.rules.batch.min(self.waiting.len()) };
            let last = self.waiting.get(events.saturating_sub(1)).map(|event| event.position);
            let is_all = events >= self.waiting.len();
            let to = if is_all { self.through } else { last.unwrap_or(self.through) };
            return Next::Handle { events, to };
        }
        let is_far = self.through.get().saturating_sub(self.checkpoint.get()) >= FAR_BEHIND;
        let is_late = self.advance_at.is_some_and(|at| at <= now) || self.is_rebuilding();
        if self.through > self.checkpoint && (is_far || is_late) {
            return Next::Advance(self.through);
        }
        if self.read_at <= now {
            return Next::Read(self.through);
        }
        until(Some(self.advance_at.map_or(self.read_at, |at| at.min(self.read_at))))
    }

    /// Takes in the answer to a request for the lease.
    pub(super) fn leased(&mut self, leased: Option<Leased>, now: Instant) {
        self.held_until = None;
        let Some(leased) = leased else {
            let again = STANDBY.min(self.rules.lease / 3);
            self.forget(instant::after(now, again));
            return;
        };
        self.lease_at = instant::after(now, self.rules.lease / 3);
        // The checkpoint may differ although the epoch is the same: the answer to a commit was lost.
        let is_new = self.lease.as_ref() != Some(&leased.lease);
        if is_new || self.checkpoint != leased.checkpoint {
            self.restart(leased.checkpoint);
            self.read_at = now;
        }
        (self.replayed, self.rebuilt) = (leased.replayed, leased.rebuilt);
        if is_new {
            (self.failures, self.calls) = (0, 0);
            self.retry_at = None;
            self.replayed_to = self.replayed_to.max(leased.seen);
        }
        self.lease = Some(leased.lease);
    }

    /// Records that another worker owns the projection, or that it was replaced.
    pub(super) fn fenced(&mut self, now: Instant) {
        self.forget(now);
    }

    /// Records that the store failed. It is unknown whether a checkpoint was moved, so the lease is asked for at `at`
    /// before anything else.
    pub(super) fn troubled(&mut self, at: Instant) {
        self.restart(self.checkpoint);
        self.lease_at = at;
        self.held_until = Some(at);
    }

    /// Takes in events that were read after the checkpoint.
    pub(super) fn read(&mut self, page: Page, now: Instant) {
        self.is_at_end = page.is_end;
        // A page that ends where it began waits, too: another reader gives positions.
        let is_last = page.is_end || page.through <= self.through;
        self.read_at = if is_last { instant::after(now, self.rules.poll) } else { now };
        self.through = self.through.max(page.through);
        let replayed = |event: &Ordered| event.position <= self.replayed_to;
        let events = page.events.into_iter();
        self.waiting =
            events.filter(|event| !(self.rules.is_live_only && replayed(event))).collect();
        if self.through > self.checkpoint && self.advance_at.is_none() {
            self.advance_at = Some(instant::after(now, BEHIND));
        }
    }

    /// Records that events were appended.
    pub(super) fn woken(&mut self, now: Instant) {
        self.read_at = self.read_at.min(now);
    }

    /// Records that the first events were handled, or left out, and the checkpoint moved.
    pub(super) fn handled(&mut self, events: usize, to: Position) {
        self.waiting.drain(..events.min(self.waiting.len()));
        self.checkpoint = to;
        self.advance_at = None;
        (self.failures, self.calls) = (0, 0);
        self.retry_at = None;
    }

    /// Records that a call with the first events failed. `wait` is the wait before a number of retries.
    pub(super) fn failed(
        &mut self,
        events: usize,
        counts: bool,
        is_final: bool,
        wait: impl FnOnce(u32) -> Duration,
        now: Instant,
    ) -> After {
        if events > 1 {
            let last = self.waiting.get(events - 1).map(|event| event.position);
            self.singly_to = last.unwrap_or(self.through);
            return After::Singly;
        }
        self.failures = self.failures.saturating_add(u32::from(counts));
        if is_final || self.failures >= self.rules.attempts {
            return After::GiveUp;
        }
        let at = instant::after(now, wait(self.calls));
        self.calls = self.calls.saturating_add(1);
        self.retry_at = Some(at);
        After::Again(at)
    }

    /// Records that the projection stops at its first waiting event.
    pub(super) fn stop(&mut self) {
        self.is_stopped = true;
        self.lease = None;
        self.restart(self.checkpoint);
    }

    /// Records that an operator resumes the projection.
    pub(super) fn resume(&mut self, now: Instant) {
        if self.is_stopped {
            self.is_stopped = false;
            self.forget(now);
        }
    }

    pub(super) fn lease(&self) -> Option<&ProjectionLease> {
        self.lease.as_ref()
    }

    pub(super) const fn checkpoint(&self) -> Position {
        self.checkpoint
    }

    /// Returns the first waiting events.
    pub(super) fn waiting(&self, events: usize) -> Vec<Ordered> {
        self.waiting.iter().take(events).cloned().collect()
    }

    /// Returns `true` if every event that was there at the last read is handled.
    pub(super) fn has_caught_up(&self) -> bool {
        self.is_at_end
            && self.waiting.is_empty()
            && self.lease.is_some()
            && self.through == self.checkpoint
    }

    fn forget(&mut self, lease_at: Instant) {
        self.lease = None;
        self.lease_at = lease_at;
        self.restart(self.checkpoint);
    }

    /// Reads again from a checkpoint.
    fn restart(&mut self, checkpoint: Position) {
        self.waiting.clear();
        self.checkpoint = checkpoint;
        self.through = checkpoint;
        self.advance_at = None;
        self.is_at_end = false;
    }
}

#[cfg(all(test, not(buttress_loom)))]
#[path = "state/tests.rs"]
mod tests;
