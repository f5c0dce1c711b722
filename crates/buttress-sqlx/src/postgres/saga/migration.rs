//! Moves of sagas to another version of their definition.

use buttress::StoreError;
use buttress_durable::Answer;
use buttress_durable::saga::{Moved, NewLog, WorkerId};
use sqlx::postgres::PgConnection;

use super::{find, lines, query, shorten};
use crate::error::during;
use crate::number::signed;
use crate::postgres::PostgresStore;
use crate::postgres::rows::{query_scalar, uuid};
use crate::postgres::sql::Sql;
use crate::saga::migration::{self, Found};
use crate::saga::{FIRST, beginning};
use crate::time::nanos;

impl PostgresStore {
    pub(super) async fn move_saga(&self, mut log: NewLog<Vec<u8>>) -> Answer<Moved> {
        migration::prepare(&mut log)?;
        let text = "migrating a saga";
        let what = during(text);
        let lock = self.sql("SELECT number FROM {s}buttress_saga WHERE id = $1 FOR UPDATE");
        let live = self.sql(
            "SELECT EXISTS (SELECT 1 FROM {s}buttress_saga_worker \
             WHERE worker = $2 AND until > {now})",
        );
        self.bounded(text, async {
            let mut loan = self.borrow().await?;
            let mut tx = loan.begin().await.map_err(what)?;
            let sql = &self.inner.sql;
            shorten(&mut tx, sql).await.map_err(what)?;
            let locking = query(lock).bind(uuid(log.saga.get()));
            locking.fetch_optional(&mut *tx).await.map_err(what)?;
            let head = find(&mut tx, sql, log.saga).await.map_err(what)?;
            let moved = match head.transpose()? {
                None => Moved::Gone,
                Some(head) => match migration::find(&log, &head)? {
                    Found::Refused(answer) => answer,
                    Found::After => {
                        let lines = lines(&mut tx, sql, head.number).await.map_err(what)?;
                        migration::repeated(&log, &head, &lines.map_err(StoreError::corrupt)?)
                    }
                    Found::AsLoaded { runs } => {
                        let asking = query_scalar(live).bind(self.time());
                        let is_live: bool = asking
                            .bind(uuid(head.worker.get()))
                            .fetch_one(&mut *tx)
                            .await
                            .map_err(what)?;
                        if runs && is_live {
                            Moved::Owned
                        } else {
                            replace(&mut tx, sql, head.number, &log).await.map_err(what)?;
                            Moved::Moved
                        }
                    }
                },
            };
            tx.commit().await.map_err(what)?;
            loan.finish().await?;
            Ok(moved)
        })
        .await
    }
}

/// Replaces the log of a saga, under the next epoch.
async fn replace(
    tx: &mut PgConnection,
    sql: &Sql,
    number: i64,
    log: &NewLog<Vec<u8>>,
) -> sqlx::Result<()> {
    // The first entry stays, with its time.
    let remove = sql.text("DELETE FROM {s}buttress_saga_entry WHERE saga = $1 AND position > $2");
    query(remove).bind(number).bind(FIRST).execute(&mut *tx).await?;
    let begin = sql.text(
        "UPDATE {s}buttress_saga_entry SET payload = $3, note = $4 WHERE saga = $1 AND position = $2",
    );
    let begin = query(begin).bind(number).bind(FIRST).bind(&log.beginning.input[..]);
    begin.bind(beginning::note(&log.beginning)).execute(&mut *tx).await?;
    let insert = sql.text(
        "INSERT INTO {s}buttress_saga_entry (saga, position, kind, step, payload, note, recorded_at) \
         SELECT $1, position - 1, kind, step, payload, note, recorded_at \
         FROM unnest($2::int8[], $3::int8[], $4::bytea[], $5::text[], $6::int8[]) WITH ORDINALITY \
         AS new(kind, step, payload, note, recorded_at, position)",
    );
    let numbers = |number: fn(&_) -> i64| log.entries.iter().map(number).collect::<Vec<i64>>();
    query(insert)
        .bind(number)
        .bind(numbers(|entry| entry.kind().code().into()))
        .bind(numbers(|entry| entry.step().into()))
        .bind(log.entries.iter().map(|entry| entry.payload().cloned()).collect::<Vec<_>>())
        .bind(log.entries.iter().map(|entry| entry.note().map(str::to_owned)).collect::<Vec<_>>())
        .bind(log.times.iter().map(|time| time.map(nanos)).collect::<Vec<_>>())
        .execute(&mut *tx)
        .await?;
    let update = sql.text(
        "UPDATE {s}buttress_saga SET version = $3, epoch = epoch + 1, length = $4, worker = $5, \
             due_at = CASE WHEN {waiting} THEN {now} ELSE due_at END, \
             due_length = CASE WHEN {waiting} THEN 0 ELSE due_length END \
         WHERE number = $2",
    );
    let update = query(update).bind(sql.time()).bind(number).bind(i64::from(log.to));
    let update = update.bind(signed(log.entries.len() as u64));
    update.bind(uuid(WorkerId::NOBODY.get())).execute(&mut *tx).await.map(drop)
}
