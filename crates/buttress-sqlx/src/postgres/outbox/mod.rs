//! The outbox on PostgreSQL.

use std::time::Duration;

use buttress_durable::Answer;
use buttress_durable::outbox::{
    Backlog, DeadLetter, Fetched, Lease, MessageId, Owned, RelayId, Renewal, Settled, Store,
};
use sqlx::postgres::PgConnection;

use super::PostgresStore;
use super::rows::{query, query_scalar, uuid};
use super::sql::Sql;
use crate::columns::Columns as _;
use crate::epoch;
use crate::error::during;
use crate::number::{changed, signed};
use crate::outbox::owners::{self, Plan, plan};
use crate::outbox::{backlog, dead_letters, started, unless_fenced};
use crate::purge;
use crate::time::{duration, span};

mod dead;
mod explain;
mod fetch;
mod late;
mod settle;
mod write;

/// How many rows one transaction of a purge removes.
const PURGE_BATCH: usize = 2000;

impl Store for PostgresStore {
    async fn lease_partitions(&self, renewal: Renewal<'_>) -> Answer<Owned> {
        let what = during("leasing partitions");
        let sql = &self.inner.sql;
        self.bounded("leasing partitions", async {
            let mut loan = self.borrow().await?;
            let mut tx = loan.begin().await.map_err(what)?;
            // Locks all rows, so that relays do this one after another.
            let rows = rows(&mut tx, sql, self.partitions()).await.map_err(what)?;
            let Renewal { relay, lease, busy, .. } = renewal;
            let (now, relays) = register(&mut tx, sql, relay, lease).await.map_err(what)?;
            let plan = plan(&rows, relay.get(), relays, busy, now);
            plan.report();
            release(&mut tx, sql, &plan.release).await.map_err(what)?;
            late::shorten_leases(&mut tx, sql, &plan.shorten).await.map_err(what)?;
            let leases = own(&mut tx, sql, relay, span(lease), now, &plan).await.map_err(what)?;
            let owned: Vec<i64> = leases.iter().map(|lease| lease.partition.into()).collect();
            late::shorten_waits(&mut tx, sql, &owned).await.map_err(what)?;
            tx.commit().await.map_err(what)?;
            loan.finish().await?;
            Ok(Owned::new(leases, plan.surplus))
        })
        .await
    }

    async fn release_partitions(&self, relay: RelayId) -> Answer<()> {
        let what = during("releasing partitions");
        let release = self.sql(
            "UPDATE {s}buttress_outbox_lease SET relay = NULL, until = 0, high = 0 \
             WHERE relay = $1",
        );
        let leave = self.sql("DELETE FROM {s}buttress_outbox_relay WHERE relay = $1");
        self.bounded("releasing partitions", async {
            let mut loan = self.borrow().await?;
            let mut tx = loan.begin().await.map_err(what)?;
            rows(&mut tx, &self.inner.sql, self.partitions()).await.map_err(what)?;
            for sql in [release, leave] {
                let query = query(sql).bind(uuid(relay.get()));
                query.execute(&mut *tx).await.map_err(what)?;
            }
            tx.commit().await.map_err(what)?;
            loan.finish().await?;
            Ok(())
        })
        .await
    }

    async fn fetch(&self, _relay: RelayId, leases: &[Lease], limit: usize) -> Answer<Fetched> {
        self.bounded("fetching messages", self.fetch_due(leases, limit)).await
    }

    async fn record_start(&self, lease: Lease, id: MessageId, claim: u64) -> Answer<u32> {
        let what = during("starting a message");
        let sql = self.sql(
            "UPDATE {s}buttress_outbox SET start = $3, \
             starts = starts + (CASE WHEN start IS DISTINCT FROM $3 THEN 1 ELSE 0 END) \
             WHERE id = $1 AND partition = $2 AND status = 0 RETURNING starts",
        );
        self.bounded("starting a message", async {
            let mut loan = self.borrow().await?;
            let mut tx = loan.begin().await.map_err(what)?;
            fence(&mut tx, &self.inner.sql, lease).await?;
            let starts: Option<i64> = query_scalar(sql)
                .bind(uuid(id.get()))
                .bind(i64::from(lease.partition))
                .bind(claim.cast_signed())
                .fetch_optional(&mut *tx)
                .await
                .map_err(what)?;
            tx.commit().await.map_err(what)?;
            loan.finish().await?;
            started(id, starts)
        })
        .await
    }

