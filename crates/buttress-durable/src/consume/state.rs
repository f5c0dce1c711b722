//! The messages that a consumer holds, in lanes. Pure: takes `now`. `state/verdict.rs` decides between another attempt and
//! a dead letter.
//!
//! A lane has the messages of one key. Its head runs, rests before another attempt, or waits for a dead letter to be
//! written; the others wait. A handled message leaves its lane immediately and is settled later, in order. After a dead
//! letter the lane stands still until the letter is written and the transport has answered.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::content::{Content, Key};
use super::letter::{Letter, Reason, Replay, ReplayId};
use super::source::{Batch, Place, Received, Settle, Shard};
use crate::hashing::NumberMap;
use entry::Entry;
pub(super) use entry::{
    Ask, Became, Burial, Ends, EntryId, Hold, LaneKey, Origin, Outcome, Stage, Stop, Work,
};

mod entry;
mod lane;
mod settling;
#[cfg(all(test, not(buttress_loom)))]
mod tests;
mod verdict;

use lane::{Behind, Gate, Lane};

/// The configured numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// The most handlers that run concurrently.
    pub concurrency: usize,
    /// The most messages that are held, without those that are held besides.
    pub capacity: usize,
    /// The most messages, and the most bytes, that are held besides: they wait behind another one of their key.
    pub behind: usize,
    pub behind_bytes: usize,
    /// The attempts before a dead letter.
    pub attempts: u32,
    /// The redeliveries, as the transport counts them, before a dead letter.
    pub most_redeliveries: u32,
    /// The longest hint that is followed.
    pub max_hint: Duration,
    /// The longest rest between two attempts.
    pub hold: Option<Duration>,
    /// Whether messages of one key are handled in order.
    pub by_key: bool,
    /// Whether a dead letter holds its key.
    pub park: bool,
}

/// The effects of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Took {
    /// Messages that are new.
    pub new: usize,
    /// Messages that were held already: their tokens were replaced.
    pub joined: usize,
    /// Messages of revoked shards that were forgotten.
    pub forgotten: usize,
}

#[derive(Debug)]
pub(super) struct Lanes<T> {
    rules: Rules,
    entries: NumberMap<EntryId, Entry<T>>,
    lanes: HashMap<LaneKey, Lane>,
    /// Lanes whose head may start, in the order in which they became ready.
    ready: VecDeque<LaneKey>,
    resting: BTreeSet<(Instant, EntryId)>,
    places: HashMap<(Shard, Place), EntryId>,
    /// Letters to write and to remove.
    writes: VecDeque<Work>,
    /// Claims on letters that were returned unhandled.
    released: Vec<Replay>,
    /// Keys at which replays stop.
    stops: Vec<Stop>,
    /// Messages to report to the transport, in this order.
    settles: VecDeque<EntryId>,
    /// The messages of the settle call in progress.
    telling: Vec<(EntryId, Settle)>,
    behind: Behind,
    running: usize,
    last: EntryId,
    asked: Ask,
    ends: Ends,
    paused: bool,
    draining: bool,
}

