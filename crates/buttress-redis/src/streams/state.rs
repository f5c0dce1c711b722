//! The leases of a source on its shards, and the decision about the next step. Pure: takes `now`.
//!
//! A source reads a shard only while it has the shard's lease. Each lease has an epoch, which the scripts of Redis
//! check. After a take-over the source first claims the entries that are pending, in their order, and only then reads
//! new ones. Members of a group share the shards: a member with more than its share hands shards over. It stops to
//! read such a shard, and releases it when everything of it is settled.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use buttress_durable::consume::Settle;

use super::entry_id::EntryId;
use held::Held;
pub(super) use steps::{Ask, Claim, Page, Read, Seen, Step, Token};

mod held;
mod steps;
#[cfg(test)]
mod tests;

/// The configured numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// How long a lease holds after its last renewal.
    pub lease: Duration,
    /// How often the member renews leases and looks for free shards.
    pub every: Duration,
    /// How long a shard that is handed over waits for its messages.
    pub handover: Duration,
    /// How many entries wait in the source.
    pub ahead: usize,
    /// How many bytes wait in the source before it reads one entry at a time.
    pub bytes: usize,
}

/// The shards of a group as one member sees them. `E` is an entry that was read.
#[derive(Debug)]
pub(super) struct Leases<E> {
    rules: Rules,
    shards: Vec<Option<Held>>,
    /// Free shards at the last tick.
    free: BTreeSet<usize>,
    share: usize,
    last_epoch: u64,
    next_tick: Instant,
    buffer: VecDeque<(Token, E)>,
    /// The bytes of the buffered entries.
    buffered: usize,
    /// The mean size of the entries that were read last.
    mean: usize,
    room: usize,
    revoked: Vec<usize>,
    lost: u64,
    /// The shard that is read first next time.
    first: usize,
    /// Whether a read is in progress.
    reading: bool,
}

impl<E> Leases<E> {
    pub(super) fn new(rules: Rules, shards: usize, now: Instant) -> Self {
        Self {
            rules,
            shards: (0..shards).map(|_| None).collect(),
            free: BTreeSet::new(),
            share: 0,
            last_epoch: 0,
            next_tick: now,
            buffer: VecDeque::new(),
            buffered: 0,
            mean: 0,
            room: 0,
            revoked: Vec::new(),
            lost: 0,
            first: 0,
            reading: false,
        }
    }

    /// Sets for how many further messages the consumer has room.
    pub(super) fn want(&mut self, room: usize) {
        self.room = room;
    }

    /// Returns the next thing to do.
    pub(super) fn next(&mut self, now: Instant) -> Step<E> {
        self.expire(now);
        if (self.room > 0 && !self.buffer.is_empty()) || !self.revoked.is_empty() || self.lost > 0 {
            return self.deliver();
        }
        if self.next_tick <= now {
            return Step::Tick(self.claims());
        }
        if let Some(claim) = self.release(now) {
            return Step::Release(claim);
        }
        if let Some(claim) = self.take() {
            return Step::Take(claim);
        }
        let reads = self.reads();
        if !reads.is_empty() {
            return Step::Read(reads);
        }
        Step::Wait { until: self.wakes_at(), after: self.idle() }
    }

