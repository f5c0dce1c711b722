//! Sagas that wait for a time.

use buttress_durable::Answer;
use buttress_durable::saga::{Status, TakeOver, TakenOver};
use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;

use super::{json, logs};
use crate::error::failed;
use crate::saga::found::{self, Abandoned};
use crate::saga::{DAMAGED_WAITS, HEAD, WAITING};
use crate::sqlite::SqliteStore;
use crate::sqlite::rows::bytes_of_id;
use crate::time::nanos;

impl SqliteStore {
    pub(super) async fn has_due_wait(&self, name: &str, version: u32) -> Answer<bool> {
        let what = "looking for sagas whose wait is over";
        self.bounded(what, async {
            let sql = AssertSqlSafe(format!(
                "SELECT EXISTS (SELECT 1 FROM buttress_saga INDEXED BY buttress_saga_due \
                 WHERE {WAITING} AND definition = ?1 AND version = ?2 AND due_at <= ?3) \
                 OR EXISTS (SELECT 1 FROM buttress_saga INDEXED BY buttress_saga_due_since \
                 WHERE {WAITING} AND definition = ?1 AND version = ?2 AND due_at - due_length > ?3)"
            ));
            sqlx::query_scalar(sql)
                .bind(name)
                .bind(i64::from(version))
                .bind(self.now())
                .fetch_one(self.pool())
                .await
                .map_err(|error| failed(what, error))
        })
        .await
    }

    pub(super) async fn take_due_waits(&self, sagas: TakeOver<'_>) -> Answer<TakenOver<Vec<u8>>> {
        let what = "taking sagas whose wait is over";
        let TakeOver { worker, definition, version, limit, .. } = sagas;
        self.bounded(what, async {
            let mut tx = self.begin().await?;
            let now = self.now();
            let version = i64::from(version);
            shorten(&mut tx, (definition, version), now)
                .await
                .map_err(|error| failed(what, error))?;
            let sql = AssertSqlSafe(format!(
                "SELECT {HEAD} FROM buttress_saga INDEXED BY buttress_saga_due \
                 WHERE {WAITING} AND definition = ?1 AND version = ?2 AND due_at <= ?3 \
                 ORDER BY due_at LIMIT ?4"
            ));
            let rows = sqlx::query(sql)
                .bind(definition)
                .bind(version)
                .bind(now)
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(&mut **tx)
                .await
                .map_err(|error| failed(what, error))?;
            let all = found::numbers(&rows).map_err(|error| failed(what, error))?;
            let mut found = Abandoned::read(&rows).map_err(|error| failed(what, error))?;
            found.heads.iter_mut().for_each(|head| head.wake());
            let logs =
                logs(&mut tx, &found.numbers()).await.map_err(|error| failed(what, error))?;
            let mut taken = found.taken;
            let sound = found::take(found.heads, logs, now, &mut taken);
            let damaged: Vec<i64> =
                all.into_iter().filter(|number| !sound.contains(number)).collect();
            let wake = AssertSqlSafe(format!(
                "UPDATE buttress_saga SET status = {}, worker = ?2, epoch = epoch + 1 \
                 WHERE number IN (SELECT value FROM json_each(?1))",
                Status::Running.code()
            ));
            sqlx::query(wake)
                .bind(json(&sound))
                .bind(bytes_of_id(worker.get()))
                .execute(&mut **tx)
                .await
                .map_err(|error| failed(what, error))?;
            if !damaged.is_empty() {
                sqlx::query(
                    "UPDATE buttress_saga SET due_at = ?2 + ?3, due_length = ?3 \
                     WHERE number IN (SELECT value FROM json_each(?1))",
                )
                .bind(json(&damaged))
                .bind(now)
                .bind(nanos(DAMAGED_WAITS))
                .execute(&mut **tx)
                .await
                .map_err(|error| failed(what, error))?;
            }
            tx.commit().await?;
            Ok(taken)
        })
        .await
    }
}

/// Shortens waits that end later than their length from now, because the clock was set back. A bounded number: after a large
/// step of the clock the next calls shorten the others.
async fn shorten(
    tx: &mut SqliteConnection,
    (definition, version): (&str, i64),
    now: i64,
) -> sqlx::Result<()> {
    let sql = AssertSqlSafe(format!(
        "UPDATE buttress_saga SET due_at = ?3 + max(due_length, 0) WHERE number IN ( \
         SELECT number FROM buttress_saga INDEXED BY buttress_saga_due_since \
         WHERE {WAITING} AND definition = ?1 AND version = ?2 AND due_at - due_length > ?3 LIMIT 1000)"
    ));
    sqlx::query(sql).bind(definition).bind(version).bind(now).execute(tx).await.map(drop)
}
