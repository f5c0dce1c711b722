//! Letters that are written, listed, counted and removed.

use super::*;

pub(super) async fn all<S: DeadLetters>(harness: &impl Harness<S>) {
    cases!(harness:
        a_letter_comes_back_whole,
        a_repeated_write_is_one_letter,
        letters_are_listed_in_order_by_page,
        letters_are_selected_by_id_reason_and_due_time,
        a_letter_holds_its_key_for_its_group,
        letters_are_counted_by_group,
        letters_are_removed_by_id,
        only_old_letters_are_purged,
        an_operation_that_is_never_polled_has_no_effect,
    );
}

async fn a_letter_comes_back_whole<S: DeadLetters>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    let plain = letter("billing", u128::MAX, Reason::Exhausted);
    let texts = ["", "\u{e9}\u{1f680}", "a\0b", &"k".repeat(5000)];
    for (number, text) in (1..).zip(texts) {
        let mut written = letter("billing", number, Reason::Delayed);
        (written.key, written.topic) = (text.to_owned(), text.to_owned());
        written.payload = vec![0, 255, 10];
        written.headers = vec![(text.to_owned(), text.to_owned()), ("x".to_owned(), String::new())];
        written.holds_key = true;
        written.due_at = Some(Duration::from_nanos(1_800_000_000_123_456_789));
        bury(&store, &written).await;
        let mut empty = letter("billing", 100 + number, Reason::Rejected);
        (empty.payload, empty.error, empty.attempts) = (Vec::new(), String::new(), 0);
        bury(&store, &empty).await;
        for written in [written, empty] {
            let found = find(&store, written.id.get()).await;
            assert_eq!(found, with(written, |letter| letter.sequence = found.sequence));
        }
    }
    bury(&store, &plain).await;
    for reason in Reason::ALL {
        let number = 1000 + reason as u128;
        bury(&store, &letter("billing", number, reason)).await;
        assert_eq!(find(&store, number).await.reason, reason);
    }
    let reopened = harness.reopen(&store).await;
    assert_eq!(find(&reopened, u128::MAX).await.payload, plain.payload);
    let large =
        with(letter("billing", 2000, Reason::Poison), |large| large.payload = vec![7; 10 << 20]);
    bury(&store, &large).await;
    assert!(find(&store, 2000).await.payload == large.payload, "10 MiB");
}

async fn a_repeated_write_is_one_letter<S: DeadLetters>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    let first = letter("billing", 1, Reason::Exhausted);
    bury(&store, &first).await;
    assert_eq!(claim(&store, 7, 9).await, [1]);
    // The answer was lost, and the write is repeated after another consumer has claimed the letter.
    let again = with(first.clone(), |letter| letter.error = "other".to_owned());
    bury(&store, &again).await;
    let found = list(&store, Select::All).await;
    assert_eq!((found.len(), &*found[0].error, found[0].replays), (1, "away", 1));
    assert_eq!(claim(&store, 8, 9).await, [], "the claim lasts");
}

async fn letters_are_listed_in_order_by_page<S: DeadLetters>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    let order = [5, 3, 9, 1, 7];
    for number in order {
        bury(&store, &letter("billing", number, Reason::Exhausted)).await;
        bury(&store, &letter("mail", 100 + number, Reason::Exhausted)).await;
    }
    let select = Select::All;
    let mut page = LetterPage::first("billing", &select, 2);
    let mut seen = Vec::new();
    loop {
        let letters = expect(store.list_letters(page).await, "list_letters");
        assert!(letters.len() <= 2);
        let Some(last) = letters.last() else { break };
        assert!(last.sequence > page.after);
        page = page.after(last.sequence);
        seen.extend(numbers(&letters));
        // A letter that is removed between two pages does not end the list.
        let removed = store.remove_letters(&[last.id]).await;
        assert_eq!(expect(removed, "remove_letters"), 1);
    }
    assert_eq!(seen, order, "the order in which they died");
    assert_eq!(expect(store.list_letters(page).await, "list_letters"), []);
    let none = LetterPage::first("mail", &select, 0);
    assert_eq!(expect(store.list_letters(none).await, "list_letters"), []);
}

