//! Letters that consumers claim for a replay.

use buttress::StoreErrorKind;

use super::super::{GRAIN, both, refused};
use super::*;

pub(super) async fn all<S: DeadLetters>(harness: &impl Harness<S>) {
    cases!(harness:
        a_claim_excludes_others_until_its_end,
        a_repeated_claim_returns_the_same_letters_and_counts_once,
        concurrent_claims_share_the_letters,
        a_renewed_claim_lasts,
        a_claim_that_is_renewed_for_no_time_is_free,
        a_claim_is_fenced_by_the_next_one,
        a_claim_that_has_ended_is_valid_until_the_next_one,
        a_failed_replay_keeps_the_place_and_ends_the_claim,
        a_handled_letter_is_removed_once,
        a_removed_letter_stays_removed,
    );
}

async fn a_claim_excludes_others_until_its_end<S: DeadLetters>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    let other = harness.reopen(&store).await;
    bury_some(&store, 3).await;
    bury(&store, &letter("mail", 9, Reason::Exhausted)).await;
    assert_eq!(claim(&store, 1, 2).await, [1, 2]);
    assert_eq!(claim(&other, 2, 9).await, [3], "another one claims the rest");
    assert_eq!(find(&store, 1).await.replays, 1, "the letter says how often it was claimed");
    harness.advance(LEASE - GRAIN).await;
    assert_eq!(claim(&other, 3, 9).await, []);
    harness.advance(GRAIN).await;
    assert_eq!(claim(&other, 4, 9).await, [1, 2, 3], "at the end of the lease");
    assert_eq!(find(&store, 1).await.replays, 2);
}

async fn a_repeated_claim_returns_the_same_letters_and_counts_once<S: DeadLetters>(
    harness: &impl Harness<S>,
) {
    let store = harness.fresh().await;
    bury_some(&store, 3).await;
    for _ in 0..3 {
        assert_eq!(claim(&store, 1, 2).await, [1, 2]);
        harness.advance(LEASE / 2).await;
    }
    assert_eq!((find(&store, 1).await.replays, find(&store, 3).await.replays), (1, 0));
    assert_eq!(claim(&store, 2, 9).await, [3], "each repetition renews the claim");
}

async fn concurrent_claims_share_the_letters<S: DeadLetters>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    let other = harness.reopen(&store).await;
    bury_some(&store, 40).await;
    let mut claimed = Vec::new();
    for round in 0..4 {
        let (one, two) =
            both(claim(&store, 2 * round + 1, 5), claim(&other, 2 * round + 2, 5)).await;
        claimed.extend(one.into_iter().chain(two));
    }
    claimed.sort_unstable();
    let twice = claimed.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert_eq!(twice, 0, "{claimed:?}");
    // A claim may pass over letters that another one is just claiming.
    for round in 100.. {
        let more = claim(&store, round, 9).await;
        if more.is_empty() {
            break;
        }
        claimed.extend(more);
    }
    assert_eq!(claimed.len(), 40);
}

async fn a_renewed_claim_lasts<S: DeadLetters>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    bury_some(&store, 2).await;
    assert_eq!(claim(&store, 1, 9).await, [1, 2]);
    for _ in 0..3 {
        harness.advance(LEASE - GRAIN).await;
        assert_eq!(renew(&store, &[replay(1, 1)], LEASE).await, [true]);
    }
    assert_eq!(claim(&store, 2, 9).await, [2], "the other one was not renewed");
    let asked = [replay(1, 2), replay(1, 1), replay(9, 1), replay(1, 99), replay(2, 2)];
    assert_eq!(renew(&store, &asked, LEASE).await, [false, true, false, false, true]);
    assert!(renew(&store, &[], LEASE).await.is_empty());
    harness.advance(LEASE - GRAIN).await;
    assert_eq!(claim(&store, 3, 9).await, []);
    assert_eq!(renew(&store, &[replay(1, 1)], 4 * LEASE).await, [true]);
    harness.advance(LEASE).await;
    assert_eq!(claim(&store, 4, 9).await, [2], "each renewal has its own length");
}

async fn a_claim_that_is_renewed_for_no_time_is_free<S: DeadLetters>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    bury_some(&store, 2).await;
    assert_eq!(claim(&store, 1, 9).await, [1, 2]);
    assert_eq!(renew(&store, &[replay(1, 1)], Duration::ZERO).await, [true]);
    assert_eq!(claim(&store, 2, 9).await, [1]);
}

