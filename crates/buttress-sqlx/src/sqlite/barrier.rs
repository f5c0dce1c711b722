//! The barrier on SQLite.

use buttress_durable::Answer;
use buttress_durable::saga::{Barrier, Passage, SagaId};
use sqlx::sqlite::SqliteConnection;

use super::SqliteStore;
use super::begin::InTransaction;
use super::rows::bytes_of_id;
use crate::bounds::check_name;
use crate::error::during;
use crate::saga::barrier::{action, undo};

/// `Tx` is a [`SqliteTransaction`](crate::SqliteTransaction), or a transaction of sqlx.
impl<Tx: InTransaction> Barrier<Tx> for SqliteStore {
    async fn action(&self, tx: &mut Tx, saga: SagaId, step: &str) -> Answer<Passage> {
        let sql = "INSERT INTO buttress_inbox_step (saga, step, state, actions, undos, received_at) \
                   VALUES (?, ?, 1, 1, 0, ?) ON CONFLICT (saga, step) DO UPDATE \
                   SET actions = actions + (actions BETWEEN 0 AND 1000000), \
                       received_at = max(received_at, excluded.received_at) \
                   RETURNING state, actions";
        let of = (saga, step, self.now());
        action(saga, step, count(tx.connection(), "passing an action", sql, of).await?)
    }

    async fn undo(&self, tx: &mut Tx, saga: SagaId, step: &str) -> Answer<Passage> {
        let sql = "INSERT INTO buttress_inbox_step (saga, step, state, actions, undos, received_at) \
                   VALUES (?, ?, 3, 0, 1, ?) ON CONFLICT (saga, step) DO UPDATE \
                   SET undos = undos + (undos BETWEEN 0 AND 1000000), \
                       received_at = max(received_at, excluded.received_at), \
                       state = CASE state WHEN 1 THEN 2 ELSE state END RETURNING state, undos";
        let of = (saga, step, self.now());
        undo(saga, step, count(tx.connection(), "passing an undo", sql, of).await?)
    }
}

/// Counts an action or an undo. Returns the state and the count.
async fn count(
    tx: &mut SqliteConnection,
    what: &str,
    sql: &'static str,
    (saga, step, now): (SagaId, &str, i64),
) -> Answer<(i64, i64)> {
    check_name("step", step)?;
    let query = sqlx::query_as(sql).bind(bytes_of_id(saga.get())).bind(step).bind(now);
    query.fetch_one(tx).await.map_err(during(what))
}
