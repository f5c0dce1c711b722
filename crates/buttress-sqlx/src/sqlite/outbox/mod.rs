//! The outbox on SQLite.

use std::time::Duration;

use buttress_durable::Answer;
use buttress_durable::outbox::{
    Backlog, DeadLetter, Fetched, Lease, MessageId, Owned, RelayId, Renewal, Settled, Store,
};
use sqlx::sqlite::SqliteConnection;

use super::SqliteStore;
use super::pack::Pack;
use super::rows::bytes_of_id;
use super::writer::WriteOp;
use crate::columns::Columns as _;
use crate::epoch;
use crate::error::during;
use crate::number::{changed, signed};
use crate::outbox::owners::{self, Plan, plan};
use crate::outbox::{backlog, dead_letters, started, unless_fenced};
use crate::purge;
use crate::sqlite::relaying::RelayOp;
use crate::time::{before, duration, nanos};

mod dead;
mod fetch;
mod late;
pub(super) mod settle;
mod write;

/// How many rows one transaction of a purge removes, so that other transactions do not wait long.
const PURGE_BATCH: usize = 2000;

impl Store for SqliteStore {
    async fn lease_partitions(&self, renewal: Renewal<'_>) -> Answer<Owned> {
        let what = during("leasing partitions");
        self.bounded("leasing partitions", async {
            let mut tx = self.begin().await?;
            let Renewal { relay, lease, busy, .. } = renewal;
            let (now, length) = (self.now(), nanos(lease));
            let relays = register(&mut tx, relay, length, now).await.map_err(what)?;
            let rows = rows(&mut tx, self.partitions()).await.map_err(what)?;
            let plan = plan(&rows, relay.get(), relays, busy, now);
            plan.report();
            release(&mut tx, &plan.release).await.map_err(what)?;
            late::shorten_leases(&mut tx, &plan.shorten).await.map_err(what)?;
            let leases = own(&mut tx, relay, length, now, &plan).await.map_err(what)?;
            let owned: Vec<u16> = leases.iter().map(|lease| lease.partition).collect();
            late::shorten_waits(&mut tx, now, &owned).await.map_err(what)?;
            tx.commit().await?;
            Ok(Owned::new(leases, plan.surplus))
        })
        .await
    }

    async fn release_partitions(&self, relay: RelayId) -> Answer<()> {
        let what = during("releasing partitions");
        self.bounded("releasing partitions", async {
            let mut tx = self.begin().await?;
            let relay = bytes_of_id(relay.get());
            for sql in [
                "UPDATE buttress_outbox_lease SET relay = NULL, until = 0, high = 0 WHERE relay = ?",
                "DELETE FROM buttress_outbox_relay WHERE relay = ?",
            ] {
                sqlx::query(sql).bind(&relay).execute(&mut **tx).await.map_err(what)?;
            }
            tx.commit().await
        })
        .await
    }

    async fn fetch(&self, _relay: RelayId, leases: &[Lease], limit: usize) -> Answer<Fetched> {
        self.bounded("fetching messages", self.fetch_some(leases, limit)).await
    }

    async fn record_start(&self, lease: Lease, id: MessageId, claim: u64) -> Answer<u32> {
        let what = during("starting a message");
        self.bounded("starting a message", async {
            let mut tx = self.begin().await?;
            fence(&mut tx, lease).await?;
            let starts: Option<i64> = sqlx::query_scalar(
                "UPDATE buttress_outbox SET starts = starts + (start IS NOT ?3), start = ?3 \
                 WHERE id = ?1 AND partition = ?2 AND status = 0 RETURNING starts",
            )
            .bind(bytes_of_id(id.get()))
            .bind(i64::from(lease.partition))
            .bind(claim.cast_signed())
            .fetch_optional(&mut **tx)
            .await
            .map_err(what)?;
            tx.commit().await?;
            started(id, starts)
        })
        .await
    }

    async fn clear_suspects(&self, lease: Lease) -> Answer<()> {
        let what = during("clearing suspects");
        self.bounded("clearing suspects", async {
            let mut tx = self.begin().await?;
            fence(&mut tx, lease).await?;
            sqlx::query("UPDATE buttress_outbox_lease SET suspect_to = 0 WHERE partition = ?")
                .bind(i64::from(lease.partition))
                .execute(&mut **tx)
                .await
                .map_err(what)?;
            tx.commit().await
        })
        .await
    }

    async fn settle(&self, settled: Vec<Settled>) -> Answer<Vec<u16>> {
        if settled.is_empty() {
            return Ok(Vec::new());
        }
        let wrap = |job| WriteOp::Relay(RelayOp::Settle(job));
        self.submit("settling messages", settled, wrap).await
    }

    dead_letters!();

    async fn backlog(&self) -> Answer<Backlog> {
        let what = during("counting the backlog");
        self.bounded("counting the backlog", async {
            let now = self.now();
            let row = sqlx::query(
                "SELECT (SELECT count(*) FROM buttress_outbox WHERE status = 0) \
                      + (SELECT count(*) FROM buttress_outbox WHERE status = 1), \
                 (SELECT count(*) FROM buttress_outbox WHERE status = 3), \
                 (SELECT count(*) FROM (SELECT DISTINCT partition, key FROM buttress_outbox_hold \
                                        WHERE until > ?1)), \
                 min(coalesce((SELECT min(due_at) FROM buttress_outbox WHERE status = 0), ?1), \
                     coalesce((SELECT min(due_at) FROM buttress_outbox WHERE status = 1), ?1))",
            )
            .bind(now)
            .fetch_one(self.pool())
            .await
            .map_err(what)?;
            let mut backlog = backlog(&row).map_err(what)?;
            backlog.oldest_age = duration(now.saturating_sub(row.int(3).map_err(what)?));
            Ok(backlog)
        })
        .await
    }

