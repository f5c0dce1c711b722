//! The decisions of one member of a group: which shards it owns, takes and releases, and which members are dead. Pure.
//!
//! Members do not compare clocks. Each member counts beats in the table, and watches the beats of the others by its own
//! clock. A member whose beat has not changed for the length of a lease is dead. A member counts its own lease from
//! before the write of its last beat, so it stops before another member takes over.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::table::{MemberId, Table};

/// The shards whose owner has changed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Changes {
    /// Shards that this member owns now.
    pub gained: Vec<u16>,
    /// Shards that this member does not own any more.
    pub lost: Vec<u16>,
}

/// One member of a group.
#[derive(Debug)]
pub(crate) struct Membership {
    me: MemberId,
    lease: Duration,
    /// The last beat of each other member, and when this member first saw it.
    seen: HashMap<MemberId, (u64, Instant)>,
    /// The time before the last successful write.
    renewed: Option<Instant>,
    /// The shards that this member owns, with their epochs.
    held: BTreeMap<u16, u64>,
    /// Owned shards that another member should get. This member stops pulling from them.
    surplus: BTreeSet<u16>,
}

impl Membership {
    pub(crate) fn new(me: MemberId, lease: Duration) -> Self {
        let (seen, held, surplus) = (HashMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { me, lease, seen, renewed: None, held, surplus }
    }

    pub(crate) fn me(&self) -> &str {
        &self.me
    }

    /// Returns how often the table is read: a quarter of a second, and at least eight times in a lease.
    pub(crate) fn poll(&self) -> Duration {
        (self.lease / 8).min(Duration::from_millis(250))
    }

    /// Returns the shards that this member owns, with their epochs.
    pub(crate) fn owned(&self) -> &BTreeMap<u16, u64> {
        &self.held
    }

    pub(crate) fn is_surplus(&self, shard: u16) -> bool {
        self.surplus.contains(&shard)
    }

    /// Returns `true` if the lease has run out at `now`.
    pub(crate) fn has_lapsed(&self, now: Instant) -> bool {
        !self.held.is_empty()
            && self.renewed.is_none_or(|at| now.saturating_duration_since(at) >= self.lease)
    }

    /// Returns when the lease runs out.
    pub(crate) fn ends(&self) -> Option<Instant> {
        self.renewed.map(|at| at + self.lease)
    }

    /// Releases all shards, because the lease has run out.
    pub(crate) fn lapse(&mut self) {
        self.surplus.clear();
        self.held.clear();
    }

    /// Returns how the owned shards differ from those that the member works on, with their epochs.
    ///
    /// The member compares after each step, also after one that has failed in its middle. So no change can be lost.
    pub(crate) fn changes(&self, known: &BTreeMap<u16, u64>) -> Changes {
        let missing = |some: &BTreeMap<u16, u64>, others: &BTreeMap<u16, u64>| {
            let missing = some.iter().filter(|(shard, epoch)| others.get(shard) != Some(epoch));
            missing.map(|(shard, _)| *shard).collect()
        };
        Changes { gained: missing(&self.held, known), lost: missing(known, &self.held) }
    }

    /// Takes in a table that was read: other members may have taken shards.
    pub(crate) fn read(&mut self, now: Instant, table: &Table) {
        self.seen.retain(|member, _| table.members.contains_key(member));
        for (member, beat) in table.members.iter().filter(|(member, _)| **member != self.me) {
            match self.seen.get_mut(member) {
                Some((known, _)) if known == beat => {}
                Some(known) => *known = (*beat, now),
                None => drop(self.seen.insert(member.clone(), (*beat, now))),
            }
        }
        let owned: BTreeMap<u16, u64> = table.owned(&self.me).collect();
        self.held.retain(|shard, epoch| owned.get(shard) == Some(epoch));
        self.surplus.retain(|shard| self.held.contains_key(shard));
    }

    /// Returns the table that this member wants to write, or `None` if it can wait. `is_busy` returns whether messages
    /// of an owned shard are being handled: such a shard is not released.
    pub(crate) fn plan(
        &mut self,
        now: Instant,
        table: &Table,
        is_busy: impl Fn(u16) -> bool,
    ) -> Option<Table> {
        let mut next = table.clone();
        for (member, (_, since)) in &self.seen {
            if now.saturating_duration_since(*since) >= self.lease {
                next.leave(member);
            }
        }
        let orphaned = |owner: &MemberId| *owner != self.me && !next.members.contains_key(owner);
        for slot in &mut next.shards {
            slot.owner.take_if(|owner| orphaned(owner));
        }
        let beat = next.members.entry(self.me.clone()).or_default();
        *beat = beat.wrapping_add(1);
        let quota = self.quota(&next);
        self.share(&mut next, quota, is_busy);
        let due = self.renewed.is_none_or(|at| now.saturating_duration_since(at) >= self.lease / 4);
        let changed = next.shards != table.shards || !next.members.keys().eq(table.members.keys());
        (due || changed).then_some(next)
    }

    /// Returns how many shards this member should own.
    fn quota(&self, table: &Table) -> usize {
        let (shards, members) = (table.shards.len(), table.members.len().max(1));
        let before_me = table.members.keys().take_while(|member| **member != self.me).count();
        shards / members + usize::from(before_me < shards % members)
    }

    /// Takes free shards up to the quota, or releases those beyond it.
    fn share(&mut self, next: &mut Table, quota: usize, is_busy: impl Fn(u16) -> bool) {
        // Owned by the table alone: the lease had run out, and no other member has noticed.
        for (shard, slot) in (0..).zip(&mut next.shards) {
            if slot.owner.as_ref() == Some(&self.me) && !self.held.contains_key(&shard) {
                slot.epoch += 1;
            }
        }
        let mine: Vec<u16> = next.owned(&self.me).map(|(shard, _)| shard).collect();
        self.surplus = mine.iter().copied().skip(quota).collect();
        for (shard, slot) in (0..).zip(&mut next.shards) {
            if self.surplus.contains(&shard) && !is_busy(shard) {
                slot.owner = None;
            }
        }
        let missing = quota.saturating_sub(mine.len());
        for slot in next.shards.iter_mut().filter(|slot| slot.owner.is_none()).take(missing) {
            slot.owner = Some(self.me.clone());
            slot.epoch += 1;
        }
    }

    /// Takes in the confirmation that `table`, which this member planned, was written. `asked_at` is a time before the
    /// write began.
    pub(crate) fn wrote(&mut self, asked_at: Instant, table: &Table) {
        self.renewed = Some(asked_at);
        self.held = table.owned(&self.me).collect();
        self.surplus.retain(|shard| self.held.contains_key(shard));
    }
}
