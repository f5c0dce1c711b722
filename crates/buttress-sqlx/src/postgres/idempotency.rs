//! Claims and results on PostgreSQL.

use std::time::Duration;

use buttress::Answer;
use buttress::idempotency::{Claimed, CompleteIn, Completion, Key, KeyClaim, Store};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Postgres, Transaction};

use super::PostgresStore;
use super::rows::{query, query_scalar, uuid};
use super::sql::Sql;
use crate::columns::Columns as _;
use crate::error::during;
use crate::idempotency::{
    Claim, ClaimOp, Complete, FOUND, FoundRow, Release, Renew, check_value, found, judge_complete,
    judge_outcome, sweep, unreadable,
};
use crate::number::{changed, signed};
use crate::time::span;

mod claim;

impl Store<Vec<u8>> for PostgresStore {
    async fn claim(&self, claim: KeyClaim<'_>, lease: Duration) -> Answer<Claimed<Vec<u8>>> {
        let input = Claim::new(claim, lease);
        self.inner.claims.submit("claiming a key", input, ClaimOp::Claim).await
    }

    async fn renew_claim(&self, claim: KeyClaim<'_>, lease: Duration) -> Answer<()> {
        let input = Renew::new(claim, lease);
        self.inner.claims.submit("renewing a claim", input, ClaimOp::Renew).await
    }

    async fn complete(&self, claim: KeyClaim<'_>, value: Vec<u8>, life: Duration) -> Answer<()> {
        check_value(claim.key, &value)?;
        let input = Complete::new(claim, Some(value), life);
        self.inner.claims.submit("completing a claim", input, ClaimOp::Complete).await
    }

    async fn complete_without_result(&self, claim: KeyClaim<'_>, lifetime: Duration) -> Answer<()> {
        let input = Complete::new(claim, None, lifetime);
        self.inner.claims.submit("completing a claim", input, ClaimOp::Complete).await
    }

    async fn release_claim(&self, claim: KeyClaim<'_>) -> Answer<()> {
        let input = Release::new(claim);
        self.inner.claims.submit("releasing a claim", input, ClaimOp::Release).await
    }

    async fn outcome(&self, claim: KeyClaim<'_>) -> Answer<Option<Vec<u8>>> {
        let what = during("reading a result");
        self.bounded("reading a result", async {
            let mut loan = self.borrow().await?;
            let found = find(&mut loan, &self.inner.sql, claim.key).await.map_err(what)?;
            loan.finish().await?;
            judge_outcome(claim, found)
        })
        .await
    }

    async fn sweep_expired(&self, limit: usize) -> Answer<usize> {
        let most = self.config().settings.results;
        let expired = self.remove("until <= {now}", limit);
        let sweeping =
            sweep(limit, most, expired, self.count_results(), |surplus| self.evict(surplus));
        self.bounded("sweeping results", sweeping).await
    }
}

impl PostgresStore {
    /// Removes entries that meet `condition`. Removes the ones that expire first before the others.
    async fn remove(&self, condition: &str, limit: usize) -> Answer<usize> {
        let chosen = format!(
            "SELECT key FROM {{s}}buttress_idempotency WHERE {condition} ORDER BY until LIMIT $2 \
             FOR UPDATE SKIP LOCKED"
        );
        self.delete(&chosen, limit).await
    }

    /// Removes results that have not expired: from the scopes that have the most results, those
    /// that expire first. So no scope can evict the results of another.
    async fn evict(&self, limit: usize) -> Answer<usize> {
        let chosen = "SELECT key FROM {s}buttress_idempotency WHERE status = 2 AND key = ANY (ARRAY ( \
             SELECT key FROM (SELECT key, until, row_number() OVER (PARTITION BY \
             split_part(key, chr(31), 1) ORDER BY until DESC, key) AS depth \
             FROM {s}buttress_idempotency WHERE status = 2 AND until > {now}) AS ranked \
             ORDER BY depth DESC, until LIMIT $2)) FOR UPDATE SKIP LOCKED";
        self.delete(chosen, limit).await
    }

    async fn delete(&self, chosen: &str, limit: usize) -> Answer<usize> {
        if limit == 0 {
            return Ok(0);
        }
        let sql = self.sql(&format!(
            "DELETE FROM {{s}}buttress_idempotency WHERE key = ANY (ARRAY ({chosen}))"
        ));
        let mut loan = self.borrow().await?;
        let query = query(sql).bind(self.time()).bind(signed(limit as u64));
        let done = query.execute(&mut *loan).await.map_err(during("sweeping results"))?;
        loan.finish().await?;
        Ok(changed(done.rows_affected()))
    }

    async fn count_results(&self) -> Answer<i64> {
        let sql = self.sql("SELECT count(*) FROM {s}buttress_idempotency WHERE status = 2");
        let mut loan = self.borrow().await?;
        let query = query_scalar(sql);
        let results = query.fetch_one(&mut *loan).await.map_err(during("sweeping results"))?;
        loan.finish().await?;
        Ok(results)
    }
}

impl<'a> CompleteIn<Transaction<'a, Postgres>, Vec<u8>> for PostgresStore {
    async fn complete_in(
        &self,
        tx: &mut Transaction<'a, Postgres>,
        completion: Completion<'_, Vec<u8>>,
    ) -> Answer<()> {
        let Completion { claim, value, lifetime, .. } = completion;
        check_value(claim.key, value)?;
        let what = during("completing a claim");
        let sql = self.sql(
            "UPDATE {s}buttress_idempotency SET status = 2, until = {now} + $2::int8, \
             length = $2::int8, value = $3 \
             WHERE key = $4 AND claim = $5 AND status = 1",
        );
        let query = query(sql)
            .bind(self.time())
            .bind(span(lifetime))
            .bind(value)
            .bind(claim.key.as_str())
            .bind(uuid(claim.id.get()));
        self.bounded("completing a claim", async {
            let done = query.execute(&mut **tx).await.map_err(what)?;
            if done.rows_affected() > 0 {
                return Ok(());
            }
            let found = find(tx, &self.inner.sql, claim.key).await.map_err(what)?;
            judge_complete(claim.key, claim.id, Some(value), found)
        })
        .await
    }
}

async fn find(
    connection: &mut PgConnection,
    sql: &Sql,
    key: &Key,
) -> sqlx::Result<Option<FoundRow>> {
    let text = format!("SELECT {FOUND}, {{now}} FROM {{s}}buttress_idempotency WHERE key = $2");
    let text = sql.text(&text);
    let query = query(text).bind(sql.time()).bind(key.as_str());
    let row = query.fetch_optional(connection).await?;
    Ok(row.map(|row| read_row(&row, key.as_str())))
}

/// Reads a row. A damaged row is an error of its key alone.
fn read_row(row: &PgRow, key: &str) -> FoundRow {
    row.int(7).and_then(|now| found(row, now)).map_err(|error| unreadable(key, error))
}