    async fn clear_suspects(&self, lease: Lease) -> Answer<()> {
        let what = during("clearing suspects");
        let sql = self.sql(
            "UPDATE {s}buttress_outbox_lease SET suspect_to = 0 \
             WHERE partition = $1 AND epoch = $2 AND relay IS NOT NULL",
        );
        self.bounded("clearing suspects", async {
            let mut loan = self.borrow().await?;
            let done = query(sql)
                .bind(i64::from(lease.partition))
                .bind(epoch::asked(lease.epoch))
                .execute(&mut *loan)
                .await
                .map_err(what)?;
            loan.finish().await?;
            unless_fenced(lease, done.rows_affected())
        })
        .await
    }

    async fn settle(&self, settled: Vec<Settled>) -> Answer<Vec<u16>> {
        if settled.is_empty() {
            return Ok(Vec::new());
        }
        self.bounded("settling messages", self.settle_all(&settled)).await
    }

    dead_letters!();

    async fn backlog(&self) -> Answer<Backlog> {
        let what = during("counting the backlog");
        let sql = self.sql(
            "WITH t AS MATERIALIZED (SELECT {now} AS now), \
             p AS (SELECT count(*) AS n, min(due_at) AS due FROM {s}buttress_outbox \
                   WHERE status = 0), \
             d AS (SELECT count(*) AS n, min(due_at) AS due FROM {s}buttress_outbox \
                   WHERE status = 1) \
             SELECT p.n + d.n, \
             (SELECT count(*) FROM {s}buttress_outbox WHERE status = 3), \
             (SELECT count(*) FROM (SELECT DISTINCT partition, key FROM {s}buttress_outbox_hold \
                                    WHERE until > t.now) AS keys), \
             t.now - least(p.due, d.due, t.now) FROM t CROSS JOIN p CROSS JOIN d",
        );
        self.bounded("counting the backlog", async {
            let mut loan = self.borrow().await?;
            let query = query(sql).bind(self.time());
            let row = query.fetch_one(&mut *loan).await.map_err(what)?;
            loan.finish().await?;
            let mut backlog = backlog(&row).map_err(what)?;
            backlog.oldest_age = duration(row.int(3).map_err(what)?);
            Ok(backlog)
        })
        .await
    }

    purge::messages!(PURGE_BATCH);
}

impl PostgresStore {
    async fn purge_messages(&self, age: Duration, limit: usize) -> Answer<usize> {
        let what = during("purging messages");
        // Messages delivered after now: the clock was set back. They count as delivered now, so
        // that the purge does not keep them longer.
        let late = self.sql(
            "UPDATE {s}buttress_outbox SET settled_at = {now} WHERE sequence = ANY (ARRAY ( \
             SELECT sequence FROM {s}buttress_outbox WHERE status = 2 AND settled_at > {now} \
             LIMIT $2 FOR UPDATE SKIP LOCKED))",
        );
        let sql = self.sql(
            "DELETE FROM {s}buttress_outbox WHERE sequence = ANY (ARRAY ( \
             SELECT sequence FROM {s}buttress_outbox WHERE status = 2 \
             AND settled_at <= {now} - $2::int8 ORDER BY settled_at LIMIT $3 \
             FOR UPDATE SKIP LOCKED))",
        );
        let mut loan = self.borrow().await?;
        let late = query(late).bind(self.time()).bind(signed(limit as u64));
        late.execute(&mut *loan).await.map_err(what)?;
        let purge = query(sql).bind(self.time()).bind(span(age)).bind(signed(limit as u64));
        let done = purge.execute(&mut *loan).await.map_err(what)?;
        loan.finish().await?;
        Ok(changed(done.rows_affected()))
    }
}

