//! Moves of sagas to another version of their definition.

use buttress::StoreError;
use buttress_durable::Answer;
use buttress_durable::saga::{Moved, NewLog, WorkerId};
use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;

use super::append::cells;
use super::{find, lines, shorten};
use crate::error::failed;
use crate::number::signed;
use crate::saga::migration::{self, Found};
use crate::saga::{FIRST, WAITING, beginning};
use crate::sqlite::SqliteStore;
use crate::sqlite::rows::bytes_of_id;
use crate::sqlite::values::Cell::{Int, Null};
use crate::sqlite::values::Values;
use crate::time::nanos;

impl SqliteStore {
    pub(super) async fn move_saga(&self, mut log: NewLog<Vec<u8>>) -> Answer<Moved> {
        migration::prepare(&mut log)?;
        let what = "migrating a saga";
        self.bounded(what, async {
            let mut tx = self.begin().await?;
            let now = self.now();
            shorten(&mut tx, now).await.map_err(|error| failed(what, error))?;
            let head = find(&mut tx, log.saga).await.map_err(|error| failed(what, error))?;
            let moved = match head.transpose()? {
                None => Moved::Gone,
                Some(head) => match migration::find(&log, &head)? {
                    Found::Refused(answer) => answer,
                    Found::After => {
                        let lines = lines(&mut tx, head.number).await?;
                        migration::repeated(&log, &head, &lines.map_err(StoreError::corrupt)?)
                    }
                    Found::AsLoaded { runs } => {
                        let is_live: bool = sqlx::query_scalar(
                            "SELECT EXISTS (SELECT 1 FROM buttress_saga_worker \
                             WHERE worker = ?1 AND until > ?2)",
                        )
                        .bind(bytes_of_id(head.worker.get()))
                        .bind(now)
                        .fetch_one(&mut **tx)
                        .await
                        .map_err(|error| failed(what, error))?;
                        if runs && is_live {
                            Moved::Owned
                        } else {
                            let replaced = replace(&mut tx, head.number, &log, now).await;
                            replaced.map_err(|error| failed(what, error))?;
                            Moved::Moved
                        }
                    }
                },
            };
            tx.commit().await?;
            Ok(moved)
        })
        .await
    }
}

/// Replaces the log of a saga, under the next epoch.
async fn replace(
    tx: &mut SqliteConnection,
    number: i64,
    log: &NewLog<Vec<u8>>,
    now: i64,
) -> sqlx::Result<()> {
    // The first entry stays, with its time.
    sqlx::query("DELETE FROM buttress_saga_entry WHERE saga = ?1 AND position > ?2")
        .bind(number)
        .bind(FIRST)
        .execute(&mut *tx)
        .await?;
    sqlx::query(
        "UPDATE buttress_saga_entry SET payload = ?3, note = ?4 WHERE saga = ?1 AND position = ?2",
    )
    .bind(number)
    .bind(FIRST)
    .bind(&log.beginning.input[..])
    .bind(beginning::note(&log.beginning))
    .execute(&mut *tx)
    .await?;
    let mut lines = Values::new(7);
    for ((position, entry), time) in (0..).zip(&log.entries).zip(&log.times) {
        let [saga, position, kind, step, payload, note] = cells(number, position, entry);
        let time = time.map_or(Null, |time| Int(nanos(time)));
        lines.row([saga, position, kind, step, payload, note, time]);
    }
    let insert = "WITH new(saga, position, kind, step, payload, note, recorded_at) AS (VALUES {values}) \
                  INSERT INTO buttress_saga_entry (saga, position, kind, step, payload, note, recorded_at) \
                  SELECT * FROM new WHERE saga IS NOT NULL";
    lines.execute(&mut *tx, insert).await?;
    let update = AssertSqlSafe(format!(
        "UPDATE buttress_saga SET version = ?2, epoch = epoch + 1, length = ?3, worker = ?4, \
             due_at = CASE WHEN {WAITING} THEN ?5 ELSE due_at END, \
             due_length = CASE WHEN {WAITING} THEN 0 ELSE due_length END \
         WHERE number = ?1"
    ));
    sqlx::query(update)
        .bind(number)
        .bind(i64::from(log.to))
        .bind(signed(log.entries.len() as u64))
        .bind(bytes_of_id(WorkerId::NOBODY.get()))
        .bind(now)
        .execute(tx)
        .await
        .map(drop)
}
