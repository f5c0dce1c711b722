//! Dead letters of consumers in the table: clocks that are set back, and rows that cannot be read.

use std::time::Duration;

use buttress_durable::consume::{
    DeadLetters, Letter, LetterClaim, LetterId, LetterPage, Reason, ReplayId, Select,
};

use crate::db::{Db, HOUR, NANO, on_each_database};

const LEASE: Duration = Duration::from_secs(30);

on_each_database! {
    events_2_16_a_claim_ends_after_its_lease_although_the_clock_was_set_back
    events_2_16_a_live_claim_that_renews_lasts_although_the_clock_was_set_back
    a_letter_that_cannot_be_read_hides_no_other
    a_group_without_a_name_is_refused
}

async fn bury<S: DeadLetters>(store: &S, numbers: impl IntoIterator<Item = u128>) {
    for number in numbers {
        let id = LetterId::new(number);
        let letter = Letter::new(id, "billing", "orders", "order-7", Reason::Exhausted);
        store.bury_letter(&letter).await.unwrap();
    }
}

async fn claim<S: DeadLetters>(store: &S, claim: u128) -> Vec<u128> {
    let page = LetterPage::first("billing", &Select::All, 9);
    let claimed =
        store.claim_letters(LetterClaim::new(page, ReplayId::new(claim), LEASE)).await.unwrap();
    claimed.iter().map(|letter| letter.id.get()).collect()
}

async fn events_2_16_a_claim_ends_after_its_lease_although_the_clock_was_set_back<D: Db>(db: D) {
    let (store, other) = (db.store(), db.another().await);
    bury(store, [1]).await;
    assert_eq!(claim(store, 1).await, [1]);
    db.time().set_skew(-HOUR);
    assert_eq!(claim(&other, 2).await, []);
    db.time().advance(LEASE - NANO);
    assert_eq!(claim(&other, 3).await, []);
    db.time().advance(NANO);
    assert_eq!(claim(&other, 4).await, [1]);
}

async fn events_2_16_a_live_claim_that_renews_lasts_although_the_clock_was_set_back<D: Db>(db: D) {
    let (store, other) = (db.store(), db.another().await);
    bury(store, [1]).await;
    assert_eq!(claim(store, 1).await, [1]);
    let held = [buttress_durable::consume::Replay::new(ReplayId::new(1), LetterId::new(1))];
    for skew in [-HOUR, -2 * HOUR] {
        db.time().set_skew(skew);
        for _ in 0..4 {
            assert_eq!(claim(&other, 2).await, []);
            db.time().advance(LEASE / 3);
            assert_eq!(store.renew_replays(&held, LEASE).await.unwrap(), [true]);
        }
        assert_eq!(store.purge_letters("billing", Duration::ZERO, 9).await.unwrap(), 0);
    }
}

async fn a_letter_that_cannot_be_read_hides_no_other<D: Db>(db: D) {
    let store = db.store();
    bury(store, 1..=5).await;
    for (number, damage) in
        [(2, "reason = 'of a later release'"), (3, "attempts = -1"), (4, "headers = key")]
    {
        let id = D::id_literal(number);
        let sql = format!("UPDATE {{s}}buttress_dead_letter SET {damage} WHERE id = {id}");
        assert_eq!(db.execute(&sql).await, 1);
    }
    let list = async |limit, after| {
        let page = LetterPage::first("billing", &Select::All, limit).after(after);
        let letters = store.list_letters(page).await.unwrap();
        letters.iter().map(|letter| (letter.id.get(), letter.sequence)).collect::<Vec<_>>()
    };
    let all = list(9, 0).await;
    assert_eq!(all.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 5]);
    assert_eq!(list(2, 0).await, all, "a page is filled, so the list does not end early");
    assert_eq!(list(1, all[0].1).await, all[1..]);
    assert_eq!(claim(store, 1).await, [1, 5]);
    let ids = [2, 3, 4].map(LetterId::new);
    assert_eq!(store.remove_letters(&ids).await.unwrap(), 3, "an operator can remove them");
}

