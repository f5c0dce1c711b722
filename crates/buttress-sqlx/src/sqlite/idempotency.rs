//! Claims and results on SQLite.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use buttress::StoreError;
use buttress::idempotency::{ClaimId, Claimed, CompleteIn, Fingerprint, Key, Store};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _, Sqlite, Transaction};

use super::pack::Pack;
use super::rows::{bytes_of_id, id};
use super::writer::WriteOp;
use super::{SqliteStore, SqliteTransaction};
use crate::claims::{
    Claim, ClaimJob, ClaimOp, Complete, CompleteJob, Found, FoundRow, Release, ReleaseJob, Renew,
    RenewJob, above, check_value, judge_claim, judge_complete, judge_outcome, judge_renew,
    unreadable,
};
use crate::error::during;
use crate::log::signed;
use crate::time::{after, nanos};

impl Store<Vec<u8>> for SqliteStore {
    async fn claim(
        &self,
        key: &Key,
        claim: ClaimId,
        fingerprint: Option<Fingerprint>,
        lease: Duration,
    ) -> Result<Claimed<Vec<u8>>, StoreError> {
        let input = Claim { key: key.clone(), claim, fingerprint, lease };
        self.submit("claiming a key", input, |job| WriteOp::Claim(ClaimOp::Claim(job))).await
    }

    async fn renew_claim(
        &self,
        key: &Key,
        claim: ClaimId,
        lease: Duration,
    ) -> Result<(), StoreError> {
        let input = Renew { key: key.clone(), claim, lease };
        self.submit("renewing a claim", input, |job| WriteOp::Claim(ClaimOp::Renew(job))).await
    }

    async fn complete(
        &self,
        key: &Key,
        claim: ClaimId,
        value: Vec<u8>,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        check_value(key, &value)?;
        let input = Complete { key: key.clone(), claim, value: Some(value), lifetime };
        self.submit("completing a claim", input, |job| WriteOp::Claim(ClaimOp::Complete(job))).await
    }

    async fn complete_without_result(
        &self,
        key: &Key,
        claim: ClaimId,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        let input = Complete { key: key.clone(), claim, value: None, lifetime };
        self.submit("completing a claim", input, |job| WriteOp::Claim(ClaimOp::Complete(job))).await
    }

    async fn release_claim(&self, key: &Key, claim: ClaimId) -> Result<(), StoreError> {
        let input = Release { key: key.clone(), claim };
        self.submit("releasing a claim", input, |job| WriteOp::Claim(ClaimOp::Release(job))).await
    }

    async fn outcome(&self, key: &Key, claim: ClaimId) -> Result<Option<Vec<u8>>, StoreError> {
        let what = during("reading a result");
        self.bounded("reading a result", async {
            let mut connection = self.pool().acquire().await.map_err(what)?;
            let found = find(&mut connection, key, self.now()).await.map_err(what)?;
            judge_outcome(key, claim, found)
        })
        .await
    }

    async fn sweep_expired(&self, limit: usize) -> Result<usize, StoreError> {
        self.bounded("sweeping results", async {
            let expired = self.remove("until <= ?1", limit).await?;
            let Some(most) = self.config().results else { return Ok(expired) };
            // Counted outside the writer's turn, because it may take long.
            let results: i64 =
                sqlx::query_scalar("SELECT count(*) FROM buttress_idempotency WHERE status = 2")
                    .fetch_one(self.pool())
                    .await
                    .map_err(during("sweeping results"))?;
            let surplus = above(results, most).min(limit - expired.min(limit));
            Ok(expired + self.evict(surplus).await?)
        })
        .await
    }
}

impl<'a> CompleteIn<Transaction<'a, Sqlite>, Vec<u8>> for SqliteStore {
    async fn complete_in(
        &self,
        tx: &mut Transaction<'a, Sqlite>,
        key: &Key,
        claim: ClaimId,
        value: &Vec<u8>,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        self.complete_on(tx, key, claim, value, lifetime).await
    }
}

impl CompleteIn<SqliteTransaction, Vec<u8>> for SqliteStore {
    async fn complete_in(
        &self,
        tx: &mut SqliteTransaction,
        key: &Key,
        claim: ClaimId,
        value: &Vec<u8>,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        self.complete_on(tx, key, claim, value, lifetime).await
    }
}

