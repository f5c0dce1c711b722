//! The partitions of an outbox, and which relay has which.

use buttress::InvalidConfig;
use buttress::StoreError;
use buttress_durable::outbox::Lease;

use crate::epoch;
use crate::time::bounded;

/// How many there are unless said otherwise.
pub(crate) const DEFAULT: u16 = 16;

/// The most there can be: one scan looks into each that a relay owns.
const MOST: u16 = 128;

pub(crate) fn check(partitions: Option<u16>) -> Result<(), InvalidConfig> {
    match partitions {
        Some(n) if n == 0 || n > MOST => {
            Err(InvalidConfig::new("partitions", n, format!("between 1 and {MOST}")))
        }
        _ => Ok(()),
    }
}

/// The number of partitions to go on with: what is stored, if nothing else was asked for.
pub(crate) fn agree(stored: i64, asked: Option<u16>) -> Result<u16, StoreError> {
    let stored = u16::try_from(stored)
        .ok()
        .filter(|n| (1..=MOST).contains(n))
        .ok_or_else(|| StoreError::corrupt(format!("buttress_schema: {stored} partitions")))?;
    match asked {
        Some(asked) if asked != stored => Err(StoreError::invalid(format!(
            "the store was created with {stored} partitions, and cannot be opened with {asked}"
        ))),
        _ => Ok(stored),
    }
}

/// The row of one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Owned {
    pub(crate) partition: i64,
    pub(crate) owner: Owner,
    pub(crate) until: i64,
    /// How long the lease was granted for.
    pub(crate) length: i64,
    pub(crate) epoch: i64,
}

/// Who has a partition. Relays are known by their numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    Nobody,
    Relay(u128),
    /// The row is damaged. Its lease counts until it ends.
    #[cfg_attr(
        not(feature = "sqlite"),
        expect(dead_code, reason = "ids are checked by type there")
    )]
    Unknown,
}

/// What a relay is to do with the partitions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Plan {
    /// Without an owner, or with one whose lease ran out.
    pub(crate) take: Vec<i64>,
    /// Owned, above its share, and not busy.
    pub(crate) give_up: Vec<i64>,
    /// How many are owned above its share, and busy.
    pub(crate) surplus: usize,
    /// Leases of other relays that end later than their length from now, with the end they get.
    pub(crate) shorten: Vec<(i64, i64)>,
    /// Free, and not to be taken: their epoch cannot be raised.
    pub(crate) worn: Vec<i64>,
}

impl Plan {
    /// Says which partitions stand still, at each look, until an operator has mended their rows.
    pub(crate) fn report(&self) {
        for partition in &self.worn {
            tracing::error!(
                partition,
                "the epoch of an outbox partition is damaged: none of its messages is relayed"
            );
        }
    }
}

/// The lease in a row; `None` if the row is damaged.
pub(crate) fn lease(partition: i64, epoch: i64, suspect_to: i64) -> Option<Lease> {
    let mut lease = Lease::new(u16::try_from(partition).ok()?, epoch::read(epoch)?);
    // Damaged, it says that everything is suspect, which is then published one by one.
    lease.suspect_to = u64::try_from(suspect_to).unwrap_or(u64::MAX);
    Some(lease)
}

