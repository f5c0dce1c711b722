//! Keys that belong to one replay at a time.

use std::collections::BTreeMap;

use super::super::{GRAIN, both};
use super::*;

pub(super) async fn all<S: DeadLetters>(harness: &impl Harness<S>) {
    cases!(harness:
        another_replay_claims_no_letter_of_a_claimed_key,
        a_claim_on_a_later_letter_holds_an_earlier_one,
        each_end_of_a_claim_frees_its_key,
        a_page_is_filled_with_letters_of_other_keys,
        concurrent_claims_share_no_key,
        an_ended_claim_is_not_renewed_while_another_replay_has_its_key,
        of_ended_claims_on_a_key_those_of_one_replay_are_renewed,
        concurrent_renewals_of_ended_claims_share_no_key,
    );
}

/// Buries letters 1, 2, ... of billing with these keys.
async fn bury_keys<S: DeadLetters>(store: &S, keys: &[&str]) {
    for (number, key) in (1..).zip(keys) {
        let letter = letter("billing", number, Reason::Parked);
        bury(store, &with(letter, |letter| letter.key = (*key).to_owned())).await;
    }
}

/// Claims letters by their numbers as `claim`.
async fn claim_ids<S: DeadLetters, const N: usize>(
    store: &S,
    claim: u128,
    ids: [u128; N],
) -> Vec<u128> {
    claim_of(store, claim, &Select::Ids(ids.map(LetterId::new).to_vec()), 9).await
}

async fn another_replay_claims_no_letter_of_a_claimed_key<S: DeadLetters>(
    harness: &impl Harness<S>,
) {
    let store = harness.fresh().await;
    let other = harness.reopen(&store).await;
    bury_keys(&store, &["a", "a", "a", "b", "", ""]).await;
    let mail = with(letter("mail", 9, Reason::Parked), |letter| letter.key = "b".to_owned());
    bury(&store, &mail).await;
    let page = LetterPage::first("mail", &Select::All, 9);
    let claimed = store.claim_letters(LetterClaim::new(page, ReplayId::new(7), LEASE)).await;
    assert_eq!(numbers(&expect(claimed, "claim_letters")), [9]);
    assert_eq!(claim(&store, 1, 1).await, [1]);
    assert_eq!(claim_ids(&other, 2, [5]).await, [5]);
    assert_eq!(claim_ids(&other, 3, [2]).await, []);
    let others = "a key of this group; letters without a key are not held";
    assert_eq!(claim(&other, 4, 9).await, [4, 6], "{others}");
    assert_eq!(claim(&store, 1, 9).await, [1, 2, 3], "the replay itself claims its next page");
    assert_eq!((find(&store, 1).await.replays, find(&store, 3).await.replays), (1, 1));
}

async fn a_claim_on_a_later_letter_holds_an_earlier_one<S: DeadLetters>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    let long = "k".repeat(5000);
    bury_keys(&store, &["a", &long, "a", &long, "a\0b", "a\0b"]).await;
    assert_eq!(claim_ids(&store, 1, [3, 4, 6]).await, [3, 4, 6]);
    assert_eq!(claim(&store, 2, 9).await, []);
    assert_eq!(claim_ids(&store, 3, [1, 2, 5]).await, []);
    assert_eq!(find(&store, 1).await.replays, 0, "it is not counted");
}

async fn each_end_of_a_claim_frees_its_key<S: DeadLetters>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    let other = harness.reopen(&store).await;
    bury_keys(&store, &["a", "a", "a"]).await;
    let failed = with(find(&store, 2).await, |letter| letter.holds_key = true);
    let mut replay_id = 0;
    let mut claimed = async || {
        replay_id += 2;
        assert_eq!(claim_ids(&store, replay_id, [2]).await, [2]);
        assert_eq!(claim(&other, replay_id + 1, 9).await, []);
        replay_id
    };
    let freed = async |by: u128, expected: &[u128]| {
        assert_eq!(claim(&other, by + 1, 9).await, expected);
        let claims: Vec<_> = expected.iter().map(|number| replay(by + 1, *number)).collect();
        assert!(!renew(&other, &claims, Duration::ZERO).await.contains(&false));
    };
    let by = claimed().await;
    expect(store.rebury_letter(ReplayId::new(by), &failed).await, "rebury_letter");
    freed(by, &[1, 2, 3]).await;
    let by = claimed().await;
    assert_eq!(renew(&store, &[replay(by, 2)], Duration::ZERO).await, [true]);
    freed(by, &[1, 2, 3]).await;
    let by = claimed().await;
    harness.advance(LEASE - GRAIN).await;
    assert_eq!(claim(&other, by + 1, 9).await, [], "the lease lasts");
    harness.advance(GRAIN).await;
    freed(by, &[1, 2, 3]).await;
    let by = claimed().await;
    expect(store.resolve_letter(replay(by, 2)).await, "resolve_letter");
    freed(by, &[1, 3]).await;
    assert_eq!(claim_ids(&store, 100, [3]).await, [3]);
    assert_eq!(expect(store.remove_letters(&[LetterId::new(3)]).await, "remove_letters"), 1);
    freed(101, &[1]).await;
}

