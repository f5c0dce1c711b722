//! The queues of the bus, and the decision which member of a group receives which message. Pure.
//!
//! A group has one queue in the order of publishing. A member receives messages as it has room. While a member holds
//! a message of a key, only it receives further messages of this key, so that two members keep the order of a key.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use tokio::sync::watch;

use super::error::BusError;
use super::pattern::Pattern;
use super::stats::GroupStats;
use super::subscribe::Overflow;
use crate::consume::{Answer, Content, Key, Settle};
use crate::hashing::NumberMap;

/// The number of a message in a group.
pub(super) type Number = u64;
/// The number of a member in the bus.
pub(super) type MemberId = u64;

/// A queued message. All groups, members and consumers share its content.
#[derive(Clone, Debug)]
pub(super) struct Queued {
    pub content: Arc<Content>,
    /// How many times a member received the message before.
    pub redeliveries: u32,
    /// Dropped when the message is handled.
    pub _ticket: Option<Arc<watch::Sender<()>>>,
}

#[derive(Debug)]
pub(super) struct Group {
    pub pattern: Pattern,
    pub capacity: usize,
    pub overflow: Overflow,
    last: Number,
    /// In the order of their numbers.
    pub waiting: VecDeque<(Number, Queued)>,
    /// Messages that a member has received and not settled.
    held: NumberMap<Number, (MemberId, Queued)>,
    /// The keys of held messages: their member, and how many it holds.
    keys: HashMap<Key, (MemberId, usize)>,
    pub members: BTreeMap<MemberId, Member>,
    /// Messages that the queue dropped because it was full.
    pub dropped: u64,
}

/// One subscription of a group.
#[derive(Debug, Default)]
pub(super) struct Member {
    pub room: usize,
    pub waker: Option<Waker>,
}

impl Group {
    pub(super) fn new(pattern: Pattern, capacity: usize, overflow: Overflow) -> Self {
        Self {
            pattern,
            capacity,
            overflow,
            last: 0,
            waiting: VecDeque::new(),
            held: NumberMap::default(),
            keys: HashMap::new(),
            members: BTreeMap::new(),
            dropped: 0,
        }
    }

    pub(super) fn stats(&self, name: &str) -> GroupStats {
        GroupStats {
            group: name.to_owned(),
            waiting: self.waiting.len() as u64,
            held: self.held.len() as u64,
            members: self.members.len() as u64,
            dropped: self.dropped,
        }
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= self.capacity
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.held.is_empty()
    }

    /// Queues a message. Returns the oldest one if the queue dropped it.
    fn push(&mut self, queued: Queued) -> Option<Queued> {
        // Only a queue that drops its oldest message is full here.
        let oldest = if self.is_full() { self.waiting.pop_front() } else { None };
        self.dropped += u64::from(oldest.is_some());
        self.last += 1;
        self.waiting.push_back((self.last, queued));
        oldest.map(|(_, queued)| queued)
    }

    /// Returns the messages for a member, in their order: as many as it has room for.
    pub(super) fn take(&mut self, member: MemberId) -> Vec<(Number, Queued)> {
        let room = self.members.get(&member).map_or(0, |member| member.room);
        let (mut taken, mut skipped) = (Vec::new(), Vec::new());
        while taken.len() < room {
            let Some((number, queued)) = self.waiting.pop_front() else { break };
            let content = &queued.content;
            if !content.key.is_empty() {
                match self.keys.get_mut(&*content.key) {
                    Some((owner, _)) if *owner != member => {
                        skipped.push((number, queued));
                        continue;
                    }
                    Some((_, held)) => *held += 1,
                    None => drop(self.keys.insert(Key::of(content), (member, 1))),
                }
            }
            self.held.insert(number, (member, queued.clone()));
            taken.push((number, queued));
        }
        skipped.into_iter().rev().for_each(|queued| self.waiting.push_front(queued));
        if let Some(member) = self.members.get_mut(&member) {
            member.room -= taken.len();
        }
        taken
    }

    /// Settles a message that a member received. Returns the message if it is handled.
    pub(super) fn settle(
        &mut self,
        member: MemberId,
        number: Number,
        how: Settle,
    ) -> (Answer, Option<Queued>) {
        if self.held.get(&number).is_none_or(|(owner, _)| *owner != member) {
            return (Answer::Late, None);
        }
        let Some((_, queued)) = self.held.remove(&number) else { return (Answer::Late, None) };
        self.release(&queued.content.key);
        match how {
            Settle::Done => (Answer::Taken, Some(queued)),
            Settle::Back => {
                let redeliveries = queued.redeliveries.saturating_add(1);
                let place = self.waiting.partition_point(|(earlier, _)| *earlier < number);
                self.waiting.insert(place, (number, Queued { redeliveries, ..queued }));
                (Answer::Taken, None)
            }
        }
    }

