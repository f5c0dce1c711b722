//! The table of a group: its members, and the owner of each shard. Stored as JSON in the last message of a subject.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A member of a group, by a random number in hex.
pub(crate) type MemberId = String;

/// Who owns which shard of a group.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Table {
    /// Each member with its number of beats. A member that does not beat for the length of a lease is dead.
    pub members: BTreeMap<MemberId, u64>,
    pub shards: Vec<Slot>,
}

/// The owner of one shard.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Slot {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<MemberId>,
    /// Grows with each change of the owner.
    pub epoch: u64,
}

impl Table {
    /// Creates the table of a group without members.
    pub(crate) fn new(shards: u16) -> Self {
        let shards = vec![Slot::default(); usize::from(shards)];
        Self { members: BTreeMap::new(), shards }
    }

    /// Returns the shards of `member`, with their epochs.
    pub(crate) fn owned<'a>(&'a self, member: &'a str) -> impl Iterator<Item = (u16, u64)> + 'a {
        let slots = (0..).zip(&self.shards);
        slots
            .filter(move |(_, slot)| slot.owner.as_deref() == Some(member))
            .map(|(n, slot)| (n, slot.epoch))
    }

    /// Removes `member`. Its shards have no owner then.
    pub(crate) fn leave(&mut self, member: &str) {
        self.members.remove(member);
        for slot in &mut self.shards {
            slot.owner.take_if(|owner| *owner == member);
        }
    }
}
