//! Claims and results on SQLite.

pub(super) mod batch;
mod find;

use std::time::Duration;

use buttress::StoreError;
use buttress::idempotency::{ClaimId, Claimed, CompleteIn, Fingerprint, Key, Store};
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Sqlite, Transaction};

use self::find::find;
use super::rows::bytes_of_id;
use super::writer::WriteOp;
use super::{SqliteStore, SqliteTransaction};
use crate::claims::{
    Claim, ClaimOp, Complete, Release, Renew, above, check_value, judge_complete, judge_outcome,
};
use crate::error::during;
use crate::number::{changed, signed};
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
        Ok(changed(done.rows_affected()))
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
        Ok(changed(done.rows_affected()))
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
