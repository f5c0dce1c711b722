//! Claims and results on PostgreSQL.

use std::time::Duration;

use buttress::StoreError;
use buttress::idempotency::{ClaimId, Claimed, CompleteIn, Fingerprint, Key, Store};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Postgres, Transaction};

use super::PostgresStore;
use super::rows::{query, query_scalar, uuid};
use super::sql::Sql;
use crate::claims::{
    Claim, ClaimOp, Complete, FOUND, FoundRow, Release, Renew, above, check_value, found,
    judge_complete, judge_outcome, unreadable,
};
use crate::columns::Columns as _;
use crate::error::during;
use crate::number::{changed, signed};
use crate::time::span;

mod claim;

impl Store<Vec<u8>> for PostgresStore {
    async fn claim(
        &self,
        key: &Key,
        claim: ClaimId,
        fingerprint: Option<Fingerprint>,
        lease: Duration,
    ) -> Result<Claimed<Vec<u8>>, StoreError> {
        let input = Claim { key: key.clone(), claim, fingerprint, lease };
        self.inner.claims.submit("claiming a key", input, ClaimOp::Claim).await
    }

    async fn renew_claim(
        &self,
        key: &Key,
        claim: ClaimId,
        lease: Duration,
    ) -> Result<(), StoreError> {
        let input = Renew { key: key.clone(), claim, lease };
        self.inner.claims.submit("renewing a claim", input, ClaimOp::Renew).await
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
        self.inner.claims.submit("completing a claim", input, ClaimOp::Complete).await
    }

    async fn complete_without_result(
        &self,
        key: &Key,
        claim: ClaimId,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        let input = Complete { key: key.clone(), claim, value: None, lifetime };
        self.inner.claims.submit("completing a claim", input, ClaimOp::Complete).await
    }

    async fn release_claim(&self, key: &Key, claim: ClaimId) -> Result<(), StoreError> {
        let input = Release { key: key.clone(), claim };
        self.inner.claims.submit("releasing a claim", input, ClaimOp::Release).await
    }

    async fn outcome(&self, key: &Key, claim: ClaimId) -> Result<Option<Vec<u8>>, StoreError> {
        let what = during("reading a result");
        self.bounded("reading a result", async {
            let mut loan = self.borrow().await?;
            let found = find(&mut loan, &self.inner.sql, key).await.map_err(what)?;
            loan.finish().await?;
            judge_outcome(key, claim, found)
        })
        .await
    }

    async fn sweep_expired(&self, limit: usize) -> Result<usize, StoreError> {
        self.bounded("sweeping results", async {
            let expired = self.remove("until <= {now}", limit).await?;
            let Some(most) = self.config().results else { return Ok(expired) };
            let results = self.count_results().await?;
            let surplus = above(results, most).min(limit - expired.min(limit));
            Ok(expired + self.evict(surplus).await?)
        })
        .await
    }
}

impl PostgresStore {
    /// Removes entries that meet `condition`. Removes the ones that expire first before the others.
    async fn remove(&self, condition: &str, limit: usize) -> Result<usize, StoreError> {
        let chosen = format!(
            "SELECT key FROM {{s}}buttress_idempotency WHERE {condition} ORDER BY until LIMIT $2 \
             FOR UPDATE SKIP LOCKED"
        );
        self.delete(&chosen, limit).await
    }

    /// Removes results that have not expired: from the scopes that have the most results, those
    /// that expire first. So no scope can evict the results of another.
    async fn evict(&self, limit: usize) -> Result<usize, StoreError> {
        let chosen = "SELECT key FROM {s}buttress_idempotency WHERE status = 2 AND key = ANY (ARRAY ( \
             SELECT key FROM (SELECT key, until, row_number() OVER (PARTITION BY \
             split_part(key, chr(31), 1) ORDER BY until DESC, key) AS depth \
             FROM {s}buttress_idempotency WHERE status = 2 AND until > {now}) AS ranked \
             ORDER BY depth DESC, until LIMIT $2)) FOR UPDATE SKIP LOCKED";
        self.delete(chosen, limit).await
    }

    async fn delete(&self, chosen: &str, limit: usize) -> Result<usize, StoreError> {
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

    async fn count_results(&self) -> Result<i64, StoreError> {
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
        key: &Key,
        claim: ClaimId,
        value: &Vec<u8>,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        check_value(key, value)?;
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
            .bind(key.as_str())
            .bind(uuid(claim.get()));
        self.bounded("completing a claim", async {
            let done = query.execute(&mut **tx).await.map_err(what)?;
            if done.rows_affected() > 0 {
                return Ok(());
            }
            let found = find(tx, &self.inner.sql, key).await.map_err(what)?;
            judge_complete(key, claim, Some(value), found)
        })
        .await
    }
}

async fn find(
    connection: &mut PgConnection,
    sql: &Sql,
    key: &Key,
) -> Result<Option<FoundRow>, sqlx::Error> {
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
