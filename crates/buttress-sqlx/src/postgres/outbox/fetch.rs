//! Fetching due messages.

use std::fmt::Write as _;

use buttress::StoreError;
use buttress_durable::outbox::{Fetched, Lease, Message, Settled, Store as _};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::late::shorten_waits;
use crate::epoch;
use crate::error::during;
use crate::number::signed;
use crate::outbox::{COLUMNS, FOREVER, MOST_DUE, Row, buried, bury_or_pass_over};
use crate::postgres::PostgresStore;
use crate::postgres::rows::{PgQuery, query};
use crate::time::duration;

/// The result of one scan.
struct Found {
    rows: Vec<PgRow>,
    now: i64,
    /// When the next delayed message is due.
    delayed: Option<i64>,
    /// When the next hold of a key ends.
    held: Option<i64>,
}

impl PostgresStore {
    pub(super) async fn fetch_due(
        &self,
        leases: &[Lease],
        limit: usize,
    ) -> Result<Fetched, StoreError> {
        let mut found = self.scan(leases, limit).await?;
        if found.delayed.is_some_and(|due| due <= found.now) {
            self.wake(leases).await?;
            found = self.scan(leases, limit).await?;
        }
        // Looks for holds and delays that are too long when nothing else is left to do, and at each
        // renewal of the leases.
        let waits = found.delayed.is_some() || found.held.is_some();
        if waits && found.rows.len() < limit && self.shorten(leases).await? > 0 {
            found = self.scan(leases, limit).await?;
        }
        let mut messages: Vec<Message> = Vec::with_capacity(found.rows.len());
        let mut unreadable: Vec<Settled> = Vec::new();
        let mut keys: Vec<(i64, Option<String>)> = Vec::new();
        for row in &found.rows {
            match Row::read(row) {
                Ok(message) => messages.push(message),
                Err(error) => {
                    let what = during("fetching messages");
                    let sequence: i64 = row.try_get(0).map_err(what)?;
                    let partition: i64 = row.try_get(2).map_err(what)?;
                    let key: Option<String> = row.try_get(3).ok();
                    keys.push((sequence, key.clone()));
                    let error = StoreError::corrupt(error).to_string();
                    tracing::error!(sequence, error, "a message cannot be read; its key is held");
                    let leases = leases.iter().copied();
                    unreadable.extend(buried(leases, (sequence, partition), key, error));
                }
            }
        }
        // No message passes an unreadable message of the same key. An operator discards the
        // unreadable message, or fixes and requeues it.
        messages.retain(|message| {
            !keys.iter().any(|(sequence, key)| {
                *sequence < signed(message.sequence)
                    && key.as_ref().is_none_or(|key| *key == message.key)
            })
        });
        for unreadable in unreadable {
            bury_or_pass_over(self.settle(vec![unreadable]).await)?;
        }
        let next_due = [found.delayed, found.held].into_iter().flatten().min();
        let mut fetched = Fetched::new(messages, duration(found.now));
        fetched.next_due = next_due.map(duration);
        Ok(fetched)
    }

    /// Runs one statement in one round trip. Returns the messages in the order of their sequence,
    /// and when more are due. Records the greatest sequence. Leaves out messages of partitions that
    /// are taken over meanwhile.
    async fn scan(&self, leases: &[Lease], limit: usize) -> Result<Found, StoreError> {
        let what = during("fetching messages");
        let sql = self.sql(&statement(leases));
        let mut loan = self.borrow().await?;
        let query = bind(query(sql), self.time(), leases, limit);
        let mut rows = query.fetch_all(&mut *loan).await.map_err(what)?;
        loan.finish().await?;
        let first = rows.first().ok_or_else(|| what(sqlx::Error::RowNotFound))?;
        let (now, delayed, held) = (
            first.try_get(10).map_err(what)?,
            first.try_get(11).map_err(what)?,
            first.try_get(12).map_err(what)?,
        );
        // Without messages there is one row with the times.
        rows.retain(|row| {
            row.try_get::<Option<i64>, _>(0).is_ok_and(|sequence| sequence.is_some())
        });
        Ok(Found { rows, now, delayed, held })
    }

    /// Shortens holds and delays that are too long. Returns how many.
    async fn shorten(&self, leases: &[Lease]) -> Result<u64, StoreError> {
        let partitions: Vec<i64> = leases.iter().map(|lease| lease.partition.into()).collect();
        let mut loan = self.borrow().await?;
        let shortened = shorten_waits(&mut loan, &self.inner.sql, &partitions).await;
        let shortened = shortened.map_err(during("fetching messages"))?;
        loan.finish().await?;
        Ok(shortened)
    }

