//! Projections: leases, fences, checkpoints and swaps.

use std::time::Duration;

use buttress_durable::event_store::{
    Advance, Append, Checkpoint, Expected, LONGEST_PROJECTION, Leased, Position, ProjectionClaim,
    ProjectionLease, ProjectorId, Start, Store, Swap,
};

use super::super::{GRAIN, Harness, Transactions, cases, expect, refused};
use super::{CONFLICT, FENCED, INVALID, LEASE, append, batch};

const ONE: ProjectorId = ProjectorId::new(1);
const TWO: ProjectorId = ProjectorId::new(2);

pub(super) async fn all<S: Store + Append<Tx> + Checkpoint<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    cases!(harness:
        events_6_8_one_worker_has_the_lease,
        events_6_8_a_late_commit_is_fenced,
        a_renewal_creates_no_projection,
        a_swap_of_live_effects_skips_no_event,
        a_released_projection_is_free,
        a_checkpoint_moves_from_where_it_is,
        a_checkpoint_moves_with_its_transaction,
        a_projection_begins_where_it_was_told,
        a_swap_replaces_a_projection,
        a_swap_is_fenced,
        a_lease_tells_the_last_replay_and_the_last_swap,
        a_removed_projection_is_fenced,
        the_state_of_projections_has_lag_and_age,
        names_are_bounded,
        an_operation_on_projections_that_is_never_polled_has_no_effect,
    );
}

async fn try_lease<S: Store>(store: &S, name: &str, worker: ProjectorId) -> Option<Leased> {
    let claim = ProjectionClaim::new(name, worker, LEASE);
    expect(store.lease_projection(claim).await, "lease_projection")
}

async fn lease<S: Store>(store: &S, name: &str, worker: ProjectorId) -> Leased {
    try_lease(store, name, worker).await.unwrap()
}

fn advance(lease: &ProjectionLease, from: u64, to: u64) -> Advance {
    Advance::new(lease.clone(), Position::new(from), Position::new(to))
}

async fn moved<S: Store>(store: &S, lease: &ProjectionLease, from: u64, to: u64) {
    let done = store.advance_projection(&advance(lease, from, to)).await;
    expect(done, "advance_projection");
}

async fn events_6_8_one_worker_has_the_lease<S: Store>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    let other = harness.reopen(&store).await;
    let first = lease(&store, "list", ONE).await;
    assert_eq!((first.lease.epoch, first.checkpoint.get(), first.seen.get()), (1, 0, 0));
    assert_eq!((&*first.lease.name, first.lease.worker), ("list", ONE));
    assert_eq!(try_lease(&other, "list", TWO).await, None);
    assert_eq!(lease(&store, "list", ONE).await, first, "renewed under its epoch");
    lease(&other, "totals", TWO).await;
    harness.advance(LEASE - GRAIN).await;
    assert_eq!(try_lease(&other, "list", TWO).await, None);
    harness.advance(GRAIN).await;
    // The lease is over, but no other worker has taken the projection: the owner renews it.
    assert_eq!(lease(&store, "list", ONE).await, first);
    harness.advance(LEASE).await;
    assert_eq!(lease(&other, "list", TWO).await.lease.epoch, 2);
    assert_eq!(try_lease(&store, "list", ONE).await, None);
}

async fn events_6_8_a_late_commit_is_fenced<S: Store + Checkpoint<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    let old = lease(&store, "list", ONE).await.lease;
    moved(&store, &old, 0, 5).await;
    harness.advance(LEASE).await;
    // Late, but no other worker has taken over.
    moved(&store, &old, 5, 7).await;
    let new = lease(&store, "list", TWO).await;
    assert_eq!((new.checkpoint.get(), new.seen.get()), (7, 7));
    refused(store.advance_projection(&advance(&old, 7, 9)).await, FENCED, "advance_projection");
    let mut tx = harness.begin(&store).await;
    refused(store.advance_in(&mut tx, &advance(&old, 7, 9)).await, FENCED, "advance_in");
    harness.roll_back(tx).await;
    let mut tx = harness.begin(&store).await;
    refused(store.advance_in(&mut tx, &advance(&old, 7, 7)).await, FENCED, "a check of the lease");
    harness.roll_back(tx).await;
    moved(&store, &new.lease, 7, 8).await;
    // The old worker gets it back later: its old epoch stays over.
    harness.advance(LEASE).await;
    let again = lease(&store, "list", ONE).await;
    assert_eq!((again.lease.epoch, again.checkpoint.get()), (3, 8));
    refused(store.advance_projection(&advance(&old, 8, 9)).await, FENCED, "advance_projection");
}

