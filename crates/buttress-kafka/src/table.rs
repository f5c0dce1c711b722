//! [`Table`]: the partitions that a member owns, and the messages of each that are not settled. Pure: takes `now`.
//!
//! The position of a partition is its lowest offset that is not handled. Only a position is committed, so a crash
//! repeats messages and loses none.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use buttress_durable::consume::{Answer, Settle};

#[cfg(test)]
mod tests;

/// The most messages of all partitions that wait here for room.
const AHEAD: usize = 256;
/// The most bytes of them. One message may be larger.
const AHEAD_BYTES: usize = 8 << 20;

/// The token that settles one delivery. It carries the assignment of the partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token {
    pub(crate) partition: i32,
    epoch: u64,
    pub(crate) offset: i64,
}

/// The state of a message of this assignment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// It waits here for room.
    Waiting,
    /// The consumer has it.
    Out,
    /// The consumer has returned it. The next owner of the partition begins with it.
    Back,
    /// It is handled.
    Done,
}

#[derive(Debug)]
struct Partition<M> {
    epoch: u64,
    /// The offset behind the last message that came.
    next: Option<i64>,
    committed: Option<i64>,
    /// The messages in the order of their offsets, beginning with the lowest one that is not handled.
    window: VecDeque<(i64, Stage)>,
    waiting: VecDeque<(i64, M, usize)>,
    /// How many messages the consumer has.
    out: usize,
    /// Until when a revoked partition waits for messages that are being handled.
    leaves: Option<Instant>,
}

/// The messages that are handed out together.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Handed<M> {
    pub messages: Vec<(Token, M)>,
    pub revoked: Vec<i32>,
    pub lost: u64,
}

#[derive(Debug)]
pub(crate) struct Table<M> {
    /// The most messages of a partition from the lowest one that is not handled on.
    longest: usize,
    /// How many further messages the consumer takes, and the largest number so far.
    room: usize,
    capacity: usize,
    partitions: BTreeMap<i32, Partition<M>>,
    /// Partitions that are gone, and not yet reported to the consumer.
    revoked: Vec<i32>,
    /// The partition that hands out first.
    turn: i32,
    epoch: u64,
    bytes: usize,
    /// Messages that the topic has lost, and that are not yet reported to the consumer.
    lost: u64,
}

impl<M> Table<M> {
    /// Creates a table without partitions. `longest` is the window of each.
    pub(crate) fn new(longest: usize) -> Self {
        Self {
            longest,
            room: 0,
            capacity: 0,
            partitions: BTreeMap::new(),
            revoked: Vec::new(),
            turn: 0,
            epoch: 0,
            bytes: 0,
            lost: 0,
        }
    }

    /// Takes in the room of the consumer. Returns `true` if it has grown.
    pub(crate) fn want(&mut self, room: usize) -> bool {
        let grows = room > self.room;
        self.room = room;
        self.capacity = self.capacity.max(room);
        grows
    }

    /// Records that partitions are owned, from now on in a new epoch.
    pub(crate) fn assign(&mut self, partitions: &[i32]) {
        self.remove(partitions);
        for partition in partitions {
            self.begin(*partition);
        }
    }