async fn a_claim_is_fenced_by_the_next_one<S: DeadLetters>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    bury_some(&store, 1).await;
    assert_eq!(claim(&store, 1, 9).await, [1]);
    harness.advance(LEASE).await;
    assert_eq!(claim(&store, 2, 9).await, [1]);
    let (old, failed) = (ReplayId::new(1), letter("billing", 1, Reason::Poison));
    let reburied = store.rebury_letter(old, &failed).await;
    refused(reburied, StoreErrorKind::Fenced, "writing under an old claim");
    let resolved = store.resolve_letter(replay(1, 1)).await;
    refused(resolved, StoreErrorKind::Fenced, "removing under an old claim");
    assert_eq!(renew(&store, &[replay(1, 1), replay(2, 1)], LEASE).await, [false, true]);
    let found = find(&store, 1).await;
    assert_eq!((found.reason, found.replays), (Reason::Exhausted, 2));
    expect(store.resolve_letter(replay(2, 1)).await, "the last claim");
}

async fn a_claim_that_has_ended_is_valid_until_the_next_one<S: DeadLetters>(
    harness: &impl Harness<S>,
) {
    let store = harness.fresh().await;
    bury_some(&store, 2).await;
    assert_eq!(claim(&store, 1, 9).await, [1, 2]);
    harness.advance(3 * LEASE).await;
    assert_eq!(renew(&store, &[replay(1, 1)], LEASE).await, [true]);
    expect(store.resolve_letter(replay(1, 2)).await, "resolve_letter");
    assert_eq!(numbers(&list(&store, Select::All).await), [1]);
}

async fn a_failed_replay_keeps_the_place_and_ends_the_claim<S: DeadLetters>(
    harness: &impl Harness<S>,
) {
    let store = harness.fresh().await;
    bury_some(&store, 3).await;
    let before = find(&store, 1).await;
    assert_eq!(claim(&store, 1, 1).await, [1]);
    let failed = with(before.clone(), |letter| {
        (letter.reason, letter.error) = (Reason::Delayed, "busy".to_owned());
        (letter.attempts, letter.replays, letter.holds_key) = (2, 1, true);
        letter.died_at = before.died_at + LEASE;
        letter.due_at = Some(before.died_at + 2 * LEASE);
    });
    // The place and the content stay.
    let other = with(failed.clone(), |letter| {
        (letter.sequence, letter.payload) = (77, b"other".to_vec());
    });
    for _ in 0..2 {
        expect(store.rebury_letter(ReplayId::new(1), &other).await, "the answer was lost");
    }
    assert_eq!(find(&store, 1).await, failed);
    assert_eq!(numbers(&list(&store, Select::All).await), [1, 2, 3]);
    assert!(expect(store.holds_key("billing", "key-1").await, "holds_key"));
    let late = renew(&store, &[replay(1, 1)], LEASE).await;
    assert_eq!(late, [false], "a renewal that comes late does not claim it again");
    assert_eq!(claim(&store, 2, 1).await, [1], "immediately");
    let again = store.rebury_letter(ReplayId::new(1), &failed).await;
    refused(again, StoreErrorKind::Fenced, "writing under an old claim");
    let free = with(failed, |letter| (letter.due_at, letter.holds_key) = (None, false));
    expect(store.rebury_letter(ReplayId::new(2), &free).await, "rebury_letter");
    let found = find(&store, 1).await;
    assert_eq!((found.due_at, found.holds_key), (None, false));
    assert!(!expect(store.holds_key("billing", "key-1").await, "holds_key"));
}

async fn a_handled_letter_is_removed_once<S: DeadLetters>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    bury_some(&store, 2).await;
    assert_eq!(claim(&store, 1, 1).await, [1]);
    for _ in 0..2 {
        expect(store.resolve_letter(replay(1, 1)).await, "the answer was lost");
    }
    assert_eq!(numbers(&list(&store, Select::All).await), [2]);
    let unclaimed = store.resolve_letter(replay(1, 2)).await;
    refused(unclaimed, StoreErrorKind::Fenced, "a letter that was never claimed");
}

async fn a_removed_letter_stays_removed<S: DeadLetters>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    bury_some(&store, 1).await;
    assert_eq!(claim(&store, 1, 1).await, [1]);
    let ids = [LetterId::new(1)];
    assert_eq!(expect(store.remove_letters(&ids).await, "remove_letters"), 1);
    let failed = letter("billing", 1, Reason::Poison);
    let reburied = store.rebury_letter(ReplayId::new(1), &failed).await;
    refused(reburied, StoreErrorKind::Fenced, "a letter that an operator has removed");
    assert_eq!(renew(&store, &[replay(1, 1)], LEASE).await, [false]);
    assert_eq!(list(&store, Select::All).await, []);
}