async fn a_page_is_filled_with_letters_of_other_keys<S: DeadLetters>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    bury_keys(&store, &["a", "a", "a", "b", "b", "c"]).await;
    assert_eq!(claim_ids(&store, 1, [2]).await, [2]);
    assert_eq!(claim(&store, 2, 2).await, [4, 5]);
    assert_eq!(claim(&store, 3, 2).await, [6]);
}

async fn concurrent_claims_share_no_key<S: DeadLetters>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    let other = harness.reopen(&store).await;
    let keys = ["a", "b", "a", "b", "c", "a", "b", "c"];
    bury_keys(&store, &keys).await;
    for round in 0..20 {
        let ids = [2 * round + 1, 2 * round + 2];
        let (one, two) = both(claim(&store, ids[0], 1), claim(&other, ids[1], 3)).await;
        let mut owners = BTreeMap::new();
        for (id, numbers) in ids.iter().zip([&one, &two]) {
            for number in numbers {
                let key = keys[*number as usize - 1];
                assert_eq!(owners.entry(key).or_insert(id), &id, "{key}: {one:?}, {two:?}");
            }
        }
        assert!(!owners.is_empty(), "one of them claims");
        let claims = ids.iter().zip([&one, &two]);
        let claims = claims.flat_map(|(id, of)| of.iter().map(|number| replay(*id, *number)));
        let claims: Vec<_> = claims.collect();
        assert!(!renew(&store, &claims, Duration::ZERO).await.contains(&false));
    }
}

async fn an_ended_claim_is_not_renewed_while_another_replay_has_its_key<S: DeadLetters>(
    harness: &impl Harness<S>,
) {
    let store = harness.fresh().await;
    let other = harness.reopen(&store).await;
    bury_keys(&store, &["a", "a", "b", "", ""]).await;
    assert_eq!(claim_ids(&store, 1, [1, 3, 4]).await, [1, 3, 4]);
    harness.advance(LEASE).await;
    assert_eq!(claim_ids(&other, 2, [2, 5]).await, [2, 5]);
    let ended = [replay(1, 1), replay(1, 3), replay(1, 4)];
    assert_eq!(renew(&store, &ended, LEASE).await, [false, true, true]);
    harness.advance(LEASE - GRAIN).await;
    assert_eq!(renew(&store, &ended, LEASE).await, [false, true, true]);
    assert_eq!(renew(&other, &[replay(2, 2)], LEASE).await, [true], "the owner of the key");
    assert_eq!(renew(&other, &[replay(2, 2)], Duration::ZERO).await, [true]);
    assert_eq!(renew(&store, &ended, LEASE).await, [true; 3], "the key is free");
    assert_eq!(claim_ids(&other, 3, [2]).await, [], "the key is held again");
    harness.advance(LEASE / 2).await;
    assert_eq!(renew(&store, &ended, LEASE).await, [true; 3]);
}

async fn of_ended_claims_on_a_key_those_of_one_replay_are_renewed<S: DeadLetters>(
    harness: &impl Harness<S>,
) {
    let store = harness.fresh().await;
    bury_keys(&store, &["a", "a", "a", "b"]).await;
    assert_eq!(claim_ids(&store, 1, [2]).await, [2]);
    harness.advance(LEASE).await;
    assert_eq!(claim_ids(&store, 2, [1, 3, 4]).await, [1, 3, 4]);
    harness.advance(LEASE).await;
    let ended = [replay(1, 2), replay(2, 4), replay(2, 3), replay(2, 1)];
    assert_eq!(renew(&store, &ended, LEASE).await, [false, true, true, true], "the first letter's");
    assert_eq!(claim(&store, 3, 9).await, []);
}

async fn concurrent_renewals_of_ended_claims_share_no_key<S: DeadLetters>(
    harness: &impl Harness<S>,
) {
    let store = harness.fresh().await;
    let other = harness.reopen(&store).await;
    bury_keys(&store, &["a", "a"]).await;
    for round in 0..10 {
        let (first, second) = (replay(2 * round + 1, 1), replay(2 * round + 2, 2));
        assert_eq!(claim_ids(&store, first.id.get(), [1]).await, [1]);
        harness.advance(LEASE).await;
        assert_eq!(claim_ids(&store, second.id.get(), [2]).await, [2]);
        harness.advance(LEASE).await;
        let (one, two) =
            both(renew(&store, &[first], LEASE), renew(&other, &[second], LEASE)).await;
        assert_eq!([one, two].concat().iter().filter(|renewed| **renewed).count(), 1);
        harness.advance(LEASE).await;
    }
}
