//! The owners of the partitions of an outbox.

use buttress_durable::outbox::Lease;

use crate::columns::Columns;
use crate::epoch;
use crate::time::bounded;

/// The row of one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Owned {
    partition: i64,
    owner: Owner,
    until: i64,
    /// The length that the lease was granted for.
    length: i64,
    epoch: i64,
}

/// The owner of a partition. A relay is its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    Free,
    Relay(u128),
    /// The row is damaged. Its lease counts until it ends.
    Unknown,
}

impl Owned {
    /// Reads a row: partition, relay, end, length and epoch.
    pub(crate) fn read<R: Columns>(row: &R) -> sqlx::Result<Self> {
        let owner = match row.id_or_null(1) {
            Ok(None) => Owner::Free,
            Ok(Some(relay)) => Owner::Relay(relay),
            Err(_) => Owner::Unknown,
        };
        let (partition, until) = (row.int(0)?, row.int(2)?);
        Ok(Self { partition, owner, until, length: row.int(3)?, epoch: row.int(4)? })
    }
}

/// The changes that a relay makes to the partitions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Plan {
    /// Partitions without an owner, or with an owner whose lease has run out.
    pub take: Vec<i64>,
    /// Partitions that the relay owns above its share, and that are not busy.
    pub release: Vec<i64>,
    /// How many partitions the relay owns above its share that are busy.
    pub surplus: usize,
    /// Leases of other relays that end later than their length from now, with their new ends.
    pub shorten: Vec<(i64, i64)>,
    /// Free partitions that no relay can take, because their epoch cannot grow.
    pub worn: Vec<i64>,
}

impl Plan {
    /// Logs the partitions without an owner that an operator must fix, at each renewal.
    pub(crate) fn report(&self) {
        for partition in &self.worn {
            tracing::error!(
                partition,
                "the epoch of an outbox partition is damaged: none of its messages is relayed"
            );
        }
    }
}

/// Returns the lease in a row; `None` if the row is damaged.
pub(crate) fn lease(partition: i64, epoch: i64, suspect_to: i64) -> Option<Lease> {
    let mut lease = Lease::new(u16::try_from(partition).ok()?, epoch::read(epoch)?);
    // A damaged value makes all messages suspect, and the relay publishes them one by one.
    lease.suspect_to = u64::try_from(suspect_to).unwrap_or(u64::MAX);
    Some(lease)
}

/// Reads the leases of one relay: partition, epoch, and suspect messages. Leaves out damaged rows.
pub(crate) fn leases<R: Columns>(rows: &[R]) -> sqlx::Result<Vec<Lease>> {
    let mut leases = Vec::with_capacity(rows.len());
    for row in rows {
        leases.extend(lease(row.int(0)?, row.int(1)?, row.int(2)?));
    }
    leases.sort_by_key(|lease| lease.partition);
    Ok(leases)
}

