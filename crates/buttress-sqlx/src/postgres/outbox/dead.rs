//! Dead letters, and the operations on them.

use buttress_durable::Answer;
use buttress_durable::outbox::{DeadLetter, MessageId};

use crate::error::during;
use crate::number::signed;
use crate::outbox::{COLUMNS, letter};
use crate::postgres::PostgresStore;
use crate::postgres::rows::{query, query_scalar, uuid};

pub(super) async fn list(
    store: &PostgresStore,
    after: u64,
    limit: usize,
) -> Answer<Vec<DeadLetter>> {
    let what = during("listing dead letters");
    let sql = store.sql(&format!(
        "SELECT {COLUMNS}, coalesce(error, ''), coalesce(settled_at, 0), \
         EXISTS (SELECT 1 FROM {{s}}buttress_outbox_hold AS h WHERE h.partition = m.partition \
                 AND h.key = m.key AND h.sequence = m.sequence) \
         FROM {{s}}buttress_outbox AS m WHERE status = 3 AND sequence > $1 \
         ORDER BY sequence LIMIT $2"
    ));
    let mut loan = store.borrow().await?;
    let query = query(sql).bind(signed(after)).bind(signed(limit as u64));
    let rows = query.fetch_all(&mut *loan).await.map_err(what)?;
    loan.finish().await?;
    rows.iter().map(|row| letter(row).map_err(what)).collect()
}

pub(super) async fn requeue(store: &PostgresStore, ids: &[MessageId]) -> Answer<usize> {
    let change = "UPDATE {s}buttress_outbox SET status = 0, attempts = 0, starts = 0, \
                  start = NULL, error = NULL, settled_at = NULL";
    change_dead(store, ids, change).await
}

pub(super) async fn discard(store: &PostgresStore, ids: &[MessageId]) -> Answer<usize> {
    change_dead(store, ids, "DELETE FROM {s}buttress_outbox").await
}

/// Applies `change` to dead letters, and releases their keys.
async fn change_dead(store: &PostgresStore, ids: &[MessageId], change: &str) -> Answer<usize> {
    let what = during("changing dead letters");
    let sql = store.sql(&format!(
        "WITH changed AS ({change} WHERE sequence = ANY (ARRAY ( \
             SELECT sequence FROM {{s}}buttress_outbox WHERE status = 3 AND id = ANY ($1) \
             ORDER BY sequence FOR UPDATE)) AND status = 3 \
             RETURNING partition, key, sequence), \
         freed AS (DELETE FROM {{s}}buttress_outbox_hold AS h USING changed AS c \
             WHERE h.partition = c.partition AND h.key = c.key AND h.sequence = c.sequence) \
         SELECT count(*) FROM changed"
    ));
    let ids: Vec<_> = ids.iter().map(|id| uuid(id.get())).collect();
    let mut loan = store.borrow().await?;
    let query = query_scalar(sql).bind(ids);
    let changed: i64 = query.fetch_one(&mut *loan).await.map_err(what)?;
    loan.finish().await?;
    Ok(usize::try_from(changed).unwrap_or(0))
}
