//! Transactions that are open at the same time.

use buttress_durable::event_store::{
    Advance, Append, Checkpoint, Expected, Position, ProjectionClaim, ProjectorId, Store,
};

use super::super::{Harness, Transactions, both, cases, expect};
use super::{FENCED, LEASE, appended, batch, exactly, order, ordered};

pub(super) async fn all<S: Store + Append<Tx> + Checkpoint<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    cases!(harness:
        events_6_5_an_event_that_commits_late_comes_late,
        events_6_5_a_roll_back_leaves_no_gap,
        events_6_6_an_open_transaction_delays_no_other_event,
        events_6_15_the_version_decides_and_not_who_began_first,
        events_6_8_a_take_over_while_a_commit_is_in_flight,
    );
}

async fn write<S: Append<Tx>, Tx>(store: &S, tx: &mut Tx, of: u32, version: u64, number: u32) {
    let batch = batch(of, exactly(version), &[number]);
    appended(store.append_in(tx, &batch).await, "append_in");
}

async fn events_6_5_an_event_that_commits_late_comes_late<S: Store + Append<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    let mut early = harness.begin(&store).await;
    write(&store, &mut early, 1, 0, 1).await;
    let mut late = harness.begin(&store).await;
    write(&store, &mut late, 2, 0, 2).await;
    harness.commit(late).await;
    assert_eq!(order(&ordered(&store).await), [2]);
    write(&store, &mut early, 3, 0, 3).await;
    harness.commit(early).await;
    // What a reader has seen stays, and the others come after it.
    assert_eq!(order(&ordered(&store).await), [2, 1, 3]);
    assert_eq!(order(&ordered(&harness.reopen(&store).await).await), [2, 1, 3]);
}

async fn events_6_5_a_roll_back_leaves_no_gap<S: Store + Append<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    let (mut seen, mut next) = (Vec::new(), 0);
    for round in 0..6u32 {
        let mut open = Vec::new();
        for of in 0..4u32 {
            let mut tx = harness.begin(&store).await;
            write(&store, &mut tx, 10 * round + of, 0, next).await;
            open.push((tx, next));
            next += 1;
        }
        // Every third is rolled back, and the others commit in another order than they began.
        for (tx, number) in open.into_iter().rev() {
            if number % 3 == 0 {
                harness.roll_back(tx).await;
            } else {
                harness.commit(tx).await;
                seen.push(number);
            }
            let found = order(&ordered(&store).await);
            assert_eq!(found, seen, "each event as soon as it is committed, in one order");
        }
    }
}

async fn events_6_6_an_open_transaction_delays_no_other_event<S: Store + Append<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    let mut open = harness.begin(&store).await;
    write(&store, &mut open, 1, 0, 0).await;
    for number in 1..20 {
        super::append(&store, &batch(100 + number, Expected::New, &[number])).await;
        assert_eq!(order(&ordered(&store).await), (1..=number).collect::<Vec<_>>());
    }
    harness.roll_back(open).await;
    assert_eq!(order(&ordered(&store).await), (1..20).collect::<Vec<_>>());
}

async fn events_6_15_the_version_decides_and_not_who_began_first<S: Store + Append<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    let mut first = harness.begin(&store).await;
    write(&store, &mut first, 1, 0, 1).await;
    let mut second = harness.begin(&store).await;
    write(&store, &mut second, 2, 0, 2).await;
    harness.commit(second).await;
    // The transaction that began first appends the later version.
    write(&store, &mut first, 2, 1, 3).await;
    // No reader has seen an event yet.
    harness.commit(first).await;
    let all = ordered(&store).await;
    let place = |number| order(&all).iter().position(|found| *found == number).unwrap();
    assert!(place(2) < place(3), "{all:?}");
    assert_eq!(all.len(), 3);
}

async fn events_6_8_a_take_over_while_a_commit_is_in_flight<S: Store>(harness: &impl Harness<S>) {
    // Either order is right, but both must agree on it.
    let claim = |worker| ProjectionClaim::new("list", ProjectorId::new(worker), LEASE);
    for _ in 0..20 {
        let store = harness.fresh().await;
        let other = harness.reopen(&store).await;
        let leased = expect(store.lease_projection(claim(1)).await, "lease_projection").unwrap();
        harness.advance(LEASE).await;
        let advance = Advance::new(leased.lease, Position::START, Position::new(5));
        let (moved, taken) =
            both(store.advance_projection(&advance), other.lease_projection(claim(2))).await;
        let checkpoint = expect(taken, "lease_projection").unwrap().checkpoint.get();
        match moved {
            Ok(()) => assert_eq!(checkpoint, 5, "moved before the take-over"),
            Err(error) if error.kind() == FENCED => assert_eq!(checkpoint, 0),
            Err(error) => panic!("advance_projection: {error} ({error:?})"),
        }
    }
}
