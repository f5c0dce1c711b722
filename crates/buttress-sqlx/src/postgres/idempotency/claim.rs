//! The statements of the writer of claims.
//!
//! A user's transaction that completes its claim locks the row until it ends. A claim must not wait
//! for it here, because all other claims would wait too. So the statements skip locked rows, and
//! the answer uses their last committed state.

use std::collections::{HashMap, HashSet};

use buttress::Answer;
use buttress::idempotency::{Claimed, Key};
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::QueryScalar;
use sqlx::types::Uuid;
use sqlx::{Postgres, Row as _};

use super::{FOUND, read_row};
use crate::idempotency::{
    ClaimJob, ClaimOp, CompleteJob, Found, FoundRow, OfKey, ReleaseJob, RenewJob, Wave,
    check_unlocked, judge_claim, judge_complete, judge_renew, settle_written,
};
use crate::postgres::rows::{query, query_scalar, uuid};
use crate::postgres::sql::Sql;
use crate::postgres::writer::Together;
use crate::queue::Job;
use crate::time::span;

impl Together for ClaimOp {
    fn kind(&self) -> u8 {
        match self {
            Self::Claim(_) => 0,
            Self::Complete(_) => 1,
            Self::Renew(_) => 2,
            Self::Release(_) => 3,
        }
    }

    async fn write(tx: &mut PgConnection, sql: &Sql, ops: Vec<&mut Self>) -> sqlx::Result<()> {
        let Wave { claims, completes, renews, releases } = Wave::new(ops);
        claim(tx, sql, claims).await?;
        complete(tx, sql, completes).await?;
        renew(tx, sql, renews).await?;
        release(tx, sql, releases).await
    }
}

/// Takes keys that are free or expired, or that have the very same claim. It does not insert a
/// known key: the insert would wait for the transaction that has locked its row.
const CLAIM: &str = "\
    WITH t AS MATERIALIZED (SELECT {now} AS now), \
    asked AS MATERIALIZED (SELECT * FROM unnest($2::text[], $3::uuid[], $4::uuid[], $5::int8[]) \
        AS a(key, claim, fingerprint, lease)), \
    fresh AS ( \
        INSERT INTO {s}buttress_idempotency (key, claim, fingerprint, status, until, length) \
        SELECT key, claim, fingerprint, 1, t.now + lease, lease FROM asked AS a CROSS JOIN t \
        WHERE NOT EXISTS (SELECT 1 FROM {s}buttress_idempotency AS old WHERE old.key = a.key) \
        ORDER BY key \
        ON CONFLICT (key) DO NOTHING RETURNING key), \
    free AS ( \
        SELECT old.key FROM asked AS a JOIN {s}buttress_idempotency AS old ON old.key = a.key \
        CROSS JOIN t WHERE old.until <= t.now OR (old.claim = a.claim AND old.status = 1 \
            AND coalesce(old.fingerprint = a.fingerprint, true)) \
        ORDER BY old.key FOR UPDATE OF old SKIP LOCKED), \
    taken AS ( \
        UPDATE {s}buttress_idempotency AS old SET claim = a.claim, status = 1, value = NULL, \
            until = t.now + a.lease, length = a.lease, fingerprint = CASE WHEN old.until <= t.now \
                THEN a.fingerprint ELSE coalesce(old.fingerprint, a.fingerprint) END \
        FROM free JOIN asked AS a ON a.key = free.key CROSS JOIN t WHERE old.key = free.key \
        RETURNING old.key) \
    SELECT key FROM fresh UNION ALL SELECT key FROM taken";

