//! The table's decisions, with explicit times, and a model that keeps every message.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use buttress::VirtualClock;
use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn now() -> Instant {
    VirtualClock::new().clock().now()
}

/// Returns a table that owns `partitions`, and has room for `room` messages.
fn table(partitions: &[i32], room: usize) -> Table<i64> {
    let mut table = Table::new(1000);
    table.assign(partitions);
    table.want(room);
    table
}

fn come(table: &mut Table<i64>, partition: i32, offsets: impl IntoIterator<Item = i64>) {
    offsets.into_iter().for_each(|offset| table.come(partition, offset, offset, 1));
}

fn tokens(table: &mut Table<i64>) -> Vec<Token> {
    let handed = table.hand_out().map(|handed| handed.messages).unwrap_or_default();
    handed.into_iter().map(|(token, _)| token).collect()
}

fn places(tokens: &[Token]) -> Vec<(i32, i64)> {
    tokens.iter().map(|token| (token.partition, token.offset)).collect()
}

#[test]
fn events_2_5_the_position_is_the_lowest_offset_that_is_not_handled() {
    let mut table = table(&[3], 10);
    assert_eq!(table.positions(), [], "nothing came");
    // Offsets have gaps: transactions and compaction leave some out.
    come(&mut table, 3, [5, 6, 9, 10]);
    let held = tokens(&mut table);
    assert_eq!(table.positions(), [], "the group begins at the first one anyway");
    for (settled, position) in [(1, None), (3, None), (0, Some(9)), (2, Some(11))] {
        assert_eq!(table.settle(held[settled], Settle::Done), Answer::Taken);
        let expected: Vec<_> = position.map(|position| (3, position)).into_iter().collect();
        assert_eq!(table.positions(), expected, "after {settled}");
    }
    assert_eq!(table.settle(held[0], Settle::Done), Answer::Taken, "again, without an effect");
    table.committed(&[(3, 11)]);
    assert_eq!(table.positions(), []);
}

#[test]
fn events_2_11_a_returned_message_holds_the_position() {
    let mut table = table(&[0], 10);
    come(&mut table, 0, 0..4);
    let held = tokens(&mut table);
    table.settle(held[1], Settle::Back);
    for done in [0, 2, 3] {
        table.settle(held[done], Settle::Done);
    }
    assert_eq!(table.positions(), [(0, 1)]);
    assert!(table.hand_out().is_none(), "the next owner begins with it");
}

#[test]
fn a_partition_goes_on_within_its_window_while_one_message_waits() {
    let mut table = Table::new(10);
    table.assign(&[0]);
    table.want(100);
    come(&mut table, 0, 0..10);
    let held = tokens(&mut table);
    assert_eq!((held.len(), table.room(0)), (10, 0));
    for token in &held[1..] {
        table.settle(*token, Settle::Done);
    }
    assert_eq!(table.room(0), 0, "the first one is not handled");
    table.settle(held[0], Settle::Done);
    assert_eq!((table.room(0), table.positions()), (10, vec![(0, 10)]));
}

#[test]
fn events_2_13_rooms_are_shared_among_the_partitions_and_bounded_by_bytes() {
    let mut table = table(&[0, 1, 2], 6);
    come(&mut table, 1, 0..20);
    assert_eq!(places(&tokens(&mut table)), [(1, 0), (1, 1)], "a third of the room");
    come(&mut table, 0, 0..20);
    come(&mut table, 2, 0..20);
    let rest = places(&tokens(&mut table));
    assert_eq!(rest, [(2, 0), (0, 0), (2, 1), (0, 1)], "in turns");
    table.want(1);
    assert_eq!(tokens(&mut table), [], "each has its share");
    let before = table.room(0);
    table.come(0, 50, 50, AHEAD_BYTES);
    assert!(before > 0);
    assert_eq!(table.room(0), 0, "too many bytes wait");
    assert!(table.room(9) == 0, "not owned");
}

#[test]
fn a_partition_without_waiting_messages_has_room_whatever_the_bytes_of_others() {
    let mut table = table(&[0, 1], 6);
    table.come(0, 0, 0, 2 * AHEAD_BYTES);
    assert_eq!((table.room(0), table.room(1) > 0), (0, true));
    assert_eq!(tokens(&mut table).len(), 1);
    assert!(table.room(0) > 0);
}

#[test]
fn a_revoked_partition_waits_for_its_messages_until_the_grace_is_over() {
    let (now, mut table) = (now(), table(&[0, 1], 4));
    come(&mut table, 0, 0..4);
    come(&mut table, 1, 0..4);
    let held = tokens(&mut table);
    table.leave(&[0], now + 1500 * MS);
    assert!(!table.has_left(now) && !table.has_left(now + 1499 * MS));
    assert_eq!(table.room(0), 0);
    table.want(4);
    assert_eq!(places(&tokens(&mut table)), [], "1 has its share, and 0 delivers nothing more");
    let of_0: Vec<_> = held.iter().filter(|token| token.partition == 0).copied().collect();
    assert_eq!(table.settle(of_0[0], Settle::Done), Answer::Taken);
    assert!(!table.has_left(now), "one is being handled");
    assert!(table.has_left(now + 1500 * MS), "the time is over");
    assert_eq!(table.settle(of_0[1], Settle::Done), Answer::Taken);
    assert!(table.has_left(now));
    assert_eq!(table.positions(), [(0, 2)]);
    table.remove(&[0]);
    let handed = table.hand_out().unwrap();
    assert_eq!((handed.revoked, handed.messages.len()), (vec![0], 2), "the room is for 1 alone");
    assert_eq!(table.settle(of_0[1], Settle::Done), Answer::Late);
}

