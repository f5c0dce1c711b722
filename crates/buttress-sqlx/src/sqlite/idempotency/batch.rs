//! Operations on claims that one transaction writes together.

use std::collections::{HashMap, HashSet};

use buttress::idempotency::{ClaimId, Claimed, Key};
use sqlx::sqlite::SqliteConnection;

use super::find::find_all;
use crate::idempotency::{
    Claim, ClaimJob, ClaimOp, Complete, CompleteJob, Found, FoundRow, Release, ReleaseJob, Renew,
    RenewJob, Wave, judge_claim, judge_complete, judge_renew, settle_written,
};
use crate::sqlite::pack::{Pack, Row};
use crate::sqlite::rows::bytes_of_id;
use crate::time::{after, nanos};

/// Writes operations of one wave, in which each key is unique.
pub(in crate::sqlite) async fn write(
    tx: &mut SqliteConnection,
    now: i64,
    ops: Vec<&mut ClaimOp>,
) -> sqlx::Result<()> {
    let Wave { claims, completes, renews, releases } = Wave::new(ops);
    claim(tx, now, claims).await?;
    complete(tx, now, completes).await?;
    renew(tx, now, renews).await?;
    release(tx, releases).await
}

async fn claim(tx: &mut SqliteConnection, now: i64, jobs: Vec<&mut ClaimJob>) -> sqlx::Result<()> {
    let mut pack = Pack::new();
    for job in &jobs {
        let Claim { key, claim, fingerprint, lease } = &job.input;
        let fingerprint = fingerprint.map(|fingerprint| bytes_of_id(fingerprint.get()));
        row(&mut pack, key, *claim)
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
    let rest = settle_written(jobs, &owned, || Claimed::Owned);
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
    jobs: Vec<&mut CompleteJob>,
) -> sqlx::Result<()> {
    let mut pack = Pack::new();
    for job in &jobs {
        let Complete { key, claim, value, lifetime } = &job.input;
        let mut row = row(&mut pack, key, *claim);
        row.bytes_or_null(value.as_deref()).int(after(now, *lifetime)).int(nanos(*lifetime));
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
    let rest = settle_written(jobs, &done, || ());
    let mut found = find_all(tx, rest.iter().map(|job| &job.input.key), now).await?;
    for job in rest {
        let Complete { key, claim, value, .. } = &job.input;
        let verdict = judge_complete(key, *claim, value.as_deref(), found.remove(key.as_str()));
        job.settle(verdict);
    }
    Ok(())
}

async fn renew(tx: &mut SqliteConnection, now: i64, jobs: Vec<&mut RenewJob>) -> sqlx::Result<()> {
    let mut pack = Pack::new();
    for job in &jobs {
        let Renew { key, claim, lease } = &job.input;
        row(&mut pack, key, *claim).int(after(now, *lease)).int(nanos(*lease));
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
    for job in settle_written(jobs, &renewed, || ()) {
        let verdict = judge_renew(&job.input.key, job.input.claim, None);
        job.settle(verdict);
    }
    Ok(())
}

async fn release(tx: &mut SqliteConnection, jobs: Vec<&mut ReleaseJob>) -> sqlx::Result<()> {
    let mut pack = Pack::new();
    for job in &jobs {
        let Release { key, claim } = &job.input;
        row(&mut pack, key, *claim);
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

/// Begins a row with a key and its claim.
fn row<'p>(pack: &'p mut Pack, key: &Key, claim: ClaimId) -> Row<'p> {
    let mut row = pack.row();
    row.bytes(key.as_str().as_bytes()).bytes(&bytes_of_id(claim.get()));
    row
}

/// Returns the keys that a statement returns.
async fn keys(
    tx: &mut SqliteConnection,
    sql: &'static str,
    pack: Pack,
    now: Option<i64>,
) -> sqlx::Result<HashSet<String>> {
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
) -> sqlx::Result<()> {
    let late = found.iter().filter(|(_, row)| row.as_ref().is_ok_and(Found::is_late));
    for (key, _) in late {
        let sql = "UPDATE buttress_idempotency SET until = ?2 + max(length, 0) WHERE key = ?1";
        sqlx::query(sql).bind(key).bind(now).execute(&mut *tx).await?;
    }
    Ok(())
}
