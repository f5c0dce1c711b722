//! One lane, and the messages that leave it.

use std::collections::{VecDeque, hash_map};

use super::entry::{Ask, EntryId, LaneKey, Stage};
use super::{Lanes, Shard};
use crate::consume::content::Content;

/// The messages of one key, in the order of their delivery.
#[derive(Debug)]
pub(super) struct Lane {
    pub queue: VecDeque<EntryId>,
    pub gate: Gate,
}

impl Lane {
    pub(super) fn new(gate: Gate) -> Self {
        Self { queue: VecDeque::new(), gate }
    }
}

/// What a message has left: whether it was the head of its lane, and whether the lane is empty now.
#[derive(Clone, Copy)]
struct Left {
    was_head: bool,
    is_empty: bool,
}

/// The messages that wait behind another one of their key. They cannot start, whatever room there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Behind {
    messages: usize,
    bytes: usize,
}

impl Behind {
    pub(super) fn add(&mut self, content: &Content) {
        self.messages += 1;
        self.bytes += content.bytes();
    }

    fn remove(&mut self, content: &Content) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(content.bytes());
    }

    /// Returns how many of them are held besides the capacity: up to a number of messages and of bytes.
    pub(super) fn besides(&self, messages: usize, bytes: usize) -> usize {
        let mean = (self.bytes / self.messages.max(1)).max(1);
        self.messages.min(messages).min(bytes / mean)
    }
}

/// Whether dead letters hold the key of a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Gate {
    Open,
    /// The store has to be asked before the next message is handled.
    Unknown,
    /// The answer to this question counts, and no earlier one.
    Asking(Ask),
}

impl<T: Clone> Lanes<T> {
    /// Takes the head out of its lane, and lets the next message begin.
    pub(super) fn advance(&mut self, id: EntryId) {
        let Some(entry) = self.entries.get(&id) else { return };
        let key = entry.lane.clone();
        if let Some(Left { was_head: true, is_empty: false }) = self.take_out(&key, id) {
            self.ready.push_back(key);
        }
    }

    /// Takes a message out of the queue of its lane, and removes an empty lane. `None` if there is no such lane.
    fn take_out(&mut self, key: &LaneKey, id: EntryId) -> Option<Left> {
        let hash_map::Entry::Occupied(mut lane) = self.lanes.entry(key.clone()) else {
            return None;
        };
        let queue = &mut lane.get_mut().queue;
        let was_head = queue.front() == Some(&id);
        let left = if was_head {
            queue.pop_front();
            // The next message is the head, and not behind another one any more.
            queue.front().copied()
        } else {
            let place = queue.iter().position(|other| *other == id);
            place.and_then(|place| queue.remove(place))
        };
        let is_empty = queue.is_empty();
        if is_empty {
            lane.remove();
        }
        if let Some(entry) = left.and_then(|left| self.entries.get(&left)) {
            self.behind.remove(&entry.content);
        }
        Some(Left { was_head, is_empty })
    }

    /// Removes a message without telling the transport.
    pub(super) fn forget(&mut self, id: EntryId) {
        self.advance(id);
        self.remove(id);
    }

    pub(super) fn remove(&mut self, id: EntryId) {
        let Some(entry) = self.entries.remove(&id) else { return };
        let place = entry.position().map(|position| self.places.entry(position));
        if let Some(hash_map::Entry::Occupied(place)) = place {
            // A later delivery of the message may have its place by now.
            if *place.get() == id {
                place.remove();
            }
        }
        if let Stage::Resting(at) = entry.stage {
            self.resting.remove(&(at, id));
        }
    }

    /// Forgets the messages of a shard that wait, and marks those in progress. Returns how many it forgot.
    pub(super) fn revoke(&mut self, shard: Shard) -> usize {
        let of_shard = self.entries.iter().filter(|(_, entry)| entry.shard() == Some(shard));
        let mut ids: Vec<EntryId> = of_shard.map(|(id, _)| *id).collect();
        // The last of a lane first, so that no head moves up that is about to leave too.
        ids.sort_unstable_by(|one, other| other.cmp(one));
        ids.into_iter().filter(|id| self.lose(*id)).count()
    }

    /// Forgets a message that another consumer owns by now, unless it is in progress. Returns whether it was forgotten.
    pub(super) fn lose(&mut self, id: EntryId) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        match entry.stage {
            Stage::Waiting | Stage::Resting(_) => {
                self.drop_waiting(id);
                true
            }
            Stage::Running | Stage::Writing => {
                entry.gone = true;
                false
            }
            // The transport answers `Late` if the token is not valid any more.
            Stage::Settling(_) => false,
        }
    }

    /// Removes a message that waits or rests.
    fn drop_waiting(&mut self, id: EntryId) {
        self.leave_lane(id);
        self.remove(id);
    }

    /// Takes a message that waits or rests out of its lane. The lane continues with the next message.
    pub(super) fn leave_lane(&mut self, id: EntryId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let (key, stage) = (entry.lane.clone(), entry.stage);
        entry.stage = Stage::Waiting;
        if let Stage::Resting(at) = stage {
            self.resting.remove(&(at, id));
        }
        match self.take_out(&key, id) {
            Some(Left { is_empty: true, .. }) => self.ready.retain(|ready| *ready != key),
            Some(Left { was_head: true, .. }) if matches!(stage, Stage::Resting(_)) => {
                self.ready.push_back(key);
            }
            _ => {}
        }
    }

    /// Returns whether every lane has messages, and is ready at most once, and whether the others are counted.
    #[cfg(all(test, not(buttress_loom)))]
    pub(super) fn is_consistent(&self) -> bool {
        let behind = self.lanes.values().flat_map(|lane| lane.queue.iter().skip(1));
        let mut counted = Behind::default();
        behind.filter_map(|id| self.entries.get(id)).for_each(|it| counted.add(&it.content));
        let ready_once =
            |key: &LaneKey| self.ready.iter().filter(|ready| *ready == key).count() <= 1;
        self.lanes.iter().all(|(key, lane)| {
            let known = lane.queue.iter().all(|id| self.entries.contains_key(id));
            !lane.queue.is_empty() && known && ready_once(key)
        }) && counted == self.behind
            && self.ready.iter().all(|key| self.lanes.contains_key(key))
    }
}
