//! The statements of the writer for the outbox.

use std::collections::BTreeSet;

use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Row as _};

use super::late::shorten_waits;
use crate::epoch;
use crate::outbox::{FOREVER, MOST_DUE, Sorted, fences, refused, sort};
use crate::sqlite::pack::Pack;
use crate::sqlite::relaying::{MarkJob, RelayOp, SettleJob, WakeJob};
use crate::time::{after, nanos};

/// Writes operations of one wave, in which each kind is unique.
pub(in crate::sqlite) async fn write(
    tx: &mut SqliteConnection,
    now: i64,
    ops: Vec<&mut RelayOp>,
) -> sqlx::Result<()> {
    for op in ops {
        match op {
            RelayOp::Settle(job) => settle(tx, now, job).await?,
            RelayOp::Mark(job) => mark(tx, job).await?,
            RelayOp::Wake(job) => wake(tx, now, job).await?,
            RelayOp::Shorten(job) => {
                let _shortened = shorten_waits(tx, now, &job.input).await?;
                job.settle(Ok(()));
            }
        }
    }
    Ok(())
}

async fn settle(tx: &mut SqliteConnection, now: i64, job: &mut SettleJob) -> sqlx::Result<()> {
    let mut pack = Pack::new();
    for (partition, epoch) in fences(&job.input) {
        pack.row().int(partition).int(epoch::asked(epoch));
    }
    // The fence: the rows that a take-over changes.
    let passed = pairs(
        tx,
        "UPDATE buttress_outbox_lease SET epoch = epoch \
         WHERE relay IS NOT NULL AND (partition, epoch) IN \
         (SELECT value ->> 0, value ->> 1 FROM json_each(?1)) RETURNING partition, epoch",
        pack,
    )
    .await?;
    let Sorted { delivered, retried, dead } = sort(&job.input, &passed);

    let mut pack = Pack::new();
    for settled in delivered {
        pack.row().int(settled.sequence.cast_signed()).int(settled.lease.partition);
    }
    deliver(tx, now, pack).await?;

    // How long each message that was not delivered holds its key.
    let (mut tries, mut deaths) = (Pack::new(), Pack::new());
    for (settled, held, error, counts) in retried {
        let until = after(now, held);
        let (sequence, partition) = (settled.sequence.cast_signed(), settled.lease.partition);
        let mut row = tries.row();
        row.int(sequence).int(partition).int(until).bytes(error.as_bytes()).int(counts);
        row.int(nanos(held));
    }
    for (settled, error, hold) in dead {
        let until = if hold { FOREVER } else { 0 };
        let (sequence, partition) = (settled.sequence.cast_signed(), settled.lease.partition);
        let mut row = deaths.row();
        row.int(sequence).int(partition).int(until).bytes(error.as_bytes()).int(true);
        row.int(FOREVER);
    }
    // A message that still holds its key was not fetched since, so this is a repetition of the
    // verdict.
    fail(
        tx,
        now,
        "UPDATE buttress_outbox AS m SET attempts = attempts \
             + (new.counts AND attempts BETWEEN 0 AND 4294967294), starts = 0, error = new.error \
         FROM new WHERE m.sequence = new.sequence AND m.partition = new.partition AND m.status = 0 \
         AND NOT EXISTS (SELECT 1 FROM buttress_outbox_hold AS h WHERE h.partition = m.partition \
             AND h.key = m.key AND h.sequence = m.sequence AND h.until > ?3) RETURNING sequence",
        tries,
    )
    .await?;
    fail(
        tx,
        now,
        "UPDATE buttress_outbox AS m SET status = 3, settled_at = ?3, error = new.error, \
             attempts = attempts + (attempts BETWEEN 0 AND 4294967294) \
         FROM new WHERE m.sequence = new.sequence AND m.partition = new.partition AND m.status = 0 \
         RETURNING sequence",
        deaths,
    )
    .await?;
    let verdict = Ok(refused(&job.input, &passed));
    job.settle(verdict);
    Ok(())
}