async fn claim(tx: &mut PgConnection, sql: &Sql, jobs: Vec<&mut ClaimJob>) -> sqlx::Result<()> {
    if jobs.is_empty() {
        return Ok(());
    }
    let fingerprints: Vec<Option<Uuid>> =
        jobs.iter().map(|job| job.input.fingerprint.map(|print| uuid(print.get()))).collect();
    let text = sql.text(CLAIM);
    let query = query_scalar(text)
        .bind(sql.time())
        .bind(keys(&jobs))
        .bind(claims(&jobs))
        .bind(fingerprints)
        .bind(jobs.iter().map(|job| span(job.input.lease)).collect::<Vec<_>>());
    let owned = written(tx, query).await?;
    let rest = settle_written(jobs, &owned, || Claimed::Owned);
    let mut found = find_all(tx, sql, rest.iter().map(|job| &job.input.key)).await?;
    shorten(tx, sql, &found).await?;
    for job in rest {
        let verdict = judge_claim(&job.input, found.remove(job.input.key.as_str()));
        job.settle(verdict);
    }
    Ok(())
}

const COMPLETE: &str = "\
    WITH asked AS MATERIALIZED (SELECT * FROM unnest($2::text[], $3::uuid[], $4::bytea[], \
        $5::int8[]) AS a(key, claim, value, lifetime)), \
    free AS ( \
        SELECT old.key FROM asked AS a JOIN {s}buttress_idempotency AS old ON old.key = a.key \
        WHERE old.claim = a.claim AND old.status = 1 \
        ORDER BY old.key FOR UPDATE OF old SKIP LOCKED) \
    UPDATE {s}buttress_idempotency AS old SET value = a.value, \
        status = CASE WHEN a.value IS NULL THEN 3 ELSE 2 END, until = {now} + a.lifetime, \
        length = a.lifetime \
    FROM free JOIN asked AS a ON a.key = free.key WHERE old.key = free.key RETURNING old.key";

async fn complete(
    tx: &mut PgConnection,
    sql: &Sql,
    jobs: Vec<&mut CompleteJob>,
) -> sqlx::Result<()> {
    if jobs.is_empty() {
        return Ok(());
    }
    let text = sql.text(COMPLETE);
    let query = query_scalar(text)
        .bind(sql.time())
        .bind(keys(&jobs))
        .bind(claims(&jobs))
        .bind(jobs.iter().map(|job| job.input.value.as_deref()).collect::<Vec<_>>())
        .bind(jobs.iter().map(|job| span(job.input.lifetime)).collect::<Vec<_>>());
    let done = written(tx, query).await?;
    settle(tx, sql, jobs, &done, |input, found| {
        judge_complete(&input.key, input.claim, input.value.as_deref(), found)
    })
    .await
}

const RENEW: &str = "\
    WITH asked AS MATERIALIZED (SELECT * FROM unnest($2::text[], $3::uuid[], $4::int8[]) \
        AS a(key, claim, lease)), \
    free AS ( \
        SELECT old.key FROM asked AS a JOIN {s}buttress_idempotency AS old ON old.key = a.key \
        WHERE old.claim = a.claim AND old.status = 1 \
        ORDER BY old.key FOR UPDATE OF old SKIP LOCKED) \
    UPDATE {s}buttress_idempotency AS old SET until = {now} + a.lease, length = a.lease \
    FROM free JOIN asked AS a ON a.key = free.key WHERE old.key = free.key RETURNING old.key";

async fn renew(tx: &mut PgConnection, sql: &Sql, jobs: Vec<&mut RenewJob>) -> sqlx::Result<()> {
    if jobs.is_empty() {
        return Ok(());
    }
    let text = sql.text(RENEW);
    let query = query_scalar(text)
        .bind(sql.time())
        .bind(keys(&jobs))
        .bind(claims(&jobs))
        .bind(jobs.iter().map(|job| span(job.input.lease)).collect::<Vec<_>>());
    let renewed = written(tx, query).await?;
    settle(tx, sql, jobs, &renewed, |input, found| judge_renew(&input.key, input.claim, found))
        .await
}

const RELEASE: &str = "\
    DELETE FROM {s}buttress_idempotency WHERE key = ANY (ARRAY ( \
        SELECT old.key FROM unnest($1::text[], $2::uuid[]) AS a(key, claim) \
        JOIN {s}buttress_idempotency AS old ON old.key = a.key \
        WHERE old.claim = a.claim AND old.status = 1 \
        ORDER BY old.key FOR UPDATE OF old SKIP LOCKED)) RETURNING key";