    fn begin(&mut self, partition: i32) {
        self.epoch += 1;
        let (window, waiting) = (VecDeque::new(), VecDeque::new());
        let fresh = Partition {
            epoch: self.epoch,
            next: None,
            committed: None,
            window,
            waiting,
            out: 0,
            leaves: None,
        };
        self.partitions.insert(partition, fresh);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// Returns how many further messages of a partition may come.
    pub(crate) fn room(&self, partition: i32) -> usize {
        let ahead = AHEAD.div_ceil(self.partitions.len().max(1));
        match self.partitions.get(&partition) {
            Some(owned) if owned.leaves.is_none() => {
                let window = self.longest.saturating_sub(owned.window.len());
                // One message that waits does not count, so that each partition has one to hand out.
                let full = self.bytes >= AHEAD_BYTES && !owned.waiting.is_empty();
                let ahead = if full { 0 } else { ahead.saturating_sub(owned.waiting.len()) };
                window.min(ahead)
            }
            _ => 0,
        }
    }

    /// Returns the offset behind the last message of a partition that came, if it is owned and one came.
    pub(crate) fn next(&self, partition: i32) -> Option<i64> {
        self.partitions.get(&partition).and_then(|owned| owned.next)
    }

    /// Records that the messages from `from` to `first` are lost: the partition begins with `first` now.
    pub(crate) fn lose(&mut self, from: i64, first: i64) {
        self.lost += u64::try_from(first.saturating_sub(from)).unwrap_or(0);
    }

    /// Takes in a message that came. `size` is its size in bytes.
    ///
    /// An offset below an earlier one means that the broker has lost the end of its log: other messages have these
    /// offsets now.
    pub(crate) fn come(&mut self, partition: i32, offset: i64, message: M, size: usize) {
        if self.next(partition).is_some_and(|next| offset < next) {
            self.assign(&[partition]);
        }
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        if owned.leaves.is_some() {
            return;
        }
        owned.committed.get_or_insert(offset);
        owned.next = Some(offset + 1);
        owned.window.push_back((offset, Stage::Waiting));
        owned.waiting.push_back((offset, message, size));
        self.bytes = self.bytes.saturating_add(size);
    }

    /// Returns the messages that there is room for, in equal parts from each partition, and the revoked partitions.
    /// `None` if there is neither.
    pub(crate) fn hand_out(&mut self) -> Option<Handed<M>> {
        let share = self.capacity.div_ceil(self.partitions.len().max(1));
        let mut messages = Vec::new();
        let (later, sooner): (Vec<i32>, Vec<i32>) =
            self.partitions.keys().partition(|partition| **partition < self.turn);
        let mut left = sooner;
        left.extend(later);
        while self.room > 0 && !left.is_empty() {
            left.retain(|partition| {
                let Some(owned) = self.partitions.get_mut(partition) else { return false };
                if self.room == 0 || owned.out >= share {
                    return false;
                }
                let Some((offset, message, size)) = owned.waiting.pop_front() else { return false };
                owned.set(offset, Stage::Out);
                owned.out += 1;
                self.room -= 1;
                self.bytes = self.bytes.saturating_sub(size);
                self.turn = partition + 1;
                messages
                    .push((Token { partition: *partition, epoch: owned.epoch, offset }, message));
                true
            });
        }
        let (revoked, lost) = (std::mem::take(&mut self.revoked), std::mem::take(&mut self.lost));
        let is_any = !messages.is_empty() || !revoked.is_empty() || lost > 0;
        is_any.then_some(Handed { messages, revoked, lost })
    }

    /// Takes in how a delivery ended. A repetition has no further effect.
    pub(crate) fn settle(&mut self, token: Token, how: Settle) -> Answer {
        let current = |owned: &&mut Partition<M>| owned.epoch == token.epoch;
        let Some(owned) = self.partitions.get_mut(&token.partition).filter(current) else {
            return Answer::Late;
        };
        let Some(stage) = owned.stage(token.offset) else { return Answer::Taken };
        if stage == Stage::Out {
            owned.out = owned.out.saturating_sub(1);
        }
        match (stage, how) {
            (Stage::Out | Stage::Back, Settle::Done) => owned.set(token.offset, Stage::Done),
            (Stage::Out, Settle::Back) => owned.set(token.offset, Stage::Back),
            (Stage::Done | Stage::Waiting | Stage::Back, _) => {}
        }
        while owned.window.front().is_some_and(|(_, stage)| *stage == Stage::Done) {
            owned.window.pop_front();
        }
        Answer::Taken
    }

    /// Returns the positions that have moved since they were committed.
    pub(crate) fn positions(&self) -> Vec<(i32, i64)> {
        let moved = self.partitions.iter().filter_map(|(partition, owned)| {
            let position = owned.window.front().map(|(offset, _)| *offset).or(owned.next)?;
            (owned.committed != Some(position)).then_some((*partition, position))
        });
        moved.collect()
    }

    /// Records that the broker has these positions.
    pub(crate) fn committed(&mut self, positions: &[(i32, i64)]) {
        for (partition, position) in positions {
            if let Some(owned) = self.partitions.get_mut(partition) {
                owned.committed = Some(*position);
            }
        }
    }

    /// Stops to hand out of these partitions, and waits until `until` for messages that are being handled.
    pub(crate) fn leave(&mut self, partitions: &[i32], until: Instant) {
        for partition in partitions {
            let Some(owned) = self.partitions.get_mut(partition) else { continue };
            owned.leaves = Some(until);
            let waiting = owned.waiting.drain(..).map(|(_, _, size)| size);
            self.bytes = self.bytes.saturating_sub(waiting.sum());
        }
    }

    /// Returns `true` if no message of a partition that [leaves](Self::leave) is being handled, or its time is over.
    pub(crate) fn has_left(&self, now: Instant) -> bool {
        let stays =
            |owned: &Partition<M>| owned.leaves.is_some_and(|until| owned.out > 0 && now < until);
        !self.partitions.values().any(stays)
    }

    /// Records that partitions are not owned any more. The next [`hand_out`](Self::hand_out) says so.
    pub(crate) fn remove(&mut self, partitions: &[i32]) {
        for partition in partitions {
            if let Some(owned) = self.partitions.remove(partition) {
                let waiting = owned.waiting.iter().map(|(_, _, size)| size);
                self.bytes = self.bytes.saturating_sub(waiting.sum());
                self.revoked.push(*partition);
            }
        }
    }
}

impl<M> Partition<M> {
    fn stage(&self, offset: i64) -> Option<Stage> {
        let at = self.window.binary_search_by_key(&offset, |(offset, _)| *offset).ok()?;
        self.window.get(at).map(|(_, stage)| *stage)
    }

    fn set(&mut self, offset: i64, stage: Stage) {
        let at = self.window.binary_search_by_key(&offset, |(offset, _)| *offset);
        if let Some(entry) = at.ok().and_then(|at| self.window.get_mut(at)) {
            entry.1 = stage;
        }
    }
}
