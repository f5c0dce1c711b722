//! The verdict on a message whose handler has ended: done, another attempt, or a dead letter. Pure.

use std::time::{Duration, Instant};

use super::Lanes;
use super::entry::{Became, Burial, EntryId, LaneKey, Origin, Outcome, Stage, Work};
use super::lane::Gate;
use crate::consume::letter::Reason;
use crate::instant;
use crate::outage::MOST_REFUSALS;

impl<T: Clone> Lanes<T> {
    /// Takes in how a handler ended. `wait` returns the wait after a number of attempts, or of failures in a row that
    /// did not count.
    pub(in crate::consume) fn ended(
        &mut self,
        now: Instant,
        id: EntryId,
        outcome: Outcome,
        wait: impl FnOnce(u32) -> Duration,
    ) -> Became {
        let Some(entry) = self.entries.get_mut(&id) else { return Became::Gone };
        self.running = self.running.saturating_sub(1);
        if entry.gone {
            self.forget(id);
            return Became::Gone;
        }
        match outcome {
            Outcome::Done => {
                self.done(id);
                Became::Done
            }
            Outcome::Dead { reason, error } => {
                entry.attempts = entry.attempts.saturating_add(1);
                self.bury(id, reason, error, None);
                Became::Dead
            }
            Outcome::Failed { error, counts, hint } => {
                entry.attempts = entry.attempts.saturating_add(u32::from(counts));
                entry.refusals = if counts { 0 } else { (entry.refusals + 1).min(MOST_REFUSALS) };
                if counts && entry.attempts >= self.rules.attempts {
                    self.bury(id, Reason::Exhausted, error, None);
                    return Became::Dead;
                }
                if self.draining {
                    self.give_back(id);
                    return Became::Back;
                }
                let hint = hint.unwrap_or_default().min(self.rules.max_hint);
                let after = wait(entry.attempts.saturating_add(entry.refusals)).max(hint);
                if self.rules.hold.is_some_and(|longest| after > longest) {
                    self.bury(id, Reason::Delayed, error, Some(after));
                    return Became::Dead;
                }
                let at = instant::after(now, after);
                entry.stage = Stage::Resting(at);
                self.resting.insert((at, id));
                Became::Resting
            }
        }
    }

    /// Orders a dead letter for the head of a lane.
    pub(super) fn bury(
        &mut self,
        id: EntryId,
        reason: Reason,
        error: String,
        due_in: Option<Duration>,
    ) {
        let holds_key = self.rules.park;
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.stage = Stage::Writing;
        self.ends.dead += 1;
        let (replay, replays) = match entry.origin {
            Origin::Letter { replay, replays } => (Some(replay), replays),
            Origin::Delivered { .. } => (None, 0),
        };
        let attempts = entry.attempts;
        // The letters behind a parked message came before it, and hold the key.
        let stops = reason != Reason::Parked;
        let burial = Burial { reason, error, attempts, replays, replay, due_in, holds_key };
        let content = entry.content.clone();
        self.writes.push_back(Work::Bury { id, content, burial });
        if !self.rules.park {
            return;
        }
        let Some(lane) = self.lanes.get_mut(&entry.lane) else { return };
        lane.gate = Gate::Unknown;
        // The letters behind another one stay dead with it: their replay would be a gap in the order of the key.
        if let (true, LaneKey::Key(key)) = (stops, entry.lane.clone()) {
            self.stop(id, &key, replay.map(|replay| replay.id));
        }
    }
}