async fn release(tx: &mut PgConnection, sql: &Sql, jobs: Vec<&mut ReleaseJob>) -> sqlx::Result<()> {
    if jobs.is_empty() {
        return Ok(());
    }
    let text = sql.text(RELEASE);
    let query = query_scalar(text).bind(keys(&jobs)).bind(claims(&jobs));
    let released = written(tx, query).await?;
    settle(tx, sql, jobs, &released, |input, found| check_unlocked(&input.key, input.claim, found))
        .await
}

fn keys<'j, I: OfKey, R>(jobs: &'j [&mut Job<I, R>]) -> Vec<&'j str> {
    jobs.iter().map(|job| job.input.key().as_str()).collect()
}

fn claims<I: OfKey, R>(jobs: &[&mut Job<I, R>]) -> Vec<Uuid> {
    jobs.iter().map(|job| uuid(job.input.claim().get())).collect()
}

/// Runs a statement that returns the keys that it has written.
async fn written(
    tx: &mut PgConnection,
    query: QueryScalar<'_, Postgres, String, PgArguments>,
) -> sqlx::Result<HashSet<String>> {
    Ok(query.fetch_all(tx).await?.into_iter().collect())
}

/// Answers the operations. `judge` judges those whose keys the statement has not written, by their
/// rows.
async fn settle<I: OfKey>(
    tx: &mut PgConnection,
    sql: &Sql,
    jobs: Vec<&mut Job<I, ()>>,
    written: &HashSet<String>,
    judge: impl Fn(&I, Option<FoundRow>) -> Answer<()>,
) -> sqlx::Result<()> {
    let rest = settle_written(jobs, written, || ());
    let mut found = find_all(tx, sql, rest.iter().map(|job| job.input.key())).await?;
    for job in rest {
        let verdict = judge(&job.input, found.remove(job.input.key().as_str()));
        job.settle(verdict);
    }
    Ok(())
}

/// Has a condition on the row that the owner's renewal makes false. A locked row is being written
/// anyway.
const SHORTEN: &str = "\
    WITH t AS MATERIALIZED (SELECT {now} AS now), \
    late AS ( \
        SELECT key FROM {s}buttress_idempotency WHERE key = ANY ($2) \
        ORDER BY key FOR UPDATE SKIP LOCKED) \
    UPDATE {s}buttress_idempotency AS old SET until = t.now + greatest(old.length, 0) \
    FROM late CROSS JOIN t WHERE old.key = late.key AND CASE WHEN old.until > t.now \
        THEN old.until - greatest(old.length, 0) > t.now ELSE false END";

/// Shortens leases and results that end later than their length from now, because the clock was set
/// back.
async fn shorten(
    tx: &mut PgConnection,
    sql: &Sql,
    found: &HashMap<String, FoundRow>,
) -> sqlx::Result<()> {
    let late = found.iter().filter(|(_, row)| row.as_ref().is_ok_and(Found::is_late));
    let keys: Vec<&str> = late.map(|(key, _)| key.as_str()).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let text = sql.text(SHORTEN);
    query(text).bind(sql.time()).bind(keys).execute(tx).await.map(drop)
}

async fn find_all<'k>(
    tx: &mut PgConnection,
    sql: &Sql,
    keys: impl Iterator<Item = &'k Key>,
) -> sqlx::Result<HashMap<String, FoundRow>> {
    let keys: Vec<&str> = keys.map(Key::as_str).collect();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let text = sql.text(&format!(
        "SELECT {FOUND}, {{now}} FROM {{s}}buttress_idempotency WHERE key = ANY ($2)"
    ));
    let rows = query(text).bind(sql.time()).bind(keys).fetch_all(tx).await?;
    let rows = rows.iter().map(|row| {
        let key: String = row.try_get(0)?;
        let row = read_row(row, &key);
        Ok((key, row))
    });
    rows.collect()
}