async fn a_renewal_creates_no_projection<S: Store>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    let claim = ProjectionClaim::new("list", ONE, LEASE).known_only();
    assert_eq!(expect(store.lease_projection(claim).await, "lease_projection"), None);
    assert_eq!(expect(store.projections().await, "projections"), []);
    let first = lease(&store, "list", ONE).await;
    assert_eq!(expect(store.lease_projection(claim).await, "lease_projection"), Some(first));
    assert!(expect(store.remove_projection("list").await, "remove_projection"));
    assert_eq!(expect(store.lease_projection(claim).await, "lease_projection"), None);
}

async fn a_swap_of_live_effects_skips_no_event<S: Store>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    let mails = lease(&store, "mails", ONE).await.lease;
    moved(&store, &mails, 0, 5).await;
    for (name, at, after) in [("mails-2", 8, 5), ("mails-3", 3, 3)] {
        let built = lease(&store, name, ONE).await.lease;
        moved(&store, &built, 0, at).await;
        let swap = Swap::new(built, Position::new(at), "mails").live_only(true);
        expect(store.swap_projection(&swap).await, "swap_projection");
        let mails = lease(&store, "mails", ONE).await;
        assert_eq!((mails.checkpoint.get(), mails.seen.get()), (after, 5), "{name}");
    }
    let built = lease(&store, "mails-4", ONE).await.lease;
    moved(&store, &built, 0, 4).await;
    let swap = Swap::new(built, Position::new(4), "new").live_only(true);
    expect(store.swap_projection(&swap).await, "swap_projection");
    let new = lease(&store, "new", ONE).await;
    assert_eq!((new.checkpoint.get(), new.seen.get()), (4, 4), "a new name");
}

async fn a_released_projection_is_free<S: Store>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    let old = lease(&store, "list", ONE).await.lease;
    expect(store.release_projection(&old).await, "release_projection");
    refused(store.advance_projection(&advance(&old, 0, 1)).await, FENCED, "advance_projection");
    let new = lease(&store, "list", TWO).await.lease;
    assert_eq!(new.epoch, 2);
    expect(store.release_projection(&old).await, "releasing an old epoch");
    moved(&store, &new, 0, 1).await;
    assert_eq!(try_lease(&store, "list", ONE).await, None, "still leased");
}

async fn a_checkpoint_moves_from_where_it_is<S: Store>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    let own = lease(&store, "list", ONE).await.lease;
    moved(&store, &own, 0, 5).await;
    for (from, to) in [(0, 5), (4, 6), (6, 7), (5, 4)] {
        let result = store.advance_projection(&advance(&own, from, to)).await;
        refused(result, CONFLICT, "advance_projection");
    }
    moved(&store, &own, 5, 5).await;
    assert_eq!(lease(&store, "list", ONE).await.checkpoint.get(), 5);
}

async fn a_checkpoint_moves_with_its_transaction<S: Store + Append<Tx> + Checkpoint<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    let own = lease(&store, "list", ONE).await.lease;
    for commits in [false, true] {
        let mut tx = harness.begin(&store).await;
        let done = store.append_in(&mut tx, &batch(1, Expected::New, &[1])).await;
        super::appended(done, "append_in");
        expect(store.advance_in(&mut tx, &advance(&own, 0, 3)).await, "advance_in");
        if commits {
            harness.commit(tx).await;
        } else {
            harness.roll_back(tx).await;
        }
        let leased = lease(&store, "list", ONE).await;
        assert_eq!(leased.checkpoint.get(), if commits { 3 } else { 0 });
        assert_eq!(super::numbers(&store, 1).await.len(), usize::from(commits));
    }
}

