//! Settling with the transport, writing letters, and the end of a consumer.

use super::Lanes;
use super::entry::{Ends, EntryId, Hold, LaneKey, Origin, Stage, Stop, Work};
use crate::consume::content::Key;
use crate::consume::letter::{Replay, ReplayId};
use crate::consume::source::{Answer, Settle};

impl<T: Clone> Lanes<T> {
    /// Takes a handled message out of its lane.
    pub(super) fn done(&mut self, id: EntryId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if let Origin::Letter { replay, .. } = entry.origin {
            entry.stage = Stage::Writing;
            return self.writes.push_back(Work::Resolve { id, replay });
        }
        entry.stage = Stage::Settling(Settle::Done);
        self.settles.push_back(id);
        self.advance(id);
    }

    /// Records that a dead letter is written, or that a replayed letter is removed.
    pub(in crate::consume) fn written(&mut self, id: EntryId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.stage != Stage::Writing {
            return;
        }
        if entry.gone || matches!(entry.origin, Origin::Letter { .. }) {
            return self.forget(id);
        }
        entry.stage = Stage::Settling(Settle::Done);
        entry.holds_lane = true;
        self.settles.push_back(id);
    }

    /// Returns a message to the transport. A letter stays in its store, and its claim is released.
    pub(super) fn give_back(&mut self, id: EntryId) {
        self.leave_lane(id);
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if let (Origin::Letter { replay, .. }, false) = (&entry.origin, entry.gone) {
            self.released.push(*replay);
            return self.remove(id);
        }
        if entry.gone {
            self.ends.revoked += 1;
            return self.remove(id);
        }
        self.ends.returned += 1;
        entry.stage = Stage::Settling(Settle::Back);
        self.settles.push_back(id);
    }

    /// Returns the next settle call, in the order in which the messages ended. Returns an empty list if there is
    /// nothing to report, or while the answer of the last call is missing.
    pub(in crate::consume) fn settle(&mut self) -> Vec<(T, Settle)> {
        if !self.telling.is_empty() {
            return Vec::new();
        }
        let mut call = Vec::new();
        for id in std::mem::take(&mut self.settles) {
            let Some(entry) = self.entries.get(&id) else { continue };
            if let (Stage::Settling(how), Origin::Delivered { token, .. }) =
                (entry.stage, &entry.origin)
            {
                call.push((token.clone(), how));
                self.telling.push((id, how));
            }
        }
        call
    }

    /// Takes in the answers to the last settle call. Returns how many were late. A missing answer counts as late.
    pub(in crate::consume) fn settled(&mut self, answers: &[Answer]) -> u64 {
        let mut late = 0;
        let mut answers = answers.iter();
        for (id, _) in std::mem::take(&mut self.telling) {
            late += u64::from(answers.next() != Some(&Answer::Taken));
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            if std::mem::take(&mut entry.renewed) {
                self.settles.push_back(id);
            } else if entry.holds_lane {
                self.forget(id);
            } else {
                self.remove(id);
            }
        }
        late
    }

