//! Cases for [`DeadLetters`].

use std::time::Duration;

use buttress_durable::consume::{
    DeadLetters, Letter, LetterClaim, LetterId, LetterPage, Reason, Replay, ReplayId, Select,
};

use super::{Harness, cases, expect};

mod claims;
mod keeping;
mod keys;

/// Runs every case.
pub async fn all<S: DeadLetters, H: Harness<S>>(harness: &H) {
    keeping::all(harness).await;
    claims::all(harness).await;
    keys::all(harness).await;
}

const LEASE: Duration = Duration::from_secs(30);

/// A letter of `group` with its own key, whose content is its number.
fn letter(group: &str, number: u128, reason: Reason) -> Letter {
    let key = format!("key-{number}");
    let mut letter = Letter::new(LetterId::new(number), group, "orders", key, reason);
    letter.payload = number.to_string().into_bytes();
    letter.error = "away".to_owned();
    letter.attempts = 5;
    letter.died_at = Duration::from_secs(1_700_000_000);
    letter
}

/// Returns `letter` with a change.
fn with(mut letter: Letter, change: impl FnOnce(&mut Letter)) -> Letter {
    change(&mut letter);
    letter
}

async fn bury<S: DeadLetters>(store: &S, letter: &Letter) {
    expect(store.bury_letter(letter).await, "bury_letter");
}

/// Buries letters 1 to `last` of billing.
async fn bury_some<S: DeadLetters>(store: &S, last: u128) {
    for number in 1..=last {
        bury(store, &letter("billing", number, Reason::Exhausted)).await;
    }
}

async fn list<S: DeadLetters>(store: &S, select: Select) -> Vec<Letter> {
    expect(store.list_letters(LetterPage::first("billing", &select, 100)).await, "list_letters")
}

async fn find<S: DeadLetters>(store: &S, number: u128) -> Letter {
    let mut found = list(store, Select::Ids(vec![LetterId::new(number)])).await;
    assert_eq!(found.len(), 1, "letter {number}");
    found.remove(0)
}

fn numbers(letters: &[Letter]) -> Vec<u128> {
    letters.iter().map(|letter| letter.id.get()).collect()
}

/// Claims up to `limit` letters of billing as `claim`, and returns their numbers.
async fn claim<S: DeadLetters>(store: &S, claim: u128, limit: usize) -> Vec<u128> {
    claim_of(store, claim, &Select::All, limit).await
}

async fn claim_of<S: DeadLetters>(
    store: &S,
    claim: u128,
    select: &Select,
    limit: usize,
) -> Vec<u128> {
    let page = LetterPage::first("billing", select, limit);
    let claimed = store.claim_letters(LetterClaim::new(page, ReplayId::new(claim), LEASE)).await;
    numbers(&expect(claimed, "claim_letters"))
}

async fn renew<S: DeadLetters>(store: &S, replays: &[Replay], lease: Duration) -> Vec<bool> {
    expect(store.renew_replays(replays, lease).await, "renew_replays")
}

const fn replay(claim: u128, number: u128) -> Replay {
    Replay::new(ReplayId::new(claim), LetterId::new(number))
}
