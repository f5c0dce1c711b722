use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::state::{Changes, Membership};
use super::table::Table;

const LEASE: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

/// Members that write one table, each as the others leave it.
struct Group {
    table: Table,
    members: BTreeMap<&'static str, Membership>,
    /// The shards that each member works on.
    known: BTreeMap<&'static str, BTreeMap<u16, u64>>,
    start: Instant,
}

impl Group {
    fn new(shards: u16) -> Self {
        let start = buttress::Clock::default().now();
        let table = Table::new(shards);
        Self { table, members: BTreeMap::new(), known: BTreeMap::new(), start }
    }

    /// One step of a member at `at` seconds, with `busy` shards. Returns what changed.
    fn step(&mut self, name: &'static str, at: f64, busy: &[u16]) -> Changes {
        let now = self.start + Duration::from_secs_f64(at);
        let member =
            self.members.entry(name).or_insert_with(|| Membership::new(name.to_owned(), LEASE));
        member.read(now, &self.table);
        if let Some(next) = member.plan(now, &self.table, |shard| busy.contains(&shard)) {
            member.wrote(now, &next);
            self.table = next;
        }
        let known = self.known.entry(name).or_default();
        let changes = member.changes(known);
        known.clone_from(member.owned());
        changes
    }

    fn owned(&self, name: &str) -> Vec<u16> {
        self.members
            .get(name)
            .map(|member| member.owned().keys().copied().collect())
            .unwrap_or_default()
    }

    fn epochs(&self) -> Vec<u64> {
        self.table.shards.iter().map(|slot| slot.epoch).collect()
    }
}

#[test]
fn the_first_member_takes_all_and_a_second_one_gets_half() {
    let mut group = Group::new(4);
    assert_eq!(group.step("a", 0.0, &[]).gained, [0, 1, 2, 3]);
    assert_eq!(group.step("b", 0.1, &[]), Changes::default(), "nothing is free yet");
    let handed_over = group.step("a", 0.2, &[2]);
    assert_eq!(
        handed_over,
        Changes { gained: vec![], lost: vec![3] },
        "messages of shard 2 are being handled"
    );
    assert!(group.members["a"].is_surplus(2) && !group.members["a"].is_surplus(1));
    assert_eq!(group.step("b", 0.3, &[]).gained, [3]);
    assert_eq!(group.step("a", 0.4, &[]).lost, [2]);
    assert_eq!(group.step("b", 0.5, &[]).gained, [2]);
    assert_eq!((group.owned("a"), group.owned("b")), (vec![0, 1], vec![2, 3]));
    assert_eq!(group.epochs(), [1, 1, 2, 2]);
}

#[test]
fn shards_are_shared_evenly_and_each_has_one_owner() {
    let mut group = Group::new(7);
    let names = ["a", "b", "c"];
    for round in 0..6 {
        for (at, name) in names.iter().enumerate() {
            group.step(name, f64::from(round) + at as f64 / 10.0, &[]);
        }
    }
    let mut all: Vec<u16> = names.iter().flat_map(|name| group.owned(name)).collect();
    assert_eq!(names.map(|name| group.owned(name).len()), [3, 2, 2]);
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_member_that_does_not_beat_for_a_lease_is_dead() {
    let mut group = Group::new(2);
    group.step("a", 0.0, &[]);
    group.step("b", 1.0, &[]);
    group.step("a", 1.5, &[]);
    group.step("b", 2.0, &[]);
    assert_eq!((group.owned("a"), group.owned("b")), (vec![0], vec![1]));
    // `b` saw the last beat of `a` at 2.0.
    for at in [4.5, 7.0, 9.5, 11.9] {
        assert_eq!(group.step("b", at, &[]), Changes::default(), "{at}");
    }
    assert_eq!(group.step("b", 12.0, &[]).gained, [0]);
    assert_eq!(group.epochs()[0], 2);
    // `a` was stopped, and comes back.
    assert!(
        group.members["a"].has_lapsed(group.start + Duration::from_secs_f64(11.5)),
        "before `b` took over"
    );
    assert_eq!(group.step("a", 13.0, &[]).lost, [0]);
}

#[test]
fn a_member_counts_its_lease_from_before_the_write() {
    let mut member = Membership::new("a".to_owned(), LEASE);
    let start = buttress::Clock::default().now();
    assert!(!member.has_lapsed(start), "it owns nothing");
    let table = member.plan(start + 3 * SECOND, &Table::new(1), |_| false).unwrap();
    member.wrote(start, &table);
    let none = BTreeMap::new();
    assert_eq!(member.changes(&none).gained, [0]);
    assert!(!member.has_lapsed(start + LEASE - Duration::from_millis(1)));
    assert!(member.has_lapsed(start + LEASE));
    member.lapse();
    assert_eq!(member.changes(&BTreeMap::from([(0, 1)])).lost, [0]);
    // No other member has noticed: the shard is still its own in the table, and gets a new epoch.
    member.read(start + 12 * SECOND, &table);
    assert_eq!(member.changes(&none), Changes::default());
    let again = member.plan(start + 12 * SECOND, &table, |_| false).unwrap();
    member.wrote(start + 12 * SECOND, &again);
    assert_eq!(member.changes(&none).gained, [0]);
    assert_eq!(again.shards[0].epoch, 2);
}

#[test]
fn a_member_beats_four_times_per_lease_and_not_more_often() {
    let mut group = Group::new(1);
    group.step("a", 0.0, &[]);
    let beats = |group: &Group| group.table.members["a"];
    let first = beats(&group);
    for tenth in 1..=100 {
        group.step("a", f64::from(tenth) / 10.0, &[]);
    }
    assert_eq!(beats(&group) - first, 4);
    assert_eq!(group.members["a"].poll(), Duration::from_millis(250));
    assert_eq!(Membership::new("b".to_owned(), SECOND).poll(), Duration::from_millis(125));
}

#[test]
fn a_member_that_leaves_frees_its_shards_at_once() {
    let mut group = Group::new(2);
    group.step("a", 0.0, &[]);
    group.table.leave("a");
    assert_eq!(group.step("b", 0.1, &[]).gained, [0, 1]);
    let json = serde_json::to_string(&group.table).unwrap();
    assert_eq!(serde_json::from_str::<Table>(&json).unwrap(), group.table);
}

#[test]
fn an_owner_that_the_table_does_not_list_owns_nothing() {
    let mut group = Group::new(1);
    group.table.shards[0].owner = Some("lost".to_owned());
    assert_eq!(group.step("a", 0.0, &[]).gained, [0]);
}

/// The loss was once reported by the answer of the step alone, and forgotten with it: two members then handled the shard.
#[test]
fn a_loss_that_is_read_before_a_write_fails_is_a_change_all_the_same() {
    let mut group = Group::new(1);
    group.step("a", 0.0, &[]);
    group.step("b", 0.1, &[]);
    assert_eq!(group.step("b", 11.0, &[]).gained, [0]);
    let now = group.start + 12 * SECOND;
    let a = group.members.get_mut("a").unwrap();
    a.read(now, &group.table);
    // The write fails. The next step finds nothing new in the table.
    a.read(now + SECOND, &group.table);
    assert_eq!(a.changes(&group.known["a"]).lost, [0]);
}