async fn a_projection_begins_where_it_was_told<S: Store>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    append(&store, &batch(1, Expected::New, &[1, 2, 3])).await;
    assert_eq!(super::ordered(&store).await.len(), 3);
    let claim = ProjectionClaim::new("mails", ONE, LEASE).start(Start::Last);
    let leased = expect(store.lease_projection(claim).await, "lease_projection").unwrap();
    assert_eq!((leased.checkpoint.get(), leased.seen.get()), (3, 3));
    let known = ProjectionClaim::new("mails", ONE, LEASE).start(Start::First);
    let leased = expect(store.lease_projection(known).await, "lease_projection").unwrap();
    assert_eq!(leased.checkpoint.get(), 3, "only a new projection begins");
}

async fn a_swap_replaces_a_projection<S: Store + Checkpoint<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    let old = lease(&store, "list", ONE).await.lease;
    moved(&store, &old, 0, 9).await;
    let built = lease(&store, "list-2", TWO).await.lease;
    moved(&store, &built, 0, 7).await;
    let swap = Swap::new(built.clone(), Position::new(7), "list");
    let mut tx = harness.begin(&store).await;
    expect(store.swap_in(&mut tx, &swap).await, "swap_in");
    harness.roll_back(tx).await;
    moved(&store, &old, 9, 10).await;
    let mut tx = harness.begin(&store).await;
    expect(store.swap_in(&mut tx, &swap).await, "swap_in");
    harness.commit(tx).await;
    // The former owner cannot commit, and may take the projection again.
    refused(store.advance_projection(&advance(&old, 10, 11)).await, FENCED, "the old one");
    refused(store.advance_projection(&advance(&built, 7, 8)).await, FENCED, "the built one");
    let again = lease(&store, "list", ONE).await;
    assert_eq!((again.checkpoint.get(), again.seen.get()), (7, 10));
    assert!(again.lease.epoch > old.epoch);
    let names: Vec<String> = expect(store.projections().await, "projections")
        .into_iter()
        .map(|state| state.name)
        .collect();
    assert_eq!(names, ["list"]);
    // A name that the store does not know, in a transaction of the store's.
    let built = lease(&store, "totals-2", TWO).await.lease;
    moved(&store, &built, 0, 4).await;
    let swap = Swap::new(built, Position::new(4), "totals");
    expect(store.swap_projection(&swap).await, "swap_projection");
    let new = lease(&store, "totals", TWO).await;
    assert_eq!((new.checkpoint.get(), new.seen.get()), (4, 4));
}

async fn a_swap_is_fenced<S: Store + Checkpoint<Tx>, Tx>(harness: &impl Transactions<S, Tx>) {
    let store = harness.fresh().await;
    let list = lease(&store, "list", ONE).await.lease;
    let built = lease(&store, "list-2", ONE).await.lease;
    moved(&store, &built, 0, 7).await;
    let swap = |at| Swap::new(built.clone(), Position::new(at), "list");
    refused(store.swap_projection(&swap(6)).await, CONFLICT, "another checkpoint");
    let itself = Swap::new(built.clone(), Position::new(7), "list-2");
    refused(store.swap_projection(&itself).await, INVALID, "a swap with itself");
    harness.advance(LEASE).await;
    lease(&store, "list-2", TWO).await;
    refused(store.swap_projection(&swap(7)).await, FENCED, "a built one of another worker");
    let unknown = Swap::new(built.clone(), Position::new(7), "new");
    refused(store.swap_projection(&unknown).await, FENCED, "of another worker");
    let mut tx = harness.begin(&store).await;
    refused(store.swap_in(&mut tx, &swap(7)).await, FENCED, "swap_in");
    harness.roll_back(tx).await;
    moved(&store, &list, 0, 1).await;
    assert_eq!(expect(store.projections().await, "projections").len(), 2, "no name was made");
}