impl SqliteStore {
    /// Removes entries that meet `condition`. Removes the ones that expire first before the others.
    async fn remove(&self, condition: &str, limit: usize) -> Result<usize, StoreError> {
        if limit == 0 {
            return Ok(0);
        }
        let sql = AssertSqlSafe(format!(
            "DELETE FROM buttress_idempotency WHERE rowid IN (SELECT rowid \
             FROM buttress_idempotency WHERE {condition} ORDER BY until LIMIT ?2)"
        ));
        let mut tx = self.begin().await?;
        let query = sqlx::query(sql).bind(self.now()).bind(signed(limit as u64));
        let done = query.execute(&mut **tx).await.map_err(during("sweeping results"))?;
        tx.commit().await?;
        Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
    }

    /// Removes results that have not expired: from the scopes that have the most results, those
    /// that expire first. So no scope can evict the results of another.
    async fn evict(&self, limit: usize) -> Result<usize, StoreError> {
        if limit == 0 {
            return Ok(0);
        }
        let what = during("sweeping results");
        // Chosen outside the writer's turn, because it reads all results.
        let chosen: Option<String> = sqlx::query_scalar(
            "SELECT json_group_array(key) FROM (SELECT key FROM (SELECT key, until, \
             row_number() OVER (PARTITION BY substr(key, 1, instr(key, char(31)) - 1) \
             ORDER BY until DESC, key) AS depth \
             FROM buttress_idempotency WHERE status = 2 AND until > ?1) \
             ORDER BY depth DESC, until LIMIT ?2)",
        )
        .bind(self.now())
        .bind(signed(limit as u64))
        .fetch_one(self.pool())
        .await
        .map_err(what)?;
        let mut tx = self.begin().await?;
        let done = sqlx::query(
            "DELETE FROM buttress_idempotency WHERE status = 2 \
             AND key IN (SELECT value FROM json_each(?1))",
        )
        .bind(chosen)
        .execute(&mut **tx)
        .await
        .map_err(what)?;
        tx.commit().await?;
        Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
    }

    async fn complete_on(
        &self,
        tx: &mut SqliteConnection,
        key: &Key,
        claim: ClaimId,
        value: &[u8],
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        check_value(key, value)?;
        let what = during("completing a claim");
        let now = self.now();
        let done = sqlx::query(
            "UPDATE buttress_idempotency SET status = 2, until = ?, length = ?, value = ? \
             WHERE key = ? AND claim = ? AND status = 1",
        )
        .bind(after(now, lifetime))
        .bind(nanos(lifetime))
        .bind(value)
        .bind(key.as_str())
        .bind(bytes_of_id(claim.get()))
        .execute(&mut *tx)
        .await
        .map_err(what)?;
        if done.rows_affected() > 0 {
            return Ok(());
        }
        let found = find(tx, key, now).await.map_err(what)?;
        judge_complete(key, claim, Some(value), found)
    }
}

/// Writes operations of one wave, in which each key is unique.
pub(super) async fn write(
    tx: &mut SqliteConnection,
    now: i64,
    ops: Vec<&mut ClaimOp>,
) -> Result<(), sqlx::Error> {
    let mut claims = Vec::new();
    let mut completes = Vec::new();
    let mut renews = Vec::new();
    let mut releases = Vec::new();
    for op in ops {
        match op {
            ClaimOp::Claim(job) => claims.push(job),
            ClaimOp::Complete(job) => completes.push(job),
            ClaimOp::Renew(job) => renews.push(job),
            ClaimOp::Release(job) => releases.push(job),
        }
    }
    claim(tx, now, claims).await?;
    complete(tx, now, completes).await?;
    renew(tx, now, renews).await?;
    release(tx, releases).await
}