/// What `relay` is to do at `now`, as one of so many `relays`. `owned` is in the order of the
/// partitions.
///
/// The share is rounded up, so that no partition is left over; the first are kept, and the first free
/// ones taken. A lease of its own that ran out is as free as any: it is taken anew.
pub(crate) fn plan(owned: &[Owned], relay: u128, relays: usize, busy: &[u16], now: i64) -> Plan {
    let share = owned.len().div_ceil(relays.max(1));
    let end = |row: &Owned| bounded(row.until, row.length, now);
    let is_mine = |row: &&Owned| row.owner == Owner::Relay(relay) && now < end(row);
    let is_free = |row: &&Owned| row.owner == Owner::Nobody || end(row) <= now;
    let can_be_taken = |row: &&Owned| epoch::next(row.epoch).is_some();
    let is_busy = |row: &&Owned| busy.iter().any(|busy| i64::from(*busy) == row.partition);
    let mine = owned.iter().filter(is_mine).count();
    let above = mine.saturating_sub(share);
    let idle = owned.iter().rev().filter(is_mine).filter(|row| !is_busy(row));
    let give_up: Vec<i64> = idle.take(above).map(|row| row.partition).collect();
    let free = || owned.iter().filter(is_free);
    let take = free().filter(can_be_taken).take(share.saturating_sub(mine));
    let worn = free().filter(|row| !can_be_taken(row));
    // What is its own is renewed in any case.
    let others = owned.iter().filter(|row| !is_free(row) && !is_mine(row));
    let shorten = others.filter(|row| end(row) < row.until).map(|row| (row.partition, end(row)));
    Plan {
        take: take.map(|row| row.partition).collect(),
        surplus: above - give_up.len(),
        give_up,
        shorten: shorten.collect(),
        worn: worn.map(|row| row.partition).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each under epoch 1, granted for 10.
    fn rows(owners: &[(Option<u128>, i64)]) -> Vec<Owned> {
        let row = |(partition, (relay, until)): (i64, &(Option<u128>, i64))| Owned {
            partition,
            owner: relay.map_or(Owner::Nobody, Owner::Relay),
            until: *until,
            length: 10,
            epoch: 1,
        };
        (0..).zip(owners).map(row).collect()
    }

    #[test]
    fn the_only_relay_takes_all_that_is_free_at_the_instant() {
        let owned = rows(&[(None, 0), (Some(9), 10), (Some(9), 11), (Some(1), 10), (Some(1), 12)]);
        let plan = plan(&owned, 1, 1, &[], 10);
        assert_eq!(plan.take, [0, 1, 3], "a lease until 10 has ended at 10, its own as well");
        assert_eq!((plan.give_up, plan.surplus), (vec![], 0));
        assert_eq!((plan.shorten, plan.worn), (vec![], vec![]));
    }

    #[test]
    fn what_is_above_the_share_is_given_up_from_the_last_unless_busy() {
        let owned = rows(&[(Some(1), 9); 7]);
        let ask = |busy: &[u16]| plan(&owned, 1, 3, busy, 5);
        assert_eq!((ask(&[]).give_up, ask(&[]).surplus), (vec![6, 5, 4, 3], 0));
        assert_eq!((ask(&[6, 0]).give_up, ask(&[6, 0]).surplus), (vec![5, 4, 3, 2], 0));
        let busy = [1, 2, 3, 4, 5];
        assert_eq!((ask(&busy).give_up, ask(&busy).surplus), (vec![6, 0], 2));
        assert!(ask(&[]).take.is_empty());
    }

    #[test]
    fn more_relays_than_partitions() {
        let owned = rows(&[(None, 0), (Some(2), 9)]);
        assert_eq!(plan(&owned, 1, 3, &[], 5).take, [0]);
        assert_eq!(plan(&owned, 2, 3, &[], 5), Plan::default());
    }

    /// The clock was set back from 1000 to 100: leases that ended at 1010 end at 110, one length from
    /// when a relay looks first, and its own are renewed as ever.
    #[test]
    fn a_lease_ends_no_later_than_its_length_from_now() {
        let mut owned = rows(&[(Some(9), 1010), (Some(1), 1010), (Some(9), 110), (None, 0)]);
        let first = plan(&owned, 1, 1, &[], 100);
        assert_eq!((first.shorten, first.take), (vec![(0, 110)], vec![3]));
        // As it then stands in the row.
        owned[0].until = 110;
        assert_eq!(plan(&owned, 1, 1, &[], 109).shorten, []);
        assert_eq!(plan(&owned, 1, 1, &[], 109).take, [3]);
        assert_eq!(plan(&owned, 1, 1, &[], 110).take, [0, 2, 3]);
        // A row of a store that wrote no lengths is as it was.
        owned[0] = Owned { until: 1010, length: i64::MAX, ..owned[0] };
        assert_eq!(plan(&owned, 1, 1, &[], 100).shorten, []);
    }

    #[test]
    fn a_damaged_row_stops_only_its_partition() {
        let mut owned = rows(&[(None, 0), (None, 0), (Some(1), 9), (None, 0), (None, 0)]);
        owned[0].epoch = i64::MAX;
        owned[1].epoch = -1;
        // The last that is assigned: it is kept while it is owned.
        owned[2].epoch = i64::MAX - 1;
        owned[3] = Owned { owner: Owner::Unknown, until: 7, ..owned[3] };
        let now = |now| plan(&owned, 1, 1, &[], now);
        assert_eq!((now(5).take, now(5).worn), (vec![4], vec![0, 1]));
        assert_eq!((now(7).take, now(7).worn), (vec![3, 4], vec![0, 1]));
        assert_eq!((now(9).take, now(9).worn), (vec![3, 4], vec![0, 1, 2]));
    }
}