async fn letters_are_selected_by_id_reason_and_due_time<S: DeadLetters>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    for (number, reason, due) in [
        (1, Reason::Exhausted, None),
        (2, Reason::Delayed, Some(100)),
        (3, Reason::Rejected, None),
        (4, Reason::Delayed, Some(50)),
        (5, Reason::Exhausted, None),
    ] {
        let due_at = due.map(Duration::from_secs);
        bury(&store, &with(letter("billing", number, reason), |letter| letter.due_at = due_at))
            .await;
    }
    let select = async |select| numbers(&list(&store, select).await);
    let ids = [5, 99, 2].map(LetterId::new).to_vec();
    assert_eq!(select(Select::Ids(ids)).await, [2, 5]);
    assert_eq!(select(Select::Ids(Vec::new())).await, []);
    assert_eq!(select(Select::Reason(Reason::Exhausted)).await, [1, 5]);
    assert_eq!(select(Select::Reason(Reason::Poison)).await, []);
    assert_eq!(select(Select::All).await, [1, 2, 3, 4, 5]);
    let due = |seconds| Select::Due(Duration::from_secs(seconds));
    for (at, expected) in [(49, vec![]), (50, vec![4]), (99, vec![4]), (100, vec![2, 4])] {
        assert_eq!(select(due(at)).await, expected, "at {at} s");
    }
    let due = due(60);
    let page = LetterPage::first("billing", &due, 9);
    let claimed =
        expect(store.claim_letters(LetterClaim::new(page, ReplayId::new(1), LEASE)).await, "claim");
    assert_eq!(numbers(&claimed), [4]);
    let exhausted = Select::Reason(Reason::Exhausted);
    let page = LetterPage::first("billing", &exhausted, 1);
    let claimed =
        expect(store.claim_letters(LetterClaim::new(page, ReplayId::new(2), LEASE)).await, "claim");
    assert_eq!(numbers(&claimed), [1]);
    let after = LetterPage::first("billing", &Select::All, 9).after(claimed[0].sequence);
    let claimed = expect(
        store.claim_letters(LetterClaim::new(after, ReplayId::new(3), LEASE)).await,
        "claim",
    );
    assert_eq!(numbers(&claimed), [2, 3, 5], "after the first, without those that are claimed");
}

async fn a_letter_holds_its_key_for_its_group<S: DeadLetters>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    let holds =
        async |group: &str, key: &str| expect(store.holds_key(group, key).await, "holds_key");
    bury(&store, &letter("billing", 1, Reason::Exhausted)).await;
    assert!(!holds("billing", "key-1").await, "it does not hold its key");
    let long = "k".repeat(5000);
    for (number, key) in (2..).zip(["order-7", "", "a\0b", &long]) {
        let holding = with(letter("billing", number, Reason::Parked), |letter| {
            (letter.holds_key, letter.key) = (true, key.to_owned());
        });
        bury(&store, &holding).await;
        assert!(holds("billing", key).await, "{key}");
        assert!(!holds("mail", key).await, "{key}");
    }
    assert!(!holds("billing", "order-8").await);
    assert!(!holds("billing", "a").await);
    let ids = [LetterId::new(2)];
    assert_eq!(expect(store.remove_letters(&ids).await, "remove_letters"), 1);
    assert!(!holds("billing", "order-7").await);
}

async fn letters_are_counted_by_group<S: DeadLetters>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    let count = async |group: &str| expect(store.letter_backlog(group).await, "letter_backlog");
    assert_eq!(count("billing").await, Default::default());
    bury_some(&store, 3).await;
    bury(&store, &letter("mail", 10, Reason::Exhausted)).await;
    for number in [4, 6] {
        let holding = with(letter("billing", number, Reason::Delayed), |letter| {
            (letter.holds_key, letter.due_at) = (true, Some(LEASE));
            letter.key = "order-7".to_owned();
        });
        bury(&store, &holding).await;
    }
    let counted = count("billing").await;
    assert_eq!((counted.letters, counted.delayed, counted.held_keys), (5, 2, 1));
    let before = counted.oldest_age;
    harness.advance(LEASE).await;
    assert_eq!(count("billing").await.oldest_age.saturating_sub(before), LEASE);
    assert_eq!(count("mail").await.letters, 1);
}

