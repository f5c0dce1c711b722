//! Recording how deliveries ended.

use std::collections::BTreeSet;

use buttress::StoreError;
use buttress_durable::outbox::Settled;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::epoch;
use crate::error::during;
use crate::outbox::{FOREVER, Sorted, fences, refused, sort};
use crate::postgres::PostgresStore;
use crate::postgres::rows::{PgQuery, query};
use crate::postgres::sql::Sql;
use crate::time::span;

/// Locks the rows of the fence, which a take-over changes. In the order of the partitions, so that
/// two of these statements cannot wait for each other.
const FENCE: &str = "\
    WITH locked AS ( \
        SELECT l.partition, l.epoch FROM unnest($2::int8[], $3::int8[]) AS a(partition, epoch) \
        JOIN {s}buttress_outbox_lease AS l ON l.partition = a.partition AND l.epoch = a.epoch \
        WHERE l.relay IS NOT NULL ORDER BY l.partition FOR UPDATE OF l), \
    fence AS ( \
        UPDATE {s}buttress_outbox_lease AS l SET epoch = l.epoch FROM locked AS k \
        WHERE l.partition = k.partition AND l.epoch = k.epoch RETURNING l.partition, l.epoch)";

/// Settles delivered messages, and removes their holds. It finds messages by their sequence alone,
/// and compares partition and status in a form without an index. Statistics of a queue are always
/// outdated, and the planner would otherwise scan all pending messages for each one.
const DELIVER: &str = ", \
    done AS ( \
        UPDATE {s}buttress_outbox AS m SET status = 2, settled_at = {now} \
        WHERE m.sequence = ANY (ARRAY ( \
            SELECT d.sequence FROM unnest($4::int8[], $5::int8[], $6::int8[]) \
                AS d(sequence, partition, epoch) \
            JOIN fence AS f ON f.partition = d.partition AND f.epoch = d.epoch)) \
        AND m.partition + 0 = ANY (ARRAY (SELECT partition FROM fence)) AND m.status + 0 = 0 \
        RETURNING m.partition, m.key, m.sequence), \
    freed AS ( \
        DELETE FROM {s}buttress_outbox_hold AS h USING done AS d WHERE h.partition = d.partition \
        AND h.key = d.key AND h.sequence = d.sequence) \
    SELECT partition, epoch FROM fence";

/// A message that still holds its key was not fetched since, so this is a repetition of the
/// verdict.
const RETRY: &str = "\
    WITH new AS MATERIALIZED (SELECT * FROM \
        unnest($2::int8[], $3::int8[], $4::int8[], $5::text[], $6::int8[]) \
        AS n(sequence, partition, hold, error, counts)), \
    changed AS ( \
        UPDATE {s}buttress_outbox AS m SET starts = 0, attempts = m.attempts \
            + CASE WHEN m.attempts BETWEEN 0 AND 4294967294 THEN n.counts ELSE 0 END, \
            error = n.error FROM new AS n \
        WHERE m.sequence = n.sequence AND m.partition + 0 = n.partition AND m.status + 0 = 0 \
        AND NOT EXISTS (SELECT 1 FROM {s}buttress_outbox_hold AS h WHERE h.partition = m.partition \
            AND h.key = m.key AND h.sequence = m.sequence AND h.until > {now}) \
        RETURNING m.partition, m.key, m.sequence) \
    INSERT INTO {s}buttress_outbox_hold (partition, key, sequence, until, length) \
    SELECT c.partition, c.key, c.sequence, {now} + n.hold, n.hold FROM changed AS c \
    JOIN new AS n ON n.sequence = c.sequence \
    ON CONFLICT (partition, key, sequence) \
    DO UPDATE SET until = excluded.until, length = excluded.length";

/// A dead letter holds its key without end, or releases it.
const BURY: &str = "\
    WITH new AS MATERIALIZED (SELECT * FROM \
        unnest($2::int8[], $3::int8[], $4::int8[], $5::text[], $6::int8[]) \
        AS n(sequence, partition, hold, error, counts)), \
    changed AS ( \
        UPDATE {s}buttress_outbox AS m SET status = 3, settled_at = {now}, error = n.error, \
            attempts = m.attempts \
            + CASE WHEN m.attempts BETWEEN 0 AND 4294967294 THEN n.counts ELSE 0 END \
        FROM new AS n \
        WHERE m.sequence = n.sequence AND m.partition + 0 = n.partition AND m.status + 0 = 0 \
        RETURNING m.partition, m.key, m.sequence, n.hold), \
    freed AS ( \
        DELETE FROM {s}buttress_outbox_hold AS h USING changed AS c WHERE c.hold = 0 \
        AND h.partition = c.partition AND h.key = c.key AND h.sequence = c.sequence) \
    INSERT INTO {s}buttress_outbox_hold (partition, key, sequence, until, length) \
    SELECT c.partition, c.key, c.sequence, c.hold, c.hold FROM changed AS c WHERE c.hold > 0 \
    ON CONFLICT (partition, key, sequence) \
    DO UPDATE SET until = excluded.until, length = excluded.length";