    /// Makes delayed messages pending that are due.
    async fn wake(&self, leases: &[Lease]) -> Result<(), StoreError> {
        let sql = self.sql(
            "UPDATE {s}buttress_outbox SET status = 0 WHERE sequence = ANY (ARRAY ( \
             SELECT m.sequence FROM unnest($2::int8[]) AS p(partition) CROSS JOIN LATERAL ( \
                 SELECT sequence FROM {s}buttress_outbox WHERE status = 1 \
                 AND partition = p.partition AND due_at <= {now} ORDER BY due_at LIMIT $3 \
                 FOR UPDATE SKIP LOCKED) AS m))",
        );
        let mut loan = self.borrow().await?;
        query(sql)
            .bind(self.time())
            .bind(leases.iter().map(|lease| i64::from(lease.partition)).collect::<Vec<_>>())
            .bind(MOST_DUE)
            .execute(&mut *loan)
            .await
            .map_err(during("fetching messages"))?;
        loan.finish().await?;
        Ok(())
    }
}

/// Returns one ordered scan per partition, merged by sequence. It reads little more than it
/// returns, with any number of messages. A subquery with a limit checks the hold of each row,
/// because the planner would otherwise make a join that reads both sides completely.
pub(super) fn statement(leases: &[Lease]) -> String {
    let mut scans = String::new();
    for (n, lease) in leases.iter().enumerate() {
        let union = if n == 0 { "" } else { " UNION ALL " };
        // Writing to a String cannot fail. A number needs no quoting.
        let _ = write!(
            scans,
            "{union}(SELECT {COLUMNS} FROM {{s}}buttress_outbox AS m WHERE status = 0 \
             AND partition = {partition} \
             AND EXISTS (SELECT 1 FROM open WHERE partition = {partition}) \
             AND (SELECT true FROM {{s}}buttress_outbox_hold AS h WHERE h.partition = m.partition \
                  AND h.key = m.key AND h.until > (SELECT now FROM t) LIMIT 1) IS NULL \
             ORDER BY sequence)",
            partition = lease.partition
        );
    }
    if leases.is_empty() {
        let _ = write!(scans, "SELECT {COLUMNS} FROM {{s}}buttress_outbox WHERE false");
    }
    format!(
        "WITH t AS MATERIALIZED (SELECT {{now}} AS now), \
         open AS MATERIALIZED ( \
             SELECT l.partition, l.epoch, l.high FROM {{s}}buttress_outbox_lease AS l \
             JOIN unnest($2::int8[], $3::int8[]) AS a(partition, epoch) \
             ON l.partition = a.partition AND l.epoch = a.epoch WHERE l.relay IS NOT NULL), \
         found AS MATERIALIZED (SELECT * FROM ({scans}) AS scans ORDER BY sequence LIMIT $4), \
         grown AS MATERIALIZED ( \
             SELECT o.partition, o.epoch, max(f.sequence) AS high FROM found AS f \
             JOIN open AS o ON o.partition = f.partition \
             GROUP BY o.partition, o.epoch, o.high HAVING max(f.sequence) > o.high), \
         locked AS ( \
             SELECT l.partition FROM {{s}}buttress_outbox_lease AS l \
             JOIN grown AS g ON l.partition = g.partition AND l.epoch = g.epoch \
             ORDER BY l.partition FOR UPDATE OF l), \
         marked AS ( \
             UPDATE {{s}}buttress_outbox_lease AS l SET high = greatest(l.high, g.high) \
             FROM locked AS k JOIN grown AS g ON g.partition = k.partition \
             WHERE l.partition = k.partition AND l.epoch = g.epoch RETURNING l.partition), \
         due AS MATERIALIZED ( \
             SELECT (SELECT min(d.at) FROM open AS o CROSS JOIN LATERAL ( \
                 SELECT min(due_at) AS at FROM {{s}}buttress_outbox AS m \
                 WHERE m.status = 1 AND m.partition = o.partition) AS d) AS delayed, \
             (SELECT min(d.at) FROM open AS o CROSS JOIN LATERAL ( \
                 SELECT min(until) AS at FROM {{s}}buttress_outbox_hold AS h \
                 WHERE h.partition = o.partition AND h.until > (SELECT now FROM t) \
                 AND h.until < $5) AS d) AS held) \
         SELECT {COLUMNS}, t.now, due.delayed, due.held FROM t CROSS JOIN due \
         LEFT JOIN found AS f ON f.partition <> ALL (ARRAY ( \
             SELECT partition FROM grown EXCEPT SELECT partition FROM marked)) \
         ORDER BY sequence"
    )
}

pub(super) fn bind<'q>(
    query: PgQuery<'q>,
    time: Option<i64>,
    leases: &[Lease],
    limit: usize,
) -> PgQuery<'q> {
    query
        .bind(time)
        .bind(leases.iter().map(|lease| i64::from(lease.partition)).collect::<Vec<_>>())
        .bind(leases.iter().map(|lease| epoch::asked(lease.epoch)).collect::<Vec<_>>())
        .bind(signed(limit as u64))
        .bind(FOREVER)
}