async fn a_group_without_a_name_is_refused<D: Db>(db: D) {
    for group in ["", "a\0b", &"g".repeat(513)] {
        let letter = Letter::new(LetterId::new(1), group, "orders", "", Reason::Poison);
        let error = db.store().bury_letter(&letter).await.unwrap_err();
        assert_eq!(error.kind(), buttress::StoreErrorKind::Invalid);
        assert!(error.to_string().contains("group"), "{error}");
    }
}

#[cfg(feature = "postgres")]
mod locked {
    use buttress_sqlx::PostgresStore;
    use sqlx::AssertSqlSafe;

    use super::*;
    use crate::db::{Postgres, on_postgres};

    async fn claim_of(store: &PostgresStore, group: &str, claim: u128) -> Vec<u128> {
        let page = LetterPage::first(group, &Select::All, 9);
        let claim = LetterClaim::new(page, ReplayId::new(claim), LEASE);
        let claimed = store.claim_letters(claim).await.unwrap();
        claimed.iter().map(|letter| letter.id.get()).collect()
    }

    /// A claim that skipped the locked letter would claim the letter behind it, and overtake it.
    #[tokio::test]
    async fn events_2_16_a_claim_waits_for_a_locked_letter_and_stalls_only_its_group() {
        let test = "events_2_16_a_claim_waits_for_a_locked_letter_and_stalls_only_its_group";
        on_postgres(test, async |db: Postgres| {
            let (store, other) = (db.store.clone(), db.another().await);
            bury(&store, 1..=2).await;
            let mail =
                Letter::new(LetterId::new(3), "mail", "orders", "order-7", Reason::Exhausted);
            store.bury_letter(&mail).await.unwrap();
            // A process that is stopped while it writes the first letter.
            let mut stopped = db.pool.begin().await.unwrap();
            let id = Postgres::id_literal(1);
            let lock = db
                .sql("SELECT FROM {s}buttress_dead_letter WHERE id = {id} FOR UPDATE")
                .replace("{id}", &id);
            sqlx::query(AssertSqlSafe(lock)).execute(&mut *stopped).await.unwrap();
            let goes_on = async {
                let claimed = claim_of(&other, "mail", 3).await;
                stopped.rollback().await.unwrap();
                claimed
            };
            let first = claim_of(&store, "billing", 1);
            let second = claim_of(&store, "billing", 2);
            let (first, second, mail) = tokio::join!(first, second, goes_on);
            assert_eq!(mail, [3]);
            let mut claims = [first, second];
            claims.sort_unstable();
            assert_eq!(claims, [vec![], vec![1, 2]], "both letters for one replay");
        })
        .await;
    }

    /// Idle consumers ask for due letters all the time.
    #[tokio::test]
    async fn events_2_16_a_poll_that_finds_no_due_letter_waits_for_no_claim_of_its_group() {
        let test = "events_2_16_a_poll_that_finds_no_due_letter_waits_for_no_claim_of_its_group";
        on_postgres(test, async |db: Postgres| {
            let (store, other) = (db.store.clone(), db.another().await);
            bury(&store, 1..=2).await;
            let mut stopped = db.pool.begin().await.unwrap();
            let sql = db.sql("SELECT FROM {s}buttress_dead_letter FOR UPDATE");
            sqlx::query(AssertSqlSafe(sql)).execute(&mut *stopped).await.unwrap();
            let polls = async {
                let due = Select::Due(Duration::from_secs(4_000_000_000));
                for claim in 2..=9 {
                    let page = LetterPage::first("billing", &due, 9);
                    let claim = LetterClaim::new(page, ReplayId::new(claim), LEASE);
                    assert!(other.claim_letters(claim).await.unwrap().is_empty());
                }
                stopped.rollback().await.unwrap();
            };
            let (claimed, ()) = tokio::join!(claim_of(&store, "billing", 1), polls);
            assert_eq!(claimed, [1, 2]);
        })
        .await;
    }
}