/// A message that was not delivered, how long its key is held, the reason, and whether the failure
/// counts.
type Failed<'s> = (&'s Settled, i64, String, bool);

impl PostgresStore {
    /// Settles in one statement and one round trip, unless a delivery failed.
    pub(super) async fn settle_all(&self, settled: &[Settled]) -> Result<Vec<u16>, StoreError> {
        let what = during("settling messages");
        let asked = fences(settled);
        // The statement finds out which partitions are refused.
        let Sorted { delivered, retried, dead } = sort(settled, &asked);
        let sql = &self.inner.sql;
        let mut loan = self.borrow().await?;
        let passed;
        if retried.is_empty() && dead.is_empty() {
            passed = deliver(&mut loan, sql, &asked, &delivered).await.map_err(what)?;
        } else {
            let mut tx = loan.begin().await.map_err(what)?;
            passed = deliver(&mut tx, sql, &asked, &delivered).await.map_err(what)?;
            let Sorted { retried, dead, .. } = sort(settled, &passed);
            let retried =
                retried.into_iter().map(|(s, held, error, counts)| (s, span(held), error, counts));
            fail(&mut tx, sql, RETRY, retried.collect()).await.map_err(what)?;
            let end = |hold: bool| if hold { FOREVER } else { 0 };
            let dead = dead.into_iter().map(|(s, error, hold)| (s, end(hold), error, true));
            fail(&mut tx, sql, BURY, dead.collect()).await.map_err(what)?;
            tx.commit().await.map_err(what)?;
        }
        loan.finish().await?;
        Ok(refused(settled, &passed))
    }
}

/// Returns the leases that passed the fence.
async fn deliver(
    connection: &mut PgConnection,
    sql: &Sql,
    asked: &BTreeSet<(u16, u64)>,
    delivered: &[&Settled],
) -> sqlx::Result<BTreeSet<(u16, u64)>> {
    let text = sql.text(&delivery());
    let query = bind_delivery(query(text), sql, asked, delivered);
    let rows = query.fetch_all(connection).await?;
    let fence = |row: &sqlx::postgres::PgRow| {
        let (partition, epoch): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        Ok((u16::try_from(partition).unwrap_or(u16::MAX), epoch.unsigned_abs()))
    };
    rows.iter().map(fence).collect()
}

pub(super) fn delivery() -> String {
    format!("{FENCE}{DELIVER}")
}

pub(super) fn bind_delivery<'q>(
    query: PgQuery<'q>,
    sql: &Sql,
    asked: &BTreeSet<(u16, u64)>,
    delivered: &[&Settled],
) -> PgQuery<'q> {
    let column = |column: fn(&Settled) -> i64| -> Vec<i64> {
        delivered.iter().map(|settled| column(settled)).collect()
    };
    query
        .bind(sql.time())
        .bind(asked.iter().map(|(partition, _)| i64::from(*partition)).collect::<Vec<_>>())
        .bind(asked.iter().map(|(_, epoch)| epoch::asked(*epoch)).collect::<Vec<_>>())
        .bind(column(|settled| settled.sequence.cast_signed()))
        .bind(column(|settled| settled.lease.partition.into()))
        .bind(column(|settled| epoch::asked(settled.lease.epoch)))
}

async fn fail(
    tx: &mut PgConnection,
    sql: &Sql,
    statement: &str,
    failed: Vec<Failed<'_>>,
) -> sqlx::Result<()> {
    if failed.is_empty() {
        return Ok(());
    }
    let text = sql.text(statement);
    let partitions = failed.iter().map(|(settled, ..)| i64::from(settled.lease.partition));
    query(text)
        .bind(sql.time())
        .bind(failed.iter().map(|(settled, ..)| settled.sequence.cast_signed()).collect::<Vec<_>>())
        .bind(partitions.collect::<Vec<_>>())
        .bind(failed.iter().map(|(_, hold, ..)| *hold).collect::<Vec<_>>())
        .bind(failed.iter().map(|(.., error, _)| error.as_str()).collect::<Vec<_>>())
        .bind(failed.iter().map(|(.., counts)| i64::from(*counts)).collect::<Vec<_>>())
        .execute(tx)
        .await
        .map(drop)
}
