//! The barrier on SQLite.

use buttress::StoreError;
use buttress_durable::saga::{Barrier, Passage, SagaId};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Sqlite, Transaction};

use super::rows::bytes_of_id;
use super::{SqliteStore, SqliteTransaction};
use crate::barrier::{action, undo};
use crate::bounds::check_name;
use crate::error::during;

impl<'a> Barrier<Transaction<'a, Sqlite>> for SqliteStore {
    async fn action(
        &self,
        tx: &mut Transaction<'a, Sqlite>,
        saga: SagaId,
        step: &str,
    ) -> Result<Passage, StoreError> {
        pass_action(tx, self.now(), saga, step).await
    }

    async fn undo(
        &self,
        tx: &mut Transaction<'a, Sqlite>,
        saga: SagaId,
        step: &str,
    ) -> Result<Passage, StoreError> {
        pass_undo(tx, self.now(), saga, step).await
    }
}

impl Barrier<SqliteTransaction> for SqliteStore {
    async fn action(
        &self,
        tx: &mut SqliteTransaction,
        saga: SagaId,
        step: &str,
    ) -> Result<Passage, StoreError> {
        pass_action(tx, self.now(), saga, step).await
    }

    async fn undo(
        &self,
        tx: &mut SqliteTransaction,
        saga: SagaId,
        step: &str,
    ) -> Result<Passage, StoreError> {
        pass_undo(tx, self.now(), saga, step).await
    }
}

async fn pass_action(
    tx: &mut SqliteConnection,
    now: i64,
    saga: SagaId,
    step: &str,
) -> Result<Passage, StoreError> {
    let sql = "INSERT INTO buttress_inbox_step (saga, step, state, actions, undos, received_at) \
               VALUES (?, ?, 1, 1, 0, ?) ON CONFLICT (saga, step) DO UPDATE \
               SET actions = actions + (actions BETWEEN 0 AND 1000000), \
                   received_at = max(received_at, excluded.received_at) RETURNING state, actions";
    action(saga, step, count(tx, "passing an action", sql, (saga, step, now)).await?)
}

async fn pass_undo(
    tx: &mut SqliteConnection,
    now: i64,
    saga: SagaId,
    step: &str,
) -> Result<Passage, StoreError> {
    let sql = "INSERT INTO buttress_inbox_step (saga, step, state, actions, undos, received_at) \
               VALUES (?, ?, 3, 0, 1, ?) ON CONFLICT (saga, step) DO UPDATE \
               SET undos = undos + (undos BETWEEN 0 AND 1000000), \
                   received_at = max(received_at, excluded.received_at), \
                   state = CASE state WHEN 1 THEN 2 ELSE state END RETURNING state, undos";
    undo(saga, step, count(tx, "passing an undo", sql, (saga, step, now)).await?)
}

/// Counts an action or an undo. Returns the state and the count.
async fn count(
    tx: &mut SqliteConnection,
    what: &str,
    sql: &'static str,
    (saga, step, now): (SagaId, &str, i64),
) -> Result<(i64, i64), StoreError> {
    check_name("step", step)?;
    let query = sqlx::query_as(sql).bind(bytes_of_id(saga.get())).bind(step).bind(now);
    query.fetch_one(tx).await.map_err(during(what))
}