/// Records `relay` as live until its lease ends. Returns the time, and the number of live relays.
async fn register(
    tx: &mut PgConnection,
    sql: &Sql,
    relay: RelayId,
    lease: Duration,
) -> sqlx::Result<(i64, usize)> {
    late::shorten_relays(tx, sql).await?;
    let forget =
        sql.text("DELETE FROM {s}buttress_outbox_relay WHERE until <= {now} AND relay <> $2");
    let query = query(forget).bind(sql.time()).bind(uuid(relay.get()));
    query.execute(&mut *tx).await?;
    let upsert = sql.text(
        "INSERT INTO {s}buttress_outbox_relay (relay, until, length) \
         VALUES ($2, {now} + $3::int8, $3::int8) ON CONFLICT (relay) DO UPDATE \
         SET until = excluded.until, length = excluded.length RETURNING until - $3::int8",
    );
    let now: i64 = query_scalar(upsert)
        .bind(sql.time())
        .bind(uuid(relay.get()))
        .bind(span(lease))
        .fetch_one(&mut *tx)
        .await?;
    let count = sql.text("SELECT count(*) FROM {s}buttress_outbox_relay");
    let relays: i64 = query_scalar(count).fetch_one(tx).await?;
    Ok((now, usize::try_from(relays).unwrap_or(1)))
}

/// Reads all partitions, and locks them in their order until the transaction ends.
async fn rows(
    tx: &mut PgConnection,
    sql: &Sql,
    partitions: u16,
) -> sqlx::Result<Vec<owners::Owned>> {
    let text = sql.text(
        "SELECT partition, relay, until, length, epoch FROM {s}buttress_outbox_lease \
         WHERE partition >= 0 AND partition < $1 ORDER BY partition FOR UPDATE",
    );
    let rows = query(text).bind(i64::from(partitions)).fetch_all(tx).await?;
    rows.iter().map(owners::Owned::read).collect()
}

/// Releases some partitions like [`Store::release_partitions`]. Their owner is alive, so no message
/// is suspect.
async fn release(tx: &mut PgConnection, sql: &Sql, partitions: &[i64]) -> sqlx::Result<()> {
    if partitions.is_empty() {
        return Ok(());
    }
    let text = sql.text(
        "UPDATE {s}buttress_outbox_lease SET relay = NULL, until = 0, high = 0 \
         WHERE partition = ANY ($1)",
    );
    query(text).bind(partitions).execute(tx).await.map(drop)
}

/// Renews the kept partitions, and takes others under the next epoch. All messages that the last
/// owner fetched are suspect.
async fn own(
    tx: &mut PgConnection,
    sql: &Sql,
    relay: RelayId,
    length: i64,
    now: i64,
    plan: &Plan,
) -> sqlx::Result<Vec<Lease>> {
    let take = sql.text(
        "UPDATE {s}buttress_outbox_lease SET relay = $1, epoch = epoch + 1, \
         suspect_to = greatest(suspect_to, high), high = 0 WHERE partition = ANY ($2)",
    );
    query(take).bind(uuid(relay.get())).bind(&plan.take).execute(&mut *tx).await?;
    let renew = sql.text(
        "UPDATE {s}buttress_outbox_lease SET until = $2, length = $3 WHERE relay = $1 \
         RETURNING partition, epoch, suspect_to",
    );
    let until = now.saturating_add(length);
    let query = query(renew).bind(uuid(relay.get())).bind(until).bind(length);
    let rows = query.fetch_all(tx).await?;
    owners::leases(&rows)
}

/// Locks the row of the fence, which a take-over changes.
async fn fence(tx: &mut PgConnection, sql: &Sql, lease: Lease) -> Answer<()> {
    let text = sql.text(
        "UPDATE {s}buttress_outbox_lease SET epoch = epoch \
         WHERE partition = $1 AND epoch = $2 AND relay IS NOT NULL",
    );
    let query = query(text).bind(i64::from(lease.partition)).bind(epoch::asked(lease.epoch));
    let done = query.execute(tx).await.map_err(during("checking a lease"))?;
    unless_fenced(lease, done.rows_affected())
}