async fn a_lease_tells_the_last_replay_and_the_last_swap<S: Store + Checkpoint<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    let list = lease(&store, "list", ONE).await;
    assert_eq!((list.replayed.get(), list.rebuilt.get()), (0, 0));
    moved(&store, &list.lease, 0, 5).await;
    let again = |position| advance(&list.lease, 5, 5).replayed(Position::new(position));
    let mut tx = harness.begin(&store).await;
    expect(store.advance_in(&mut tx, &again(2)).await, "advance_in");
    harness.roll_back(tx).await;
    assert_eq!(lease(&store, "list", ONE).await.replayed.get(), 0, "rolled back");
    // Streams are replayed one after the other, so a position may be smaller than the last one.
    for position in [4, 3] {
        let mut tx = harness.begin(&store).await;
        expect(store.advance_in(&mut tx, &again(position)).await, "advance_in");
        harness.commit(tx).await;
        let told = lease(&store, "list", ONE).await;
        assert_eq!((told.replayed.get(), told.checkpoint.get()), (position, 5));
    }
    moved(&store, &list.lease, 5, 6).await;
    assert_eq!(lease(&store, "list", ONE).await.replayed.get(), 3, "other moves keep it");
    let built = lease(&store, "list-2", ONE).await.lease;
    moved(&store, &built, 0, 4).await;
    let swap = Swap::new(built, Position::new(4), "list");
    expect(store.swap_projection(&swap).await, "swap_projection");
    let list = lease(&store, "list", TWO).await;
    assert_eq!((list.checkpoint.get(), list.replayed.get(), list.rebuilt.get()), (4, 3, 4));
}

async fn a_removed_projection_is_fenced<S: Store>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    let old = lease(&store, "list", ONE).await.lease;
    moved(&store, &old, 0, 5).await;
    assert!(expect(store.remove_projection("list").await, "remove_projection"));
    assert!(!expect(store.remove_projection("list").await, "remove_projection"));
    refused(store.advance_projection(&advance(&old, 5, 6)).await, FENCED, "advance_projection");
    expect(store.release_projection(&old).await, "release_projection");
    let new = lease(&store, "list", TWO).await;
    assert_eq!((new.checkpoint.get(), new.seen.get()), (0, 0), "it begins again");
    refused(store.advance_projection(&advance(&old, 0, 6)).await, FENCED, "the same epoch");
}

async fn the_state_of_projections_has_lag_and_age<S: Store>(harness: &impl Harness<S>) {
    const AGE: Duration = Duration::from_secs(60);
    let store = harness.fresh().await;
    append(&store, &batch(1, Expected::New, &[1, 2, 3])).await;
    assert_eq!(super::ordered(&store).await.len(), 3);
    let own = lease(&store, "list", ONE).await.lease;
    let totals = lease(&store, "totals", TWO).await.lease;
    moved(&store, &own, 0, 1).await;
    moved(&store, &totals, 0, 3).await;
    harness.advance(AGE).await;
    let states = expect(store.projections().await, "projections");
    let [list, totals] = &states[..] else { panic!("{states:?}") };
    assert_eq!((&*list.name, &*totals.name), ("list", "totals"));
    assert_eq!((list.checkpoint.get(), list.seen.get(), list.lag), (1, 1, 2));
    assert!(list.age >= AGE && list.age < 2 * AGE, "{list:?}");
    assert!(!list.is_leased, "the lease is over");
    assert_eq!((totals.lag, totals.age), (0, Duration::ZERO));
    lease(&store, "list", TWO).await;
    assert!(expect(store.projections().await, "projections")[0].is_leased);
    let stats = expect(store.event_stats().await, "event_stats");
    assert_eq!((stats.last, stats.unsequenced_age), (3, Duration::ZERO));
}

async fn names_are_bounded<S: Store>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    let longest = "n".repeat(LONGEST_PROJECTION);
    let own = lease(&store, &longest, ONE).await.lease;
    for wrong in [String::new(), format!("{longest}n"), "a\0b".to_owned()] {
        let claim = ProjectionClaim::new(&wrong, ONE, LEASE);
        refused(store.lease_projection(claim).await, INVALID, "lease_projection");
        let swap = Swap::new(own.clone(), Position::START, &*wrong);
        refused(store.swap_projection(&swap).await, INVALID, "swap_projection");
    }
}

async fn an_operation_on_projections_that_is_never_polled_has_no_effect<
    S: Store + Checkpoint<Tx>,
    Tx,
>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    drop(store.lease_projection(ProjectionClaim::new("list", ONE, LEASE)));
    assert_eq!(expect(store.projections().await, "projections"), []);
    let own = lease(&store, "list", ONE).await.lease;
    drop(store.advance_projection(&advance(&own, 0, 5)));
    drop(store.release_projection(&own));
    drop(store.remove_projection("list"));
    let mut tx = harness.begin(&store).await;
    drop(store.advance_in(&mut tx, &advance(&own, 0, 5)));
    harness.commit(tx).await;
    moved(&store, &own, 0, 1).await;
}