    /// Returns whether leases must be renewed by now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next_tick <= now
    }

    fn deliver(&mut self) -> Step<E> {
        let count = self.room.min(self.buffer.len());
        self.room -= count;
        let entries: Vec<_> = self.buffer.drain(..count).collect();
        for (token, _) in &entries {
            self.buffered = self.buffered.saturating_sub(token.size);
        }
        let (revoked, lost) = (std::mem::take(&mut self.revoked), std::mem::take(&mut self.lost));
        Step::Deliver { entries, revoked, lost }
    }

    /// Forgets the shards whose leases have ended by the clock of this process.
    fn expire(&mut self, now: Instant) {
        for shard in 0..self.shards.len() {
            if self.held(shard).is_some_and(|held| held.until <= now) {
                self.revoke(shard);
            }
        }
    }

    fn revoke(&mut self, shard: usize) {
        let Some(held) = self.shards.get_mut(shard).and_then(Option::take) else { return };
        self.drop_buffered(shard);
        if !held.outstanding.is_empty() {
            self.revoked.push(shard);
        }
    }

    fn drop_buffered(&mut self, shard: usize) {
        let dropped: usize = self.of(shard).map(|token| token.size).sum();
        self.buffered = self.buffered.saturating_sub(dropped);
        self.buffer.retain(|(token, _)| token.shard != shard);
    }

    fn of(&self, shard: usize) -> impl Iterator<Item = &Token> {
        self.buffer.iter().map(|(token, _)| token).filter(move |token| token.shard == shard)
    }

    fn held(&self, shard: usize) -> Option<&Held> {
        self.shards.get(shard)?.as_ref()
    }

    fn held_at(&mut self, claim: Claim) -> Option<&mut Held> {
        let held = self.shards.get_mut(claim.shard)?.as_mut()?;
        (held.epoch == claim.epoch).then_some(held)
    }

    /// Returns the leases that this member holds.
    pub(super) fn claims(&self) -> Vec<Claim> {
        let held = |(shard, held): (usize, &Option<Held>)| {
            held.as_ref().map(|held| Claim { shard, epoch: held.epoch })
        };
        self.shards.iter().enumerate().filter_map(held).collect()
    }

    /// Takes in an answer to `claims`, which were sent at `asked`.
    pub(super) fn ticked(&mut self, asked: Instant, now: Instant, claims: &[Claim], seen: &Seen) {
        for claim in claims {
            let renewed = seen.mine.contains(&claim.shard);
            let until = asked + self.rules.lease;
            match self.held_at(*claim) {
                Some(held) if renewed => held.until = held.until.max(until),
                Some(_) => self.revoke(claim.shard),
                None => {}
            }
        }
        self.free = seen.free.clone();
        self.next_tick = self.next_tick.max(asked + self.rules.every);
        self.share = self.shards.len().div_ceil(seen.members.max(1));
        self.balance(now);
    }

    /// Marks the shards to hand over, or takes such marks back.
    fn balance(&mut self, now: Instant) {
        let (share, until) = (self.share, now + self.rules.handover);
        let mut kept = 0;
        let mut begun = Vec::new();
        for (shard, held) in self.shards.iter_mut().enumerate() {
            let Some(held) = held else { continue };
            if kept < share {
                kept += 1;
                if held.hand_over.take().is_some() {
                    // Entries were dropped from the buffer: they are pending.
                    held.read_again();
                }
            } else if held.hand_over.is_none() {
                held.hand_over = Some(until);
                begun.push(shard);
            }
        }
        for shard in begun {
            let dropped: Vec<_> = self.of(shard).map(|token| token.id).collect();
            self.drop_buffered(shard);
            if let Some(held) = self.shards.get_mut(shard).and_then(Option::as_mut) {
                held.outstanding.retain(|id| !dropped.contains(id));
            }
        }
    }

    /// Returns a shard to release.
    fn release(&mut self, now: Instant) -> Option<Claim> {
        let over = |held: &Held| {
            held.hand_over.is_some_and(|until| held.outstanding.is_empty() || until <= now)
        };
        self.claims().into_iter().find(|claim| self.held(claim.shard).is_some_and(over))
    }

    /// Records that a lease was released.
    pub(super) fn released(&mut self, claim: Claim) {
        if self.held_at(claim).is_some_and(|held| held.outstanding.is_empty()) {
            // Nothing of it is in the consumer, so there is nothing to revoke.
            if let Some(held) = self.shards.get_mut(claim.shard) {
                *held = None;
            }
        } else if self.held_at(claim).is_some() {
            self.revoke(claim.shard);
        }
    }

    /// Returns a lease to take.
    fn take(&mut self) -> Option<Claim> {
        let held = self.shards.iter().flatten().filter(|held| held.hand_over.is_none()).count();
        if held >= self.share {
            return None;
        }
        let shard = self.free.pop_first()?;
        self.last_epoch += 1;
        Some(Claim { shard, epoch: self.last_epoch })
    }

    /// Records that a lease was taken.
    pub(super) fn taken(&mut self, asked: Instant, claim: Claim) {
        if let Some(held) = self.shards.get_mut(claim.shard).filter(|held| held.is_none()) {
            *held = Some(Held::new(claim.epoch, asked + self.rules.lease));
        }
    }

    /// Returns which shards to read, and how much of each: the free places are shared out.
    ///
    /// Idle shards are asked for one entry besides, because nothing waits for their entries meanwhile.
    fn reads(&mut self) -> Vec<Read> {
        let budget = self.rules.bytes.saturating_sub(self.buffered) / self.mean.max(1);
        // A read of a handful of entries would cost as much as a read of many.
        if self.reading || self.buffer.len() > self.rules.ahead / 2 {
            return Vec::new();
        }
        let space = self.rules.ahead.saturating_sub(self.buffer.len());
        // A single entry may be larger than the bound.
        let space = space.min(budget.max(usize::from(self.buffer.is_empty())));
        let shards = self.shards.len();
        let order: Vec<_> = (0..shards).map(|at| (self.first + at) % shards.max(1)).collect();
        let (mut ready, mut idle) = (Vec::new(), Vec::new());
        for shard in order {
            match self.held(shard) {
                Some(held) if held.is_ready() => ready.push(shard),
                Some(held) if held.idle_at().is_some() => idle.push(shard),
                _ => {}
            }
        }
        ready.truncate(space);
        let Some(last) = ready.last() else { return Vec::new() };
        self.first = (last + 1) % shards.max(1);
        let probed = idle.len().min(space - ready.len());
        let count = (space - probed) / ready.len();
        let shares = ready.into_iter().map(|shard| (shard, count));
        let probes = idle.into_iter().take(probed).map(|shard| (shard, 1));
        let mut reads = Vec::new();
        for (shard, count) in shares.chain(probes) {
            let Some(held) = self.shards.get_mut(shard).and_then(Option::as_mut) else { continue };
            let claim = Claim { shard, epoch: held.epoch };
            reads.push(Read { claim, ask: held.begin(), count });
        }
        self.reading = !reads.is_empty();
        reads
    }

    /// Takes in the answers to the reads in progress. `None` says that Redis does not know the lease any more.
    pub(super) fn answered(&mut self, reads: &[Read], pages: Vec<Option<Page<E>>>) {
        self.reading = false;
        for (read, page) in reads.iter().zip(pages) {
            match page {
                Some(page) => self.read(read.claim, read.count, page),
                None => self.fenced(read.claim),
            }
        }
    }

    /// Takes in the answer to one read. `count` is the number that was asked for.
    fn read(&mut self, claim: Claim, count: usize, page: Page<E>) {
        let Some(held) = self.held_at(claim) else { return };
        held.reading = false;
        let settled = std::mem::take(&mut held.settled);
        let new = |id: &EntryId| !held.outstanding.contains(id) && !settled.contains(id);
        let lost = page.deleted.iter().filter(|id| new(id)).count();
        let full = page.entries.len() >= count;
        let (last, mut sizes) = (page.entries.last().map(|(id, ..)| *id), 0);
        let mut fresh = Vec::with_capacity(page.entries.len());
        let entries = page.entries.len();
        for (id, size, entry) in page.entries {
            sizes += size;
            if held.outstanding.contains(&id) || settled.contains(&id) {
                continue;
            }
            held.outstanding.insert(id);
            fresh.push((Token { shard: claim.shard, epoch: claim.epoch, id, size }, size, entry));
        }
        held.advance(last, page.next, full, page.at);
        if held.hand_over.is_some() {
            // The mark came while the read was in progress.
            for (token, ..) in fresh.drain(..) {
                held.outstanding.remove(&token.id);
            }
        }
        self.lost += lost as u64;
        if let Some(mean) = sizes.checked_div(entries) {
            self.mean = mean;
        }
        for (token, size, entry) in fresh {
            self.buffered += size;
            self.buffer.push_back((token, entry));
        }
    }

    /// Records that Redis does not know a lease any more.
    pub(super) fn fenced(&mut self, claim: Claim) {
        if self.held_at(claim).is_some() {
            self.revoke(claim.shard);
        }
    }

    /// Records that an answer of Redis was lost: entries may have been read that never arrived. They are pending.
    pub(super) fn failed(&mut self) {
        self.reading = false;
        for held in self.shards.iter_mut().flatten() {
            held.reading = false;
            held.settled.clear();
            held.read_again();
        }
    }

    /// Returns whether the lease of a token is the current one.
    pub(super) fn is_current(&self, token: &Token) -> bool {
        self.held(token.shard).is_some_and(|held| held.epoch == token.epoch)
    }

    /// Records that Redis settled an entry.
    pub(super) fn settled(&mut self, token: &Token, how: Settle) {
        let claim = Claim { shard: token.shard, epoch: token.epoch };
        let Some(held) = self.held_at(claim) else { return };
        held.outstanding.remove(&token.id);
        match how {
            // A page that was read before the acknowledgement, and arrives after it, has the entry.
            Settle::Done if held.reading => drop(held.settled.insert(token.id)),
            Settle::Done => {}
            Settle::Back => held.read_again(),
        }
    }

    /// Returns the ids that the next entries are behind, if no shard has a further entry.
    fn idle(&self) -> Vec<(usize, EntryId)> {
        if self.shards.iter().flatten().any(Held::is_ready) {
            return Vec::new();
        }
        let held = self.shards.iter().enumerate();
        held.filter_map(|(shard, held)| Some((shard, held.as_ref()?.idle_at()?))).collect()
    }

    /// Records that shards have further entries.
    pub(super) fn woken(&mut self, shards: &[usize]) {
        for shard in shards {
            if let Some(held) = self.shards.get_mut(*shard).and_then(Option::as_mut) {
                held.wake();
            }
        }
    }

    fn wakes_at(&self) -> Instant {
        let held = self.shards.iter().flatten();
        let times = held.flat_map(|held| [Some(held.until), held.hand_over]).flatten();
        times.chain([self.next_tick]).min().unwrap_or(self.next_tick)
    }
}
