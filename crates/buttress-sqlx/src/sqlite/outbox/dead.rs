//! Dead letters, and the operations on them.

use buttress_durable::Answer;
use buttress_durable::outbox::{DeadLetter, MessageId};
use sqlx::AssertSqlSafe;

use super::pack_of_ids;
use crate::error::during;
use crate::number::{self, signed};
use crate::outbox::{COLUMNS, letter};
use crate::sqlite::SqliteStore;

/// The dead letters among the ids in `?1` and `?2`.
const CHOSEN: &str = "status = 3 AND id IN (SELECT substr(?2, value ->> 0, 16) FROM json_each(?1))";

pub(super) async fn list(store: &SqliteStore, after: u64, limit: usize) -> Answer<Vec<DeadLetter>> {
    let what = during("listing dead letters");
    let sql = AssertSqlSafe(format!(
        "SELECT {COLUMNS}, coalesce(error, ''), coalesce(settled_at, 0), \
         EXISTS (SELECT 1 FROM buttress_outbox_hold AS h WHERE h.partition = m.partition \
                 AND h.key = m.key AND h.sequence = m.sequence) \
         FROM buttress_outbox AS m WHERE status = 3 AND sequence > ? ORDER BY sequence LIMIT ?"
    ));
    let rows = sqlx::query(sql)
        .bind(signed(after))
        .bind(signed(limit as u64))
        .fetch_all(store.pool())
        .await
        .map_err(what)?;
    rows.iter().map(|row| letter(row).map_err(what)).collect()
}

pub(super) async fn requeue(store: &SqliteStore, ids: &[MessageId]) -> Answer<usize> {
    change(
        store,
        ids,
        format!(
            "UPDATE buttress_outbox SET status = 0, attempts = 0, starts = 0, start = NULL, \
             error = NULL, settled_at = NULL WHERE {CHOSEN}"
        ),
    )
    .await
}

pub(super) async fn discard(store: &SqliteStore, ids: &[MessageId]) -> Answer<usize> {
    change(store, ids, format!("DELETE FROM buttress_outbox WHERE {CHOSEN}")).await
}

/// Releases the keys, and applies `sql` to the messages.
async fn change(store: &SqliteStore, ids: &[MessageId], sql: String) -> Answer<usize> {
    let what = during("changing dead letters");
    let free = format!(
        "DELETE FROM buttress_outbox_hold WHERE (partition, key, sequence) IN \
         (SELECT partition, key, sequence FROM buttress_outbox WHERE {CHOSEN})"
    );
    let pack = pack_of_ids(ids);
    let mut tx = store.begin().await?;
    let mut changed = 0;
    for sql in [free, sql] {
        let query = sqlx::query(AssertSqlSafe(sql)).bind(&pack.json).bind(&pack.blob);
        changed = query.execute(&mut **tx).await.map_err(what)?.rows_affected();
    }
    tx.commit().await?;
    Ok(number::changed(changed))
}