async fn claim(
    tx: &mut SqliteConnection,
    now: i64,
    mut jobs: Vec<&mut ClaimJob>,
) -> Result<(), sqlx::Error> {
    let mut pack = Pack::new();
    for job in &jobs {
        let Claim { key, claim, fingerprint, lease } = &job.input;
        let fingerprint = fingerprint.map(|fingerprint| bytes_of_id(fingerprint.get()));
        pack.row()
            .bytes(key.as_str().as_bytes())
            .bytes(&bytes_of_id(claim.get()))
            .bytes_or_null(fingerprint.as_deref())
            .int(after(now, *lease))
            .int(nanos(*lease));
    }
    // Takes keys that are free or expired, or that have the very same claim.
    let owned = keys(
        tx,
        "INSERT INTO buttress_idempotency AS old (key, claim, fingerprint, status, until, length) \
         SELECT CAST(substr(?2, value ->> 0, value ->> 1) AS TEXT), substr(?2, value ->> 2, 16), \
                substr(?2, value ->> 4, 16), 1, value ->> 6, value ->> 7 FROM json_each(?1) WHERE true \
         ON CONFLICT (key) DO UPDATE SET claim = excluded.claim, status = 1, value = NULL, \
             until = excluded.until, length = excluded.length, fingerprint = CASE WHEN old.until <= ?3 \
             THEN excluded.fingerprint ELSE coalesce(old.fingerprint, excluded.fingerprint) END \
         WHERE old.until <= ?3 OR (old.claim = excluded.claim AND old.status = 1 \
             AND coalesce(old.fingerprint = excluded.fingerprint, true)) \
         RETURNING key",
        pack,
        Some(now),
    )
    .await?;
    for job in jobs.iter_mut().filter(|job| owned.contains(job.input.key.as_str())) {
        job.settle(Ok(Claimed::Owned));
    }
    let rest: Vec<_> = jobs.into_iter().filter(|job| !job.is_settled()).collect();
    let mut found = find_all(tx, rest.iter().map(|job| &job.input.key), now).await?;
    shorten(tx, &found, now).await?;
    for job in rest {
        let verdict = judge_claim(&job.input, found.remove(job.input.key.as_str()));
        job.settle(verdict);
    }
    Ok(())
}

async fn complete(
    tx: &mut SqliteConnection,
    now: i64,
    mut jobs: Vec<&mut CompleteJob>,
) -> Result<(), sqlx::Error> {
    let mut pack = Pack::new();
    for job in &jobs {
        let Complete { key, claim, value, lifetime } = &job.input;
        pack.row()
            .bytes(key.as_str().as_bytes())
            .bytes(&bytes_of_id(claim.get()))
            .bytes_or_null(value.as_deref())
            .int(after(now, *lifetime))
            .int(nanos(*lifetime));
    }
    let done = keys(
        tx,
        "UPDATE buttress_idempotency AS old SET until = new.until, length = new.length, value = new.value, \
             status = CASE WHEN new.value IS NULL THEN 3 ELSE 2 END \
         FROM (SELECT CAST(substr(?2, value ->> 0, value ->> 1) AS TEXT) AS key, \
                      substr(?2, value ->> 2, 16) AS claim, \
                      substr(?2, value ->> 4, value ->> 5) AS value, value ->> 6 AS until, \
                      value ->> 7 AS length \
               FROM json_each(?1)) AS new \
         WHERE old.key = new.key AND old.claim = new.claim AND old.status = 1 RETURNING key",
        pack,
        None,
    )
    .await?;
    for job in jobs.iter_mut().filter(|job| done.contains(job.input.key.as_str())) {
        job.settle(Ok(()));
    }
    let rest: Vec<_> = jobs.into_iter().filter(|job| !job.is_settled()).collect();
    let mut found = find_all(tx, rest.iter().map(|job| &job.input.key), now).await?;
    for job in rest {
        let Complete { key, claim, value, .. } = &job.input;
        let verdict = judge_complete(key, *claim, value.as_deref(), found.remove(key.as_str()));
        job.settle(verdict);
    }
    Ok(())
}

async fn renew(
    tx: &mut SqliteConnection,
    now: i64,
    jobs: Vec<&mut RenewJob>,
) -> Result<(), sqlx::Error> {
    let mut pack = Pack::new();
    for job in &jobs {
        let Renew { key, claim, lease } = &job.input;
        pack.row()
            .bytes(key.as_str().as_bytes())
            .bytes(&bytes_of_id(claim.get()))
            .int(after(now, *lease))
            .int(nanos(*lease));
    }
    let renewed = keys(
        tx,
        "UPDATE buttress_idempotency AS old SET until = new.until, length = new.length \
         FROM (SELECT CAST(substr(?2, value ->> 0, value ->> 1) AS TEXT) AS key, \
                      substr(?2, value ->> 2, 16) AS claim, value ->> 4 AS until, \
                      value ->> 5 AS length \
               FROM json_each(?1)) AS new \
         WHERE old.key = new.key AND old.claim = new.claim AND old.status = 1 RETURNING key",
        pack,
        None,
    )
    .await?;
    for job in jobs {
        let Renew { key, claim, .. } = &job.input;
        let held = renewed.contains(key.as_str());
        let verdict = if held { Ok(()) } else { judge_renew(key, *claim, None) };
        job.settle(verdict);
    }
    Ok(())
}

