//! The pages of sagas on PostgreSQL.

use std::time::Duration;

use buttress_durable::saga::{Store, WorkerId};
use sqlx::Row;

use crate::db::{Postgres, concurrently, on_postgres};
use crate::sagas::{append, new_saga};

const SAGAS: usize = 200;
const APPENDS: u64 = 5;

/// Returns how many changes of sagas the server has counted, and how many of them found room on the page of their row.
async fn changes(db: &Postgres) -> (i64, i64) {
    let counted = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables \
                   WHERE schemaname = $1 AND relname = 'buttress_saga'";
    let row = sqlx::query(counted).bind(&db.schema).fetch_one(&db.pool).await.unwrap();
    (row.get(0), row.get(1))
}

/// Writes sagas side by side. Returns the share of their changes that found room on the page of their row.
async fn share_on_their_pages(db: &Postgres) -> f64 {
    let (all, on_page) = changes(db).await;
    let sagas: Vec<_> = (0..SAGAS).map(|_| new_saga(WorkerId::new(1))).collect();
    for position in 0..=APPENDS {
        let sagas = std::sync::Mutex::new(sagas.iter().cloned());
        concurrently(SAGAS, || {
            let (store, saga) = (db.store.clone(), sagas.lock().unwrap().next().unwrap());
            async move {
                match position {
                    0 => store.create(saga).await,
                    _ => store.append(append(saga.id, 1, position)).await.map(drop),
                }
            }
        })
        .await;
    }
    let written = APPENDS as i64 * SAGAS as i64;
    let clock = buttress::Clock::default();
    let give_up = clock.now() + Duration::from_secs(60);
    loop {
        let (now, on_page_now) = changes(db).await;
        if now - all >= written {
            return (on_page_now - on_page) as f64 / (now - all) as f64;
        }
        // The server counts a change up to some seconds later.
        assert!(clock.now() < give_up, "the server has counted {} of {written} changes", now - all);
        clock.sleep(Duration::from_millis(50)).await;
    }
}

/// A change that finds room on the page of its row writes nothing into the indexes.
#[tokio::test]
async fn most_changes_of_a_saga_find_room_on_its_page() {
    on_postgres("most_changes_of_a_saga_find_room_on_its_page", async |db: Postgres| {
        let mut shares = Vec::new();
        // An old snapshot of another test can keep dead rows on the pages. Then three of the five changes find room, and
        // without free room on the pages about one in ten.
        while shares.len() < 5 {
            shares.push(share_on_their_pages(&db).await);
            if shares.last().is_some_and(|share| *share > 0.5) {
                return;
            }
        }
        panic!("{shares:?}");
    })
    .await;
}