async fn deliver(tx: &mut SqliteConnection, now: i64, pack: Pack) -> sqlx::Result<()> {
    if pack.is_empty() {
        return Ok(());
    }
    let pack = pack.end();
    sqlx::query(
        "UPDATE buttress_outbox SET status = 2, settled_at = ?2 \
         FROM (SELECT value ->> 0 AS sequence, value ->> 1 AS partition FROM json_each(?1)) AS done \
         WHERE buttress_outbox.sequence = done.sequence \
         AND buttress_outbox.partition = done.partition AND status = 0",
    )
    .bind(&pack.json)
    .bind(now)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "DELETE FROM buttress_outbox_hold WHERE (partition, key, sequence) IN \
         (SELECT m.partition, m.key, m.sequence FROM json_each(?1) \
          CROSS JOIN buttress_outbox AS m ON m.sequence = value ->> 0 WHERE m.status = 2)",
    )
    .bind(&pack.json)
    .execute(tx)
    .await
    .map(drop)
}

/// Runs `update`. The messages that it returns then hold their keys, each until its own time. A
/// hold until 0 is removed.
async fn fail(tx: &mut SqliteConnection, now: i64, update: &str, pack: Pack) -> sqlx::Result<()> {
    if pack.is_empty() {
        return Ok(());
    }
    let pack = pack.end();
    let sql = AssertSqlSafe(format!(
        "WITH new AS (SELECT value ->> 0 AS sequence, value ->> 1 AS partition, \
                CAST(substr(?2, value ->> 3, value ->> 4) AS TEXT) AS error, value ->> 5 AS counts \
         FROM json_each(?1)) {update}"
    ));
    let query = sqlx::query(sql).bind(&pack.json).bind(&pack.blob).bind(now);
    let rows = query.fetch_all(&mut *tx).await?;
    let changed = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    let changed = format!("{changed:?}");
    sqlx::query(
        "INSERT OR REPLACE INTO buttress_outbox_hold (partition, key, sequence, until, length) \
         SELECT m.partition, m.key, m.sequence, new.value ->> 2, new.value ->> 6 FROM json_each(?1) AS new \
         CROSS JOIN buttress_outbox AS m ON m.sequence = new.value ->> 0 \
         WHERE m.sequence IN (SELECT value FROM json_each(?2))",
    )
    .bind(&pack.json)
    .bind(&changed)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "DELETE FROM buttress_outbox_hold WHERE until = 0 AND (partition, key, sequence) IN \
         (SELECT partition, key, sequence FROM buttress_outbox \
          WHERE sequence IN (SELECT value FROM json_each(?1)))",
    )
    .bind(&changed)
    .execute(tx)
    .await
    .map(drop)
}

async fn mark(tx: &mut SqliteConnection, job: &mut MarkJob) -> sqlx::Result<()> {
    let mut pack = Pack::new();
    for mark in &job.input {
        pack.row().int(mark.partition).int(epoch::asked(mark.epoch)).int(mark.high);
    }
    let marked = pairs(
        tx,
        "UPDATE buttress_outbox_lease SET high = max(buttress_outbox_lease.high, new.high) \
         FROM (SELECT value ->> 0 AS partition, value ->> 1 AS epoch, value ->> 2 AS high \
               FROM json_each(?1)) AS new \
         WHERE buttress_outbox_lease.partition = new.partition \
         AND buttress_outbox_lease.epoch = new.epoch AND relay IS NOT NULL RETURNING partition, epoch",
        pack,
    )
    .await?;
    job.settle(Ok(marked.into_iter().map(|(partition, _)| partition).collect()));
    Ok(())
}

async fn wake(tx: &mut SqliteConnection, now: i64, job: &mut WakeJob) -> sqlx::Result<()> {
    for partition in &job.input {
        sqlx::query(
            "UPDATE buttress_outbox SET status = 0 WHERE sequence IN \
             (SELECT sequence FROM buttress_outbox WHERE status = 1 AND partition = ? \
              AND due_at <= ? ORDER BY due_at LIMIT ?)",
        )
        .bind(i64::from(*partition))
        .bind(now)
        .bind(MOST_DUE)
        .execute(&mut *tx)
        .await?;
    }
    job.settle(Ok(()));
    Ok(())
}

async fn pairs(
    tx: &mut SqliteConnection,
    sql: &'static str,
    pack: Pack,
) -> sqlx::Result<BTreeSet<(u16, u64)>> {
    let rows = sqlx::query(sql).bind(pack.end().json).fetch_all(tx).await?;
    let pair = |row: &sqlx::sqlite::SqliteRow| {
        let (partition, epoch): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        Ok((u16::try_from(partition).unwrap_or(u16::MAX), epoch.unsigned_abs()))
    };
    rows.iter().map(pair).collect()
}