/// Returns the changes that `relay` makes at `now`, as one of `relays`. `owned` is in the order of
/// the partitions.
///
/// The share is rounded up, so that every partition has an owner. The relay keeps its first
/// partitions and takes the first free ones. Its own lease that ran out is free like any other: it
/// takes it again, under a new epoch.
pub(crate) fn plan(owned: &[Owned], relay: u128, relays: usize, busy: &[u16], now: i64) -> Plan {
    let share = owned.len().div_ceil(relays.max(1));
    let end = |row: &Owned| bounded(row.until, row.length, now);
    let is_mine = |row: &&Owned| row.owner == Owner::Relay(relay) && now < end(row);
    let is_free = |row: &&Owned| row.owner == Owner::Free || end(row) <= now;
    let can_be_taken = |row: &&Owned| epoch::next(row.epoch).is_some();
    let is_busy = |row: &&Owned| busy.iter().any(|busy| i64::from(*busy) == row.partition);
    let mine = owned.iter().filter(is_mine).count();
    let above = mine.saturating_sub(share);
    let idle = owned.iter().rev().filter(is_mine).filter(|row| !is_busy(row));
    let release: Vec<i64> = idle.take(above).map(|row| row.partition).collect();
    let free = || owned.iter().filter(is_free);
    let take = free().filter(can_be_taken).take(share.saturating_sub(mine));
    let worn = free().filter(|row| !can_be_taken(row));
    // The relay renews its own leases in any case.
    let others = owned.iter().filter(|row| !is_free(row) && !is_mine(row));
    let shorten = others.filter(|row| end(row) < row.until).map(|row| (row.partition, end(row)));
    Plan {
        take: take.map(|row| row.partition).collect(),
        surplus: above - release.len(),
        release,
        shorten: shorten.collect(),
        worn: worn.map(|row| row.partition).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows under epoch 1, with leases of length 10.
    fn rows(owners: &[(Option<u128>, i64)]) -> Vec<Owned> {
        let row = |(partition, (relay, until)): (i64, &(Option<u128>, i64))| Owned {
            partition,
            owner: relay.map_or(Owner::Free, Owner::Relay),
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
        assert_eq!((plan.release, plan.surplus), (vec![], 0));
        assert_eq!((plan.shorten, plan.worn), (vec![], vec![]));
    }

    #[test]
    fn what_is_above_the_share_is_given_up_from_the_last_unless_busy() {
        let owned = rows(&[(Some(1), 9); 7]);
        let ask = |busy: &[u16]| plan(&owned, 1, 3, busy, 5);
        assert_eq!((ask(&[]).release, ask(&[]).surplus), (vec![6, 5, 4, 3], 0));
        assert_eq!((ask(&[6, 0]).release, ask(&[6, 0]).surplus), (vec![5, 4, 3, 2], 0));
        let busy = [1, 2, 3, 4, 5];
        assert_eq!((ask(&busy).release, ask(&busy).surplus), (vec![6, 0], 2));
        assert!(ask(&[]).take.is_empty());
    }

    #[test]
    fn more_relays_than_partitions() {
        let owned = rows(&[(None, 0), (Some(2), 9)]);
        assert_eq!(plan(&owned, 1, 3, &[], 5).take, [0]);
        assert_eq!(plan(&owned, 2, 3, &[], 5), Plan::default());
    }

    /// The clock was set back from 1000 to 100. Leases that ended at 1010 then end at 110, one
    /// length after the first read. The relay renews its own leases as usual.
    #[test]
    fn a_lease_ends_no_later_than_its_length_from_now() {
        let mut owned = rows(&[(Some(9), 1010), (Some(1), 1010), (Some(9), 110), (None, 0)]);
        let first = plan(&owned, 1, 1, &[], 100);
        assert_eq!((first.shorten, first.take), (vec![(0, 110)], vec![3]));
        // The shortened end in the row.
        owned[0].until = 110;
        assert_eq!(plan(&owned, 1, 1, &[], 109).shorten, []);
        assert_eq!(plan(&owned, 1, 1, &[], 109).take, [3]);
        assert_eq!(plan(&owned, 1, 1, &[], 110).take, [0, 2, 3]);
        // A row of a release that recorded no lengths stays unchanged.
        owned[0] = Owned { until: 1010, length: i64::MAX, ..owned[0] };
        assert_eq!(plan(&owned, 1, 1, &[], 100).shorten, []);
    }

    #[test]
    fn a_damaged_row_stops_only_its_partition() {
        let mut owned = rows(&[(None, 0), (None, 0), (Some(1), 9), (None, 0), (None, 0)]);
        owned[0].epoch = i64::MAX;
        owned[1].epoch = -1;
        // The last epoch that is assigned: the owner keeps it.
        owned[2].epoch = i64::MAX - 1;
        owned[3] = Owned { owner: Owner::Unknown, until: 7, ..owned[3] };
        let now = |now| plan(&owned, 1, 1, &[], now);
        assert_eq!((now(5).take, now(5).worn), (vec![4], vec![0, 1]));
        assert_eq!((now(7).take, now(7).worn), (vec![3, 4], vec![0, 1]));
        assert_eq!((now(9).take, now(9).worn), (vec![3, 4], vec![0, 1, 2]));
    }
}
