//! The partitions of an outbox, and which relay has which.

use buttress::InvalidConfig;
use buttress::StoreError;

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

/// The row of one partition. Relays are known by their numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Owned {
    pub(crate) partition: i64,
    pub(crate) relay: Option<u128>,
    pub(crate) until: i64,
}

/// What a relay is to do with the partitions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Plan {
    /// Owned by nobody, or by somebody whose lease ran out.
    pub(crate) take: Vec<i64>,
    /// Owned, above its share, and not busy.
    pub(crate) give_up: Vec<i64>,
    /// How many are owned above its share, and busy.
    pub(crate) surplus: usize,
}

/// What `relay` is to do at `now`, as one of so many `relays`. `owned` is in the order of the
/// partitions.
///
/// The share is rounded up, so that no partition is left over; the first are kept, and the first free
/// ones taken. A lease of its own that ran out is as free as any: it is taken anew.
pub(crate) fn plan(owned: &[Owned], relay: u128, relays: usize, busy: &[u16], now: i64) -> Plan {
    let share = owned.len().div_ceil(relays.max(1));
    let is_mine = |row: &&Owned| row.relay == Some(relay) && now < row.until;
    let is_free = |row: &&Owned| row.relay.is_none() || row.until <= now;
    let is_busy = |row: &&Owned| busy.iter().any(|busy| i64::from(*busy) == row.partition);
    let mine = owned.iter().filter(is_mine).count();
    let above = mine.saturating_sub(share);
    let idle = owned.iter().rev().filter(is_mine).filter(|row| !is_busy(row));
    let give_up: Vec<i64> = idle.take(above).map(|row| row.partition).collect();
    let free = owned.iter().filter(is_free).take(share.saturating_sub(mine));
    Plan { take: free.map(|row| row.partition).collect(), surplus: above - give_up.len(), give_up }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(owners: &[(Option<u128>, i64)]) -> Vec<Owned> {
        let row = |(partition, (relay, until)): (i64, &(Option<u128>, i64))| Owned {
            partition,
            relay: *relay,
            until: *until,
        };
        (0..).zip(owners).map(row).collect()
    }

    #[test]
    fn the_only_relay_takes_all_that_is_free_at_the_instant() {
        let owned = rows(&[(None, 0), (Some(9), 10), (Some(9), 11), (Some(1), 10), (Some(1), 12)]);
        let plan = plan(&owned, 1, 1, &[], 10);
        assert_eq!(plan.take, [0, 1, 3], "a lease until 10 has ended at 10, its own as well");
        assert_eq!((plan.give_up, plan.surplus), (vec![], 0));
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
}