impl<T: Clone> Lanes<T> {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            entries: NumberMap::default(),
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            resting: BTreeSet::new(),
            places: HashMap::new(),
            writes: VecDeque::new(),
            released: Vec::new(),
            stops: Vec::new(),
            settles: VecDeque::new(),
            telling: Vec::new(),
            behind: Behind::default(),
            running: 0,
            last: 0,
            asked: 0,
            ends: Ends::default(),
            paused: false,
            draining: false,
        }
    }

    /// Returns how many further messages there is room for.
    pub(super) fn room(&self) -> usize {
        if self.paused || self.draining {
            return 0;
        }
        let besides = self.behind.besides(self.rules.behind, self.rules.behind_bytes);
        self.rules.capacity.saturating_sub(self.entries.len().saturating_sub(besides))
    }

    pub(super) fn held(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// Returns when the next resting message has its next attempt.
    pub(super) fn next_attempt(&self) -> Option<Instant> {
        self.resting.first().map(|(at, _)| *at)
    }

    pub(super) fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Takes in the messages that the source delivered, and the shards that it revoked.
    pub(super) fn receive(&mut self, batch: Batch<T>) -> Took {
        let mut took = Took::default();
        for shard in batch.revoked {
            took.forgotten += self.revoke(shard);
        }
        for received in batch.messages {
            if self.joins(&received) {
                took.joined += 1;
                continue;
            }
            took.new += 1;
            let Received { token, shard, place, redeliveries, content } = received;
            let redeliveries = redeliveries.unwrap_or(0);
            let origin = Origin::Delivered { token, shard, place, redeliveries };
            self.add(origin, content);
        }
        took
    }

    /// Takes in a letter that `claim` has claimed for a replay.
    pub(super) fn replay(&mut self, claim: ReplayId, letter: Letter) {
        let Letter { id, key, topic, payload, headers, replays, reason, attempts, .. } = letter;
        let claimed = Replay::new(claim, id);
        if self.claims_again(claimed) {
            return;
        }
        let origin = Origin::Letter { replay: claimed, replays };
        self.add(origin, Arc::new(Content { key, topic, payload, headers }));
        // A letter that only waited for its time continues with its attempts.
        if let (Reason::Delayed, Some(entry)) = (reason, self.entries.get_mut(&self.last)) {
            entry.attempts = attempts;
        }
    }

    /// Replaces the claim on a letter that is held already. A letter that is being written is about to be forgotten: its
    /// new claim is held behind it.
    fn claims_again(&mut self, claimed: Replay) -> bool {
        let held = self.entries.values_mut().find_map(|entry| match &mut entry.origin {
            Origin::Letter { replay, .. }
                if replay.letter == claimed.letter && entry.stage != Stage::Writing =>
            {
                Some((replay, &mut entry.turn, &mut entry.gone))
            }
            _ => None,
        });
        let Some((replay, turn, gone)) = held else { return false };
        *replay = claimed;
        *turn = turn.wrapping_add(1);
        *gone = false;
        true
    }

    /// Replaces the token of a message that is held already.
    fn joins(&mut self, received: &Received<T>) -> bool {
        let Some(place) = &received.place else { return false };
        let Some(id) = self.places.get(&(received.shard, place.clone())) else { return false };
        let Some(entry) = self.entries.get_mut(id) else { return false };
        // The place of a message that the transport has lost, or a place that is not unique: another message.
        if !entry.content.is_of(&received.content) {
            return false;
        }
        if let Origin::Delivered { token, .. } = &mut entry.origin {
            *token = received.token.clone();
            entry.turn = entry.turn.wrapping_add(1);
        }
        entry.gone = false;
        entry.renewed = self.telling.iter().any(|(told, _)| told == id);
        true
    }

    fn add(&mut self, origin: Origin<T>, content: Arc<Content>) {
        self.last += 1;
        let id = self.last;
        let ordered = self.rules.by_key && !content.key.is_empty();
        let lane = if ordered { LaneKey::Key(Key::of(&content)) } else { LaneKey::One(id) };
        let entry = Entry {
            origin,
            content,
            lane: lane.clone(),
            stage: Stage::Waiting,
            attempts: 0,
            refusals: 0,
            gone: false,
            turn: 0,
            renewed: false,
            holds_lane: false,
        };
        if let Some(position) = entry.position() {
            self.places.insert(position, id);
        }
        self.entries.insert(id, entry);
        if self.draining {
            return self.give_back(id);
        }
        let gate = if self.rules.park && ordered { Gate::Unknown } else { Gate::Open };
        let waits = self.lanes.entry(lane.clone()).or_insert_with(|| Lane::new(gate));
        let is_new = waits.queue.is_empty();
        waits.queue.push_back(id);
        if is_new {
            self.ready.push_back(lane);
        } else if let Some(entry) = self.entries.get(&id) {
            self.behind.add(&entry.content);
        }
    }

    /// Lets the messages whose rest is over try again.
    pub(super) fn wake(&mut self, now: Instant) {
        while let Some((at, id)) = self.resting.first().copied().filter(|(at, _)| *at <= now) {
            self.resting.remove(&(at, id));
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.stage = Stage::Waiting;
                self.ready.push_back(entry.lane.clone());
            }
        }
    }

    /// Returns the next step, if one may begin.
    pub(super) fn next(&mut self) -> Option<Work> {
        if let Some(write) = self.writes.pop_front() {
            return Some(write);
        }
        while !self.paused && !self.draining && self.running < self.rules.concurrency {
            let lane = self.ready.pop_front()?;
            if let Some(work) = self.begin(&lane) {
                return Some(work);
            }
        }
        None
    }

    /// Begins with the head of a lane.
    fn begin(&mut self, key: &LaneKey) -> Option<Work> {
        let lane = self.lanes.get_mut(key)?;
        let id = *lane.queue.front()?;
        let entry = self.entries.get_mut(&id)?;
        let (replays, redeliveries) = match &entry.origin {
            Origin::Delivered { redeliveries, .. } => (0, *redeliveries),
            Origin::Letter { replays, .. } => (*replays, 0),
        };
        let delivered = matches!(entry.origin, Origin::Delivered { .. });
        if let (LaneKey::Key(key), Gate::Unknown, true) = (key, lane.gate, delivered) {
            self.asked += 1;
            lane.gate = Gate::Asking(self.asked);
            return Some(Work::Ask { key: key.clone(), ask: self.asked });
        }
        if redeliveries >= self.rules.most_redeliveries {
            let error = format!("delivered {redeliveries} times before, and no delivery ended");
            self.bury(id, Reason::Poison, error, None);
            return self.writes.pop_front();
        }
        entry.stage = Stage::Running;
        self.running += 1;
        let attempt = entry.attempts.saturating_add(1);
        Some(Work::Handle { id, content: entry.content.clone(), attempt, replays })
    }

    /// Takes in whether dead letters hold a key.
    pub(super) fn asked(&mut self, key: &Key, ask: Ask, held: bool) {
        let key = LaneKey::Key(key.clone());
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        if lane.gate != Gate::Asking(ask) {
            return;
        }
        lane.gate = if held { Gate::Unknown } else { Gate::Open };
        let head = lane.queue.front().copied();
        // A letter that is replayed is not behind itself.
        let is_letter = |id: &EntryId| {
            let entry = self.entries.get(id);
            entry.is_some_and(|entry| matches!(entry.origin, Origin::Letter { .. }))
        };
        match head.filter(|id| !is_letter(id)) {
            Some(id) if held => {
                self.bury(id, Reason::Parked, "an earlier dead letter holds the key".into(), None);
            }
            _ => self.ready.push_back(key),
        }
    }
}