async fn release(tx: &mut SqliteConnection, jobs: Vec<&mut ReleaseJob>) -> Result<(), sqlx::Error> {
    let mut pack = Pack::new();
    for job in &jobs {
        let Release { key, claim } = &job.input;
        pack.row().bytes(key.as_str().as_bytes()).bytes(&bytes_of_id(claim.get()));
    }
    keys(
        tx,
        "DELETE FROM buttress_idempotency WHERE status = 1 AND (key, claim) IN \
         (SELECT CAST(substr(?2, value ->> 0, value ->> 1) AS TEXT), substr(?2, value ->> 2, 16) \
          FROM json_each(?1)) RETURNING key",
        pack,
        None,
    )
    .await?;
    for job in jobs {
        job.settle(Ok(()));
    }
    Ok(())
}

/// Returns the keys that a statement returns.
async fn keys(
    tx: &mut SqliteConnection,
    sql: &'static str,
    pack: Pack,
    now: Option<i64>,
) -> Result<HashSet<String>, sqlx::Error> {
    if pack.is_empty() {
        return Ok(HashSet::new());
    }
    let pack = pack.end();
    let mut query = sqlx::query_scalar(sql).bind(pack.json).bind(pack.blob);
    if let Some(now) = now {
        query = query.bind(now);
    }
    let keys: Vec<String> = query.fetch_all(tx).await?;
    Ok(keys.into_iter().collect())
}

/// Shortens leases and results that end later than their length from now, because the clock was set
/// back. No other transaction writes until this one ends, so the found rows are current.
async fn shorten(
    tx: &mut SqliteConnection,
    found: &HashMap<String, FoundRow>,
    now: i64,
) -> Result<(), sqlx::Error> {
    let late = found.iter().filter(|(_, row)| row.as_ref().is_ok_and(Found::is_late));
    for (key, _) in late {
        let sql = "UPDATE buttress_idempotency SET until = ?2 + max(length, 0) WHERE key = ?1";
        sqlx::query(sql).bind(key).bind(now).execute(&mut *tx).await?;
    }
    Ok(())
}

const FOUND: &str = "key, claim, fingerprint, status, until, value, length";

async fn find(
    tx: &mut SqliteConnection,
    key: &Key,
    now: i64,
) -> Result<Option<FoundRow>, sqlx::Error> {
    let sql = AssertSqlSafe(format!("SELECT {FOUND} FROM buttress_idempotency WHERE key = ?"));
    let row = sqlx::query(sql).bind(key.as_str()).fetch_optional(tx).await?;
    Ok(row.map(|row| read_row(&row, key.as_str(), now)))
}

async fn find_all<'k>(
    tx: &mut SqliteConnection,
    keys: impl Iterator<Item = &'k Key>,
    now: i64,
) -> Result<HashMap<String, FoundRow>, sqlx::Error> {
    let mut pack = Pack::new();
    for key in keys {
        pack.row().bytes(key.as_str().as_bytes());
    }
    if pack.is_empty() {
        return Ok(HashMap::new());
    }
    let pack = pack.end();
    let sql = AssertSqlSafe(format!(
        "SELECT {FOUND} FROM buttress_idempotency WHERE key IN \
         (SELECT CAST(substr(?2, value ->> 0, value ->> 1) AS TEXT) FROM json_each(?1))"
    ));
    let rows = sqlx::query(sql).bind(pack.json).bind(pack.blob).fetch_all(tx).await?;
    let rows = rows.iter().map(|row| {
        let key: String = row.try_get(0)?;
        let row = read_row(row, &key, now);
        Ok((key, row))
    });
    rows.collect()
}

/// Reads a row. A damaged row is an error of its key alone.
fn read_row(row: &SqliteRow, key: &str, now: i64) -> FoundRow {
    found(row, now).map_err(|error| unreadable(key, error))
}

fn found(row: &SqliteRow, now: i64) -> Result<Found, sqlx::Error> {
    let fingerprint: Option<&[u8]> = row.try_get(2)?;
    Ok(Found {
        claim: id(row, 1)?,
        fingerprint: fingerprint.map(|_| id(row, 2)).transpose()?,
        status: row.try_get(3)?,
        until: row.try_get(4)?,
        value: row.try_get(5)?,
        length: row.try_get(6)?,
        now,
    })
}