async fn letters_are_removed_by_id<S: DeadLetters>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    bury_some(&store, 4).await;
    assert_eq!(claim(&store, 1, 1).await, [1]);
    let remove = async |ids: &[u128]| {
        let ids: Vec<_> = ids.iter().copied().map(LetterId::new).collect();
        expect(store.remove_letters(&ids).await, "remove_letters")
    };
    assert_eq!(remove(&[]).await, 0);
    assert_eq!(remove(&[1, 3, 99]).await, 2, "also a claimed one");
    assert_eq!(remove(&[1, 3]).await, 0);
    assert_eq!(numbers(&list(&store, Select::All).await), [2, 4]);
}

async fn only_old_letters_are_purged<S: DeadLetters>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    let count = async || expect(store.letter_backlog("billing").await, "letter_backlog");
    bury(&store, &letter("billing", 1, Reason::Exhausted)).await;
    let age = count().await.oldest_age;
    let died_at = letter("billing", 1, Reason::Exhausted).died_at + LEASE;
    let young = letter("billing", 2, Reason::Exhausted);
    bury(&store, &with(young, |letter| letter.died_at = died_at)).await;
    let delayed = letter("billing", 3, Reason::Delayed);
    bury(&store, &with(delayed, |letter| letter.due_at = Some(died_at))).await;
    bury(&store, &letter("mail", 4, Reason::Exhausted)).await;
    for number in 5..=8 {
        bury(&store, &letter("billing", number, Reason::Exhausted)).await;
    }
    let claimed = Select::Ids(vec![LetterId::new(5)]);
    let page = LetterPage::first("billing", &claimed, 9);
    expect(
        store.claim_letters(LetterClaim::new(page, ReplayId::new(1), 100 * LEASE)).await,
        "claim_letters",
    );
    let purge =
        async |age, limit| expect(store.purge_letters("billing", age, limit).await, "purge");
    assert_eq!(purge(age + LEASE, 9).await, 0, "no letter is that old");
    harness.advance(LEASE - super::super::GRAIN).await;
    assert_eq!(purge(age + LEASE, 9).await, 0);
    harness.advance(super::super::GRAIN).await;
    assert_eq!(purge(age + LEASE, 2).await, 2, "the requested number");
    assert_eq!(purge(age + LEASE, 9).await, 2);
    let left = numbers(&list(&store, Select::All).await);
    assert_eq!(left, [2, 3, 5], "young, with a due time, claimed");
    assert_eq!(renew(&store, &[replay(1, 5)], Duration::ZERO).await, [true]);
    assert_eq!(purge(age, 9).await, 2);
    assert_eq!(expect(store.letter_backlog("mail").await, "letter_backlog").letters, 1);
}

async fn an_operation_that_is_never_polled_has_no_effect<S: DeadLetters>(
    harness: &impl Harness<S>,
) {
    let store = harness.fresh().await;
    let one = letter("billing", 1, Reason::Exhausted);
    drop(store.bury_letter(&one));
    assert_eq!(list(&store, Select::All).await, []);
    bury(&store, &one).await;
    let page = LetterPage::first("billing", &Select::All, 9);
    drop(store.claim_letters(LetterClaim::new(page, ReplayId::new(1), LEASE)));
    assert_eq!(claim(&store, 2, 9).await, [1]);
    let ids = [one.id];
    drop(store.renew_replays(&[replay(2, 1)], Duration::ZERO));
    drop(store.rebury_letter(ReplayId::new(2), &one));
    assert_eq!(claim(&store, 3, 9).await, []);
    drop(store.resolve_letter(replay(2, 1)));
    drop(store.remove_letters(&ids));
    harness.advance(LEASE).await;
    drop(store.purge_letters("billing", Duration::ZERO, 9));
    assert_eq!(list(&store, Select::All).await.len(), 1);
}