    /// Records that the last settle call failed: it is repeated, before all others.
    pub(super) fn settle_failed(&mut self) {
        for (id, _) in std::mem::take(&mut self.telling).into_iter().rev() {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.renewed = false;
                self.settles.push_front(id);
            }
        }
    }

    /// Returns whether messages wait for a settle call that may begin now.
    pub(in crate::consume) fn has_settles(&self) -> bool {
        self.telling.is_empty() && !self.settles.is_empty()
    }

    /// Returns whether only reports to the transport are left.
    pub(in crate::consume) fn is_settling_only(&self) -> bool {
        self.entries.values().all(|entry| matches!(entry.stage, Stage::Settling(_)))
    }

    /// Returns the tokens that the transport has to keep.
    pub(in crate::consume) fn held_tokens(&self) -> Vec<(Hold, T)> {
        let held = self.entries.iter().filter(|(_, entry)| !entry.gone);
        let tokens = held.filter_map(|(id, entry)| match &entry.origin {
            Origin::Delivered { token, .. } => {
                Some((Hold { id: *id, turn: entry.turn }, token.clone()))
            }
            Origin::Letter { .. } => None,
        });
        tokens.collect()
    }

    /// Returns the claims on letters that have to be renewed. A letter that is being written is left out: its claim
    /// ends with the write.
    pub(in crate::consume) fn held_replays(&self) -> Vec<(Hold, Replay)> {
        let held = self.entries.iter().filter(|(_, entry)| !entry.gone);
        let held = held.filter(|(_, entry)| entry.stage != Stage::Writing);
        let replays = held.filter_map(|(id, entry)| match &entry.origin {
            Origin::Letter { replay, .. } => Some((Hold { id: *id, turn: entry.turn }, *replay)),
            Origin::Delivered { .. } => None,
        });
        replays.collect()
    }

    /// Returns the ends since the last call.
    pub(in crate::consume) fn take_ends(&mut self) -> Ends {
        std::mem::take(&mut self.ends)
    }

    /// Returns the claims on letters that were returned unhandled.
    pub(in crate::consume) fn take_released(&mut self) -> Vec<Replay> {
        std::mem::take(&mut self.released)
    }

    /// Releases claims on letters that are not held.
    pub(in crate::consume) fn release(&mut self, claims: Vec<Replay>) {
        self.released.extend(claims);
    }

    /// Returns the keys at which replays stop, since the last call.
    pub(in crate::consume) fn take_stops(&mut self) -> Vec<Stop> {
        std::mem::take(&mut self.stops)
    }

    /// Records that the transport does not keep messages any more, or that other replays have the keys of letters.
    /// Returns how many were forgotten. The letters behind a lost one are released.
    pub(in crate::consume) fn lost(&mut self, held: &[Hold]) -> usize {
        let stops: Vec<_> = held.iter().filter_map(|held| self.stop_of(*held)).collect();
        let forgotten = held.iter().filter(|held| self.not_kept(**held)).count();
        for (id, key, replay) in stops {
            self.stop(id, &key, Some(replay));
        }
        forgotten
    }

    /// Records that the transport does not keep a message any more, or that another replay has the key of a letter.
    /// Returns whether it was forgotten. A message that came again since the question is held by its new token.
    pub(super) fn not_kept(&mut self, held: Hold) -> bool {
        let is_same = self.entries.get(&held.id).is_some_and(|entry| entry.turn == held.turn);
        is_same && self.lose(held.id)
    }

    fn stop_of(&self, held: Hold) -> Option<(EntryId, Key, ReplayId)> {
        let entry = self.entries.get(&held.id).filter(|entry| entry.turn == held.turn)?;
        match (&entry.origin, &entry.lane) {
            // A write that has succeeded ends the claim, which may be the reason for the answer.
            (Origin::Letter { .. }, _) if entry.stage == Stage::Writing => None,
            (Origin::Letter { replay, .. }, LaneKey::Key(key)) => {
                Some((held.id, key.clone(), replay.id))
            }
            _ => None,
        }
    }

    /// Records that the claim on a letter was lost before its write: the letters behind it are released.
    pub(in crate::consume) fn fenced(&mut self, id: EntryId) {
        let Some(entry) = self.entries.get(&id) else { return };
        if let (Origin::Letter { replay, .. }, LaneKey::Key(key)) = (&entry.origin, &entry.lane) {
            let (replay, key) = (replay.id, key.clone());
            self.stop(id, &key, Some(replay));
        }
    }

    /// Stops `replay` at a key, and the replays of the letters that came after message `id`. These letters are
    /// released.
    pub(super) fn stop(&mut self, id: EntryId, key: &Key, replay: Option<ReplayId>) {
        let stop = |replay, left_out| Stop { replay, key: key.clone(), left_out };
        let mut stops: Vec<Stop> = replay.map(|replay| stop(replay, 0)).into_iter().collect();
        let queue = self.lanes.get(&LaneKey::Key(key.clone())).map(|lane| &lane.queue);
        let behind = queue.into_iter().flatten().copied().filter(|other| *other > id);
        let behind: Vec<EntryId> = behind.collect();
        for other in behind.into_iter().rev() {
            let origin = self.entries.get(&other).map(|entry| &entry.origin);
            if let Some(Origin::Letter { replay, .. }) = origin {
                stops.push(stop(replay.id, 1));
                self.give_back(other);
            }
        }
        self.stops.extend(stops);
    }

    /// Begins the shutdown: returns all messages that wait or rest, and takes no more.
    pub(in crate::consume) fn drain(&mut self) {
        self.draining = true;
        self.give_back_if(|stage| matches!(stage, Stage::Waiting | Stage::Resting(_)));
    }

    /// Ends the shutdown: returns the messages whose handlers, or whose letters, did not end in time. The caller has
    /// dropped them.
    pub(in crate::consume) fn abandon(&mut self) {
        self.draining = true;
        self.running = 0;
        self.writes.clear();
        self.settle_failed();
        self.give_back_if(|stage| !matches!(stage, Stage::Settling(_)));
    }

    fn give_back_if(&mut self, is_meant: impl Fn(Stage) -> bool) {
        let meant = self.entries.iter().filter(|(_, entry)| is_meant(entry.stage));
        let mut ids: Vec<EntryId> = meant.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.into_iter().for_each(|id| self.give_back(id));
    }
}