    /// Forgets that a member holds a message of this key.
    fn release(&mut self, key: &str) {
        let Some((_, held)) = self.keys.get_mut(key) else { return };
        *held = held.saturating_sub(1);
        if *held == 0 {
            self.keys.remove(key);
        }
    }

    /// Removes a member. The messages that it holds wait again, at their old places.
    pub(super) fn leave(&mut self, member: MemberId) {
        self.members.remove(&member);
        let held = self.held.iter().filter(|(_, (owner, _))| *owner == member);
        for number in held.map(|(number, _)| *number).collect::<Vec<_>>() {
            let _returned = self.settle(member, number, Settle::Back);
        }
    }

    /// Returns the wakers of the members, which may have something to take.
    pub(super) fn wakers(&mut self) -> impl Iterator<Item = Waker> {
        self.members.values_mut().filter_map(|member| member.waker.take())
    }
}

/// The groups of a bus.
#[derive(Debug, Default)]
pub(super) struct Groups {
    pub groups: BTreeMap<String, Group>,
    pub last_member: MemberId,
    pub closed: bool,
    waits: Waits,
}

/// Publishers that wait for room, and operators that wait for the end.
#[derive(Debug, Default)]
struct Waits {
    last: u64,
    wakers: BTreeMap<u64, Waker>,
}

/// The answer to a message.
pub(super) enum Pushed {
    /// It is in the queue of every group whose pattern matches. Also the members to wake, and the messages that
    /// queues dropped for it. The caller drops both outside of the lock.
    Taken(Vec<Waker>, Vec<Queued>),
    /// A queue is full: the publisher waits.
    Wait(Arc<Content>),
}

impl Groups {
    /// Puts a message into the queue of every group whose pattern matches, or into none.
    pub(super) fn push(
        &mut self,
        content: Arc<Content>,
        ticket: Option<&Arc<watch::Sender<()>>>,
    ) -> Result<Pushed, BusError> {
        if self.closed {
            return Err(BusError::Closed);
        }
        let mut wait = false;
        let meant = |group: &Group| group.pattern.matches(&content.topic);
        for (name, group) in self.groups.iter().filter(|(_, group)| meant(group) && group.is_full())
        {
            match group.overflow {
                Overflow::Refuse => {
                    let (group, capacity) = (name.clone(), group.capacity);
                    return Err(BusError::Full { group, capacity });
                }
                Overflow::Block => wait = true,
                Overflow::DropOldest => {}
            }
        }
        if wait {
            return Ok(Pushed::Wait(content));
        }
        let (mut wakers, mut dropped) = (Vec::new(), Vec::new());
        for group in self.groups.values_mut().filter(|group| meant(group)) {
            let content = content.clone();
            let queued = Queued { content, redeliveries: 0, _ticket: ticket.cloned() };
            dropped.extend(group.push(queued));
            wakers.extend(group.wakers());
        }
        Ok(Pushed::Taken(wakers, dropped))
    }

    /// Registers a publisher that waits for room, or an operator that waits for the end. Returns its number: `known`,
    /// if it has one.
    pub(super) fn wait(&mut self, known: Option<u64>, waker: &Waker) -> u64 {
        let number = known.unwrap_or_else(|| {
            self.waits.last += 1;
            self.waits.last
        });
        self.waits.wakers.insert(number, waker.clone());
        number
    }

    /// Forgets waiters that do not wait any more.
    pub(super) fn forget(&mut self, number: u64) -> Option<Waker> {
        self.waits.wakers.remove(&number)
    }

    /// Returns the wakers of everything that waits for room or for the end.
    pub(super) fn waiters(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.waits.wakers).into_values().collect()
    }

    /// Returns `true` once the groups with members have nothing left.
    pub(super) fn is_drained(&self) -> bool {
        self.groups.values().all(|group| group.members.is_empty() || group.is_empty())
    }

    /// Returns how many messages wait or are held.
    pub(super) fn left(&self) -> usize {
        self.groups.values().map(|group| group.waiting.len() + group.held.len()).sum()
    }
}