    purge::messages!(PURGE_BATCH);
}

impl SqliteStore {
    async fn purge_messages(&self, age: Duration, limit: usize) -> Answer<usize> {
        let what = during("purging messages");
        let mut tx = self.begin().await?;
        let now = self.now();
        // Messages delivered after now: the clock was set back. They count as delivered now, so
        // that the purge does not keep them longer.
        sqlx::query(
            "UPDATE buttress_outbox SET settled_at = ?1 WHERE sequence IN (SELECT sequence \
             FROM buttress_outbox WHERE status = 2 AND settled_at > ?1 LIMIT ?2)",
        )
        .bind(now)
        .bind(signed(limit as u64))
        .execute(&mut **tx)
        .await
        .map_err(what)?;
        let done = sqlx::query(
            "DELETE FROM buttress_outbox WHERE sequence IN (SELECT sequence FROM buttress_outbox \
             WHERE status = 2 AND settled_at <= ? ORDER BY settled_at LIMIT ?)",
        )
        .bind(before(now, age))
        .bind(signed(limit as u64))
        .execute(&mut **tx)
        .await
        .map_err(what)?;
        tx.commit().await?;
        Ok(changed(done.rows_affected()))
    }
}

/// Records `relay` as live until its lease ends. Returns the number of live relays.
async fn register(
    tx: &mut SqliteConnection,
    relay: RelayId,
    length: i64,
    now: i64,
) -> sqlx::Result<usize> {
    late::shorten_relays(tx, now).await?;
    sqlx::query("DELETE FROM buttress_outbox_relay WHERE until <= ?")
        .bind(now)
        .execute(&mut *tx)
        .await?;
    let upsert =
        "INSERT OR REPLACE INTO buttress_outbox_relay (relay, until, length) VALUES (?, ?, ?)";
    sqlx::query(upsert)
        .bind(bytes_of_id(relay.get()))
        .bind(now.saturating_add(length))
        .bind(length)
        .execute(&mut *tx)
        .await?;
    let relays: i64 =
        sqlx::query_scalar("SELECT count(*) FROM buttress_outbox_relay").fetch_one(tx).await?;
    Ok(usize::try_from(relays).unwrap_or(1))
}

async fn rows(tx: &mut SqliteConnection, partitions: u16) -> sqlx::Result<Vec<owners::Owned>> {
    let sql = "SELECT partition, relay, until, length, epoch FROM buttress_outbox_lease \
               WHERE partition >= 0 AND partition < ? ORDER BY partition";
    let rows = sqlx::query(sql).bind(i64::from(partitions)).fetch_all(tx).await?;
    rows.iter().map(owners::Owned::read).collect()
}

/// Releases some partitions like [`Store::release_partitions`]. Their owner is alive, so no message
/// is suspect.
async fn release(tx: &mut SqliteConnection, partitions: &[i64]) -> sqlx::Result<()> {
    if partitions.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE buttress_outbox_lease SET relay = NULL, until = 0, high = 0 \
         WHERE partition IN (SELECT value FROM json_each(?))",
    )
    .bind(format!("{partitions:?}"))
    .execute(tx)
    .await
    .map(drop)
}

/// Renews the kept partitions, and takes others under the next epoch. All messages that the last
/// owner fetched are suspect.
async fn own(
    tx: &mut SqliteConnection,
    relay: RelayId,
    length: i64,
    now: i64,
    plan: &Plan,
) -> sqlx::Result<Vec<Lease>> {
    let relay = bytes_of_id(relay.get());
    sqlx::query(
        "UPDATE buttress_outbox_lease SET relay = ?2, epoch = epoch + 1, \
                suspect_to = max(suspect_to, high), high = 0 \
         WHERE partition IN (SELECT value FROM json_each(?1))",
    )
    .bind(format!("{:?}", plan.take))
    .bind(&relay)
    .execute(&mut *tx)
    .await?;
    let rows = sqlx::query(
        "UPDATE buttress_outbox_lease SET until = ?2, length = ?3 WHERE relay = ?1 \
         RETURNING partition, epoch, suspect_to",
    )
    .bind(&relay)
    .bind(now.saturating_add(length))
    .bind(length)
    .fetch_all(tx)
    .await?;
    owners::leases(&rows)
}

/// Checks the fence: the row that a take-over changes.
async fn fence(tx: &mut SqliteConnection, lease: Lease) -> Answer<()> {
    let sql = "UPDATE buttress_outbox_lease SET epoch = epoch \
               WHERE partition = ? AND epoch = ? AND relay IS NOT NULL";
    let done = sqlx::query(sql)
        .bind(i64::from(lease.partition))
        .bind(epoch::asked(lease.epoch))
        .execute(tx)
        .await
        .map_err(during("checking a lease"))?;
    unless_fenced(lease, done.rows_affected())
}

/// Returns identifiers for `substr(?2, value ->> 0, 16)`.
fn pack_of_ids(ids: &[MessageId]) -> Pack {
    let mut pack = Pack::new();
    for id in ids {
        pack.row().bytes(&bytes_of_id(id.get()));
    }
    pack.end()
}
