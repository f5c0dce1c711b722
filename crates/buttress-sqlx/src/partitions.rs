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
    /// Owns, and goes on owning.
    pub(crate) keep: Vec<i64>,
    /// Owned by nobody, or by somebody whose lease ran out.
    pub(crate) take: Vec<i64>,
    /// Owns, above its share.
    pub(crate) give_up: Vec<i64>,
}

/// What `relay` is to do at `now`. `relays` are those that share the work, with it among them;
/// `owned` is in the order of the partitions.
///
/// Every relay has the same number of partitions, and those first by their numbers one more where it
/// does not come out even: all agree on it without asking each other.
pub(crate) fn plan(owned: &[Owned], relay: u128, relays: &[u128], now: i64) -> Plan {
    let count = relays.len().max(1);
    let rank = relays.iter().filter(|other| **other < relay).count();
    let share = owned.len() / count + usize::from(rank < owned.len() % count);
    let mut plan = Plan::default();
    for row in owned.iter().filter(|row| row.relay == Some(relay)) {
        let list = if plan.keep.len() < share { &mut plan.keep } else { &mut plan.give_up };
        list.push(row.partition);
    }
    let free = owned
        .iter()
        .filter(|row| row.relay.is_none() || row.relay != Some(relay) && row.until <= now);
    plan.take = free.take(share - plan.keep.len()).map(|row| row.partition).collect();
    plan
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
        let owned = rows(&[(None, 0), (Some(9), 10), (Some(9), 11), (Some(1), 3)]);
        let plan = plan(&owned, 1, &[1], 10);
        assert_eq!(plan.keep, [3], "its own, though its lease ran out");
        assert_eq!(plan.take, [0, 1], "the lease until 10 has ended at 10");
        assert!(plan.give_up.is_empty());
    }

    #[test]
    fn shares_differ_by_one_at_most_and_are_given_up_down_to() {
        let owned = rows(&[(Some(1), 9); 7]);
        let relays = [3, 1, 2];
        let one = plan(&owned, 1, &relays, 5);
        assert_eq!((one.keep.len(), one.give_up.len()), (3, 4));
        let rest = rows(&[
            (Some(1), 9),
            (Some(1), 9),
            (Some(1), 9),
            (None, 0),
            (None, 0),
            (None, 0),
            (None, 0),
        ]);
        assert_eq!(plan(&rest, 2, &relays, 5).take, [3, 4]);
        assert_eq!(plan(&rest, 3, &relays, 5).take, [3, 4]);
    }

    #[test]
    fn more_relays_than_partitions() {
        let owned = rows(&[(None, 0), (None, 0)]);
        let relays = [1, 2, 3];
        let taken: Vec<usize> =
            relays.iter().map(|relay| plan(&owned, *relay, &relays, 5).take.len()).collect();
        assert_eq!(taken, [1, 1, 0]);
    }
}
