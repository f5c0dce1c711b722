//! The pages of sagas on PostgreSQL.

use std::time::Duration;

use buttress_durable::saga::{Store, WorkerId};
use sqlx::Row;

use crate::db::{Postgres, concurrently, on_postgres};
use crate::sagas::{append, new_saga};

/// A change that finds room on the page of its row writes nothing into the indexes.
#[tokio::test]
async fn most_changes_of_a_saga_find_room_on_its_page() {
    on_postgres("most_changes_of_a_saga_find_room_on_its_page", async |db: Postgres| {
        const SAGAS: usize = 400;
        let sagas: Vec<_> = (0..SAGAS).map(|_| new_saga(WorkerId::new(1))).collect();
        for position in 0..=5 {
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
        let counted = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables \
                       WHERE schemaname = $1 AND relname = 'buttress_saga'";
        // The server counts a change up to some seconds later.
        let hot = loop {
            let query = sqlx::query(counted).bind(&db.schema);
            let row = query.fetch_one(&db.pool).await.unwrap();
            let (all, hot): (i64, i64) = (row.get(0), row.get(1));
            if all >= 5 * SAGAS as i64 {
                break hot as f64 / all as f64;
            }
            buttress::Clock::default().sleep(Duration::from_millis(50)).await;
        };
        assert!(hot > 0.6, "{hot}");
    })
    .await;
}