#[test]
fn a_partition_that_comes_back_has_a_new_epoch() {
    let mut table = table(&[0], 4);
    come(&mut table, 0, 7..9);
    let early = tokens(&mut table);
    table.remove(&[0]);
    table.assign(&[0]);
    come(&mut table, 0, 7..9);
    let handed = table.hand_out().unwrap();
    assert_eq!((handed.revoked, handed.messages.len()), (vec![0], 2));
    assert_eq!(table.settle(early[0], Settle::Done), Answer::Late);
    assert_eq!(table.positions(), [], "not handled in this epoch");
    assert_eq!(table.settle(handed.messages[0].0, Settle::Done), Answer::Taken);
    assert_eq!(table.positions(), [(0, 8)]);
}

#[test]
fn a_log_that_has_lost_its_end_begins_a_new_epoch() {
    let mut table = table(&[0], 4);
    come(&mut table, 0, 7..9);
    let early = tokens(&mut table);
    come(&mut table, 0, [3]);
    table.want(4);
    let handed = table.hand_out().unwrap();
    assert_eq!((handed.revoked, handed.messages[0].1), (vec![0], 3));
    assert_eq!(table.settle(early[0], Settle::Done), Answer::Late);
}

#[test]
fn messages_of_a_partition_that_is_not_owned_are_dropped() {
    let mut table = table(&[0], 4);
    come(&mut table, 1, 0..4);
    assert!(table.hand_out().is_none() && table.positions().is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Come(i32),
    HandOut(usize),
    Settle(usize, bool),
    Commit,
    Leave(i32),
    Remove(i32),
    Assign(i32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..3).prop_map(Step::Come),
        4 => (0_usize..6).prop_map(Step::HandOut),
        6 => (0_usize..8, prop::bool::weighted(0.9)).prop_map(|(at, done)| Step::Settle(at, done)),
        2 => Just(Step::Commit),
        1 => (0..3).prop_map(Step::Leave),
        1 => (0..3).prop_map(Step::Remove),
        1 => (0..3).prop_map(Step::Assign),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    /// A member that owns a partition begins at the committed position, whatever happened before. No offset below a
    /// committed position is unhandled, and each partition is delivered in order without a gap.
    #[test]
    fn events_2_1_no_position_passes_an_unhandled_message(steps in steps()) {
        let (now, mut table) = (now(), Table::new(5));
        let mut owned: BTreeSet<i32> = BTreeSet::new();
        let (mut next, mut committed) = (BTreeMap::new(), BTreeMap::new());
        let mut handled: BTreeSet<(i32, i64)> = BTreeSet::new();
        let mut delivered: BTreeMap<i32, i64> = BTreeMap::new();
        let mut held: Vec<Token> = Vec::new();
        for step in steps {
            match step {
                Step::Come(partition) if table.room(partition) > 0 => {
                    let offset = *next.get(&partition).unwrap();
                    come(&mut table, partition, [offset]);
                    next.insert(partition, offset + 1);
                }
                Step::Come(_) => {}
                Step::HandOut(room) => {
                    table.want(room);
                    for token in tokens(&mut table) {
                        let expected = delivered.get(&token.partition).copied();
                        prop_assert_eq!(Some(token.offset), expected, "in order, without a gap");
                        delivered.insert(token.partition, token.offset + 1);
                        held.push(token);
                    }
                }
                Step::Settle(at, done) if at < held.len() => {
                    let token = held.swap_remove(at);
                    if done {
                        handled.insert((token.partition, token.offset));
                        table.settle(token, Settle::Done);
                    } else {
                        table.settle(token, Settle::Back);
                    }
                }
                Step::Settle(..) => {}
                Step::Commit => {
                    let positions = table.positions();
                    table.committed(&positions);
                    committed.extend(positions);
                }
                Step::Leave(partition) => table.leave(&[partition], now),
                Step::Remove(partition) => {
                    owned.remove(&partition);
                    table.remove(&[partition]);
                }
                Step::Assign(partition) if owned.insert(partition) => {
                    table.assign(&[partition]);
                    let first = committed.get(&partition).copied().unwrap_or(0);
                    next.insert(partition, first);
                    delivered.insert(partition, first);
                }
                Step::Assign(_) => {}
            }
            for (partition, position) in &committed {
                for offset in 0..*position {
                    prop_assert!(handled.contains(&(*partition, offset)), "{partition}: {offset}");
                }
            }
        }
    }
}
