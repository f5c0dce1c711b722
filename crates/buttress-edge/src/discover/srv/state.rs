//! Which instances the SRV records of a name are (RFC 2782).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use buttress::discover::Instance;

/// How many times a record with a weight outweighs one of weight 0.
const OVER_ZERO: u64 = 100;

/// An SRV record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Record {
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    pub target: String,
}

/// Returns `true` if the records say that there is no instance: their only target is the root.
pub(super) fn is_none(records: &[Record]) -> bool {
    matches!(records, [Record { target, .. }] if target == ".")
}

/// Returns the records by priority, the best first.
pub(super) fn by_priority(mut records: Vec<Record>) -> Vec<Vec<Record>> {
    records.retain(|record| record.target != ".");
    records.sort_by(|a, b| (a.priority, &a.target, a.port).cmp(&(b.priority, &b.target, b.port)));
    let mut groups: Vec<Vec<Record>> = Vec::new();
    for record in records {
        match groups.last_mut() {
            Some(group) if group.iter().all(|other| other.priority == record.priority) => {
                group.push(record);
            }
            _ => groups.push(vec![record]),
        }
    }
    groups
}

/// Returns the instances of records of one priority, each with the addresses of its target. A target with several
/// addresses divides its weight among them. Empty if no target has an address.
pub(super) fn instances(records: &[(Record, Vec<IpAddr>)]) -> Vec<Instance> {
    let there = || records.iter().filter(|(_, addresses)| !addresses.is_empty());
    let is_weighted = there().any(|(record, _)| record.weight > 0);
    // All shares become whole numbers.
    let parts = there().fold(1, |all, (_, addresses)| least_multiple(all, addresses.len() as u64));
    let mut shares: BTreeMap<SocketAddr, u64> = BTreeMap::new();
    for (record, addresses) in there() {
        let weight = match (is_weighted, record.weight) {
            // A very small chance, and without other weights the same one.
            (_, 0) => 1,
            (_, weight) => u64::from(weight).saturating_mul(OVER_ZERO),
        };
        let share = weight.saturating_mul(parts / addresses.len() as u64).max(1);
        for address in addresses {
            let place = shares.entry(SocketAddr::new(*address, record.port)).or_default();
            *place = place.saturating_add(share);
        }
    }
    let divisor = shares.values().fold(0, |all, share| greatest_divisor(all, *share)).max(1);
    let most = shares.values().max().map_or(1, |most| most / divisor);
    let largest = u64::from(Instance::MAX_WEIGHT);
    let weight = |share: u64| {
        let share = share / divisor;
        // Scaled down only if a weight is too large: the largest one is exact then, and others are rounded.
        let scaled = if most > largest { scale(share, largest, most) } else { share };
        u32::try_from(scaled).unwrap_or(Instance::MAX_WEIGHT)
    };
    let instance = |(address, share): (SocketAddr, u64)| {
        Instance::at(address.to_string()).with_weight(weight(share))
    };
    shares.into_iter().map(instance).collect()
}

fn scale(share: u64, largest: u64, most: u64) -> u64 {
    u64::try_from(u128::from(share) * u128::from(largest) / u128::from(most)).unwrap_or(largest)
}

fn greatest_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}

/// Returns the least common multiple of two numbers above 0, or `a` if it is too large to be exact.
fn least_multiple(a: u64, b: u64) -> u64 {
    let multiple = (a / greatest_divisor(a, b).max(1)).checked_mul(b);
    multiple.filter(|multiple| *multiple < 1 << 32).unwrap_or(a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(priority: u16, weight: u16, target: &str) -> Record {
        Record { priority, weight, port: 80, target: target.to_owned() }
    }

    fn addresses(last: &[u8]) -> Vec<IpAddr> {
        last.iter().map(|last| IpAddr::from([10, 0, 0, *last])).collect()
    }

    fn weights(records: &[(u16, &[u8])]) -> Vec<(String, u32)> {
        let records: Vec<_> = records
            .iter()
            .map(|(weight, last)| (record(1, *weight, "t"), addresses(last)))
            .collect();
        let found = instances(&records);
        found.iter().map(|it| (it.address().to_owned(), it.weight())).collect()
    }

    fn expected(list: &[(u8, u32)]) -> Vec<(String, u32)> {
        list.iter().map(|(last, weight)| (format!("10.0.0.{last}:80"), *weight)).collect()
    }

    #[test]
    fn edge_5_2_only_a_lone_root_says_that_there_is_no_instance() {
        assert!(is_none(&[record(0, 0, ".")]));
        assert!(!is_none(&[]));
        assert!(!is_none(&[record(0, 0, "."), record(1, 0, "a.")]));
        assert_eq!(by_priority(vec![record(0, 0, "."), record(1, 0, "a.")]).len(), 1);
    }

    #[test]
    fn the_lowest_number_is_the_best_priority() {
        let records = [(20, "c"), (10, "b"), (20, "a"), (0, "d")];
        let records = records.iter().map(|(priority, target)| record(*priority, 1, target));
        let groups = by_priority(records.collect());
        let names: Vec<Vec<&str>> = groups
            .iter()
            .map(|group| group.iter().map(|record| &*record.target).collect())
            .collect();
        assert_eq!(names, [vec!["d"], vec!["b"], vec!["a", "c"]]);
    }

    #[test]
    fn weights_are_shares_of_records_and_not_of_addresses() {
        assert_eq!(weights(&[(3, &[1]), (1, &[2])]), expected(&[(1, 3), (2, 1)]));
        // Half of the requests for each record.
        assert_eq!(weights(&[(5, &[1, 2]), (5, &[3])]), expected(&[(1, 1), (2, 1), (3, 2)]));
        assert_eq!(
            weights(&[(1, &[1, 2, 3]), (1, &[4, 5])]),
            expected(&[(1, 2), (2, 2), (3, 2), (4, 3), (5, 3)])
        );
        // Two records with one address.
        assert_eq!(weights(&[(1, &[1]), (2, &[1]), (1, &[2])]), expected(&[(1, 3), (2, 1)]));
        // A target without an address has no share.
        assert_eq!(weights(&[(60, &[]), (2, &[1]), (2, &[2])]), expected(&[(1, 1), (2, 1)]));
        assert_eq!(weights(&[(1, &[])]), []);
    }

    #[test]
    fn a_weight_of_0_has_a_very_small_chance_beside_others_and_the_same_one_alone() {
        assert_eq!(weights(&[(0, &[1]), (0, &[2])]), expected(&[(1, 1), (2, 1)]));
        assert_eq!(weights(&[(1, &[1]), (0, &[2])]), expected(&[(1, 100), (2, 1)]));
    }

    #[test]
    fn the_greatest_weights_fit_an_instance() {
        let found = weights(&[(65_535, &[1]), (65_533, &[2]), (0, &[3])]);
        assert_eq!(found[0], (String::from("10.0.0.1:80"), Instance::MAX_WEIGHT));
        assert!((999_900..1_000_000).contains(&found[1].1), "{found:?}");
        assert_eq!(found[2].1, 1);
        let many: Vec<u8> = (1..=250).collect();
        let found = weights(&[(65_535, &many), (1, &[251])]);
        assert_eq!(found.len(), 251);
        assert!(found[0].1 > 200 * found[250].1, "{found:?}");
    }
}
