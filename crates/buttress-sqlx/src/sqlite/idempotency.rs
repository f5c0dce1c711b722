//! Claims and results on SQLite.

pub(super) mod batch;
mod find;

use std::time::Duration;

use buttress::Answer;
use buttress::idempotency::{Claimed, CompleteIn, Completion, KeyClaim, Store};
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Sqlite, Transaction};

use self::find::find;
use super::rows::bytes_of_id;
use super::writer::WriteOp;
use super::{SqliteStore, SqliteTransaction};
use crate::error::during;
use crate::idempotency::{
    Claim, ClaimOp, Complete, Release, Renew, check_value, judge_complete, judge_outcome, sweep,
};
use crate::number::{changed, signed};
use crate::time::{after, nanos};

impl Store<Vec<u8>> for SqliteStore {
    async fn claim(&self, claim: KeyClaim<'_>, lease: Duration) -> Answer<Claimed<Vec<u8>>> {
        let input = Claim::new(claim, lease);
        self.submit("claiming a key", input, |job| WriteOp::Claim(ClaimOp::Claim(job))).await
    }

    async fn renew_claim(&self, claim: KeyClaim<'_>, lease: Duration) -> Answer<()> {
        let input = Renew::new(claim, lease);
        self.submit("renewing a claim", input, |job| WriteOp::Claim(ClaimOp::Renew(job))).await
    }

    async fn complete(&self, claim: KeyClaim<'_>, value: Vec<u8>, life: Duration) -> Answer<()> {
        check_value(claim.key, &value)?;
        let input = Complete::new(claim, Some(value), life);
        self.submit("completing a claim", input, |job| WriteOp::Claim(ClaimOp::Complete(job))).await
    }

    async fn complete_without_result(&self, claim: KeyClaim<'_>, lifetime: Duration) -> Answer<()> {
        let input = Complete::new(claim, None, lifetime);
        self.submit("completing a claim", input, |job| WriteOp::Claim(ClaimOp::Complete(job))).await
    }

    async fn release_claim(&self, claim: KeyClaim<'_>) -> Answer<()> {
        let input = Release::new(claim);
        self.submit("releasing a claim", input, |job| WriteOp::Claim(ClaimOp::Release(job))).await
    }

    async fn outcome(&self, claim: KeyClaim<'_>) -> Answer<Option<Vec<u8>>> {
        let what = during("reading a result");
        self.bounded("reading a result", async {
            let mut connection = self.pool().acquire().await.map_err(what)?;
            let found = find(&mut connection, claim.key, self.now()).await.map_err(what)?;
            judge_outcome(claim, found)
        })
        .await
    }

    async fn sweep_expired(&self, limit: usize) -> Answer<usize> {
        let most = self.config().settings.results;
        let expired = self.remove("until <= ?1", limit);
        let sweeping =
            sweep(limit, most, expired, self.count_results(), |surplus| self.evict(surplus));
        self.bounded("sweeping results", sweeping).await
    }
}

impl<'a> CompleteIn<Transaction<'a, Sqlite>, Vec<u8>> for SqliteStore {
    async fn complete_in(
        &self,
        tx: &mut Transaction<'a, Sqlite>,
        completion: Completion<'_, Vec<u8>>,
    ) -> Answer<()> {
        self.complete_on(tx, completion).await
    }
}

impl CompleteIn<SqliteTransaction, Vec<u8>> for SqliteStore {
    async fn complete_in(
        &self,
        tx: &mut SqliteTransaction,
        completion: Completion<'_, Vec<u8>>,
    ) -> Answer<()> {
        self.complete_on(tx, completion).await
    }
}

impl SqliteStore {
    /// Removes entries that meet `condition`. Removes the ones that expire first before the others.
    async fn remove(&self, condition: &str, limit: usize) -> Answer<usize> {
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
    async fn evict(&self, limit: usize) -> Answer<usize> {
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

    /// Counts outside the writer's turn, because it may take long.
    async fn count_results(&self) -> Answer<i64> {
        sqlx::query_scalar("SELECT count(*) FROM buttress_idempotency WHERE status = 2")
            .fetch_one(self.pool())
            .await
            .map_err(during("sweeping results"))
    }

    async fn complete_on(
        &self,
        tx: &mut SqliteConnection,
        completion: Completion<'_, Vec<u8>>,
    ) -> Answer<()> {
        let Completion { claim, value, lifetime, .. } = completion;
        check_value(claim.key, value)?;
        let what = during("completing a claim");
        let now = self.now();
        let done = sqlx::query(
            "UPDATE buttress_idempotency SET status = 2, until = ?, length = ?, value = ? \
             WHERE key = ? AND claim = ? AND status = 1",
        )
        .bind(after(now, lifetime))
        .bind(nanos(lifetime))
        .bind(value)
        .bind(claim.key.as_str())
        .bind(bytes_of_id(claim.id.get()))
        .execute(&mut *tx)
        .await
        .map_err(what)?;
        if done.rows_affected() > 0 {
            return Ok(());
        }
        let found = find(tx, claim.key, now).await.map_err(what)?;
        judge_complete(claim.key, claim.id, Some(value), found)
    }
}
