//! Projections: leases, checkpoints and swaps.

use buttress::StoreError;
use buttress_durable::Answer;
use buttress_durable::event_store::{
    Advance, Leased, Position, ProjectionClaim, ProjectionLease, ProjectionState, Start, Swap,
};
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::epoch;
use crate::error::during;
use crate::events::{Owner, Turn, not_moved, state, turn};
use crate::number::signed;
use crate::postgres::PostgresStore;
use crate::postgres::rows::{query, query_scalar, uuid};
use crate::time::span;

const OWNER: &str = Owner::COLUMNS;

pub(super) async fn lease(
    store: &PostgresStore,
    claim: ProjectionClaim<'_>,
) -> Answer<Option<Leased>> {
    let ProjectionClaim { name, worker, .. } = claim;
    let what = during("leasing a projection");
    let mut loan = store.borrow().await?;
    let mut tx = loan.begin().await.map_err(what)?;
    // Waits for a transaction that moves the checkpoint, and sees the moved one.
    let find = format!(
        "SELECT {{now}}, {OWNER} FROM {{s}}buttress_event_projection WHERE name = $2 FOR UPDATE"
    );
    let find = || query(store.sql(&find)).bind(store.time()).bind(name);
    let mut row = find().fetch_optional(&mut *tx).await.map_err(what)?;
    if let (None, Some(start)) = (&row, claim.start) {
        let last = "(SELECT last FROM {s}buttress_event_counter)";
        let start = if start == Start::Last { last } else { "0" };
        let create = store.sql(&format!(
            "INSERT INTO {{s}}buttress_event_projection (name, checkpoint, seen) \
             VALUES ($1, {start}, {start}) ON CONFLICT (name) DO NOTHING"
        ));
        query(create).bind(name).execute(&mut *tx).await.map_err(what)?;
        row = find().fetch_optional(&mut *tx).await.map_err(what)?;
    }
    let Some(row) = row else {
        // The claim creates nothing, or another caller has removed the projection in between.
        tx.rollback().await.map_err(what)?;
        loan.finish().await?;
        return Ok(None);
    };
    let (now, owner) = (row.try_get(0).map_err(what)?, Owner::read(&row, 1).map_err(what)?);
    let (sql, until, leased) = match turn(name, owner, worker, now)? {
        Turn::Own(epoch) => (
            "UPDATE {s}buttress_event_projection SET worker = $3, until = $2, length = $4, epoch = $5 \
             WHERE name = $1",
            now.saturating_add(span(claim.lease)),
            Some((epoch, owner.leased(name, worker, epoch))),
        ),
        Turn::Shorten(end) => {
            ("UPDATE {s}buttress_event_projection SET until = $2 WHERE name = $1", end, None)
        }
        Turn::Wait => {
            tx.rollback().await.map_err(what)?;
            loan.finish().await?;
            return Ok(None);
        }
    };
    let mut update = query(store.sql(sql)).bind(name).bind(until);
    if let Some((epoch, _)) = &leased {
        update = update.bind(uuid(worker.get())).bind(span(claim.lease)).bind(*epoch);
    }
    update.execute(&mut *tx).await.map_err(what)?;
    tx.commit().await.map_err(what)?;
    loan.finish().await?;
    Ok(leased.map(|(_, leased)| leased))
}

pub(super) async fn release(store: &PostgresStore, lease: &ProjectionLease) -> Answer<()> {
    let sql = store.sql(
        "UPDATE {s}buttress_event_projection SET worker = NULL, until = 0 \
         WHERE name = $1 AND worker = $2 AND epoch = $3",
    );
    let mut loan = store.borrow().await?;
    let query = query(sql).bind(&*lease.name).bind(uuid(lease.worker.get()));
    let done = query.bind(epoch::asked(lease.epoch)).execute(&mut *loan).await;
    done.map_err(during("releasing a projection"))?;
    loan.finish().await
}

pub(super) async fn advance_alone(store: &PostgresStore, move_: &Advance) -> Answer<()> {
    let mut loan = store.borrow().await?;
    advance(store, &mut loan, move_).await?;
    loan.finish().await
}

/// Moves a checkpoint in the transaction of `connection`.
pub(super) async fn advance(
    store: &PostgresStore,
    connection: &mut PgConnection,
    Advance { lease, from, to, replayed, .. }: &Advance,
) -> Answer<()> {
    let sql = store.sql(
        "UPDATE {s}buttress_event_projection SET checkpoint = $5, seen = greatest(seen, $5), \
         replayed = coalesce($6, replayed) \
         WHERE name = $1 AND worker = $2 AND epoch = $3 AND checkpoint = $4",
    );
    let query = query(sql).bind(&*lease.name).bind(uuid(lease.worker.get()));
    let query = query.bind(epoch::asked(lease.epoch)).bind(signed(from.get()));
    let replayed = replayed.map(|position| signed(position.get()));
    let query = query.bind(signed(to.get())).bind(replayed);
    let done = query.execute(&mut *connection).await;
    let done = done.map_err(not_in_failed("moving a checkpoint"))?;
    moved(store, connection, done.rows_affected(), lease, *from).await
}

/// Returns the error of a statement in a transaction of the caller.
fn not_in_failed(what: &str) -> impl Fn(sqlx::Error) -> StoreError + '_ {
    move |error| match &error {
        sqlx::Error::Database(failed) if failed.code().as_deref() == Some("25P02") => {
            let why =
                "an earlier statement of the transaction has failed, and its error was ignored";
            StoreError::invalid(format!("{what}: {why}")).with_source(error)
        }
        _ => during(what)(error),
    }
}

pub(super) async fn swap_alone(store: &PostgresStore, swapped: &Swap) -> Answer<()> {
    let what = during("swapping projections");
    let mut loan = store.borrow().await?;
    let mut tx = loan.begin().await.map_err(what)?;
    swap(store, &mut tx, swapped).await?;
    tx.commit().await.map_err(what)?;
    loan.finish().await
}

/// Replaces a projection in the transaction of `connection`.
pub(super) async fn swap(
    store: &PostgresStore,
    connection: &mut PgConnection,
    Swap { built, at, name, is_live_only, .. }: &Swap,
) -> Answer<()> {
    let what = during("swapping projections");
    let remove = store.sql(
        "DELETE FROM {s}buttress_event_projection \
         WHERE name = $1 AND worker = $2 AND epoch = $3 AND checkpoint = $4",
    );
    let remove = query(remove).bind(&*built.name).bind(uuid(built.worker.get()));
    let remove = remove.bind(epoch::asked(built.epoch)).bind(signed(at.get()));
    let done = remove.execute(&mut *connection).await.map_err(what)?;
    moved(store, connection, done.rows_affected(), built, *at).await?;
    let replace = store.sql(
        "INSERT INTO {s}buttress_event_projection AS p (name, checkpoint, seen, rebuilt) \
         VALUES ($1, $2, $2, $2) ON CONFLICT (name) DO UPDATE SET worker = NULL, until = 0, \
         checkpoint = CASE WHEN $3 THEN least(excluded.checkpoint, p.seen) ELSE excluded.checkpoint END, \
         seen = CASE WHEN $3 THEN p.seen ELSE greatest(p.seen, excluded.seen) END, rebuilt = excluded.rebuilt",
    );
    let replace = query(replace).bind(&**name).bind(signed(at.get())).bind(*is_live_only);
    replace.execute(connection).await.map(drop).map_err(what)
}

/// Returns the reason if a statement on the projection of `lease` changed no row.
async fn moved(
    store: &PostgresStore,
    connection: &mut PgConnection,
    rows: u64,
    lease: &ProjectionLease,
    at: Position,
) -> Answer<()> {
    if rows > 0 {
        return Ok(());
    }
    let what = during("reading a projection");
    let find =
        store.sql(&format!("SELECT {OWNER} FROM {{s}}buttress_event_projection WHERE name = $1"));
    let row = query(find).bind(&*lease.name).fetch_optional(connection).await.map_err(what)?;
    let owner = row.map(|row| Owner::read(&row, 0)).transpose().map_err(what)?;
    Err(not_moved(lease, at, owner))
}

pub(super) async fn list(store: &PostgresStore) -> Answer<Vec<ProjectionState>> {
    let what = during("listing projections");
    let sql = store.sql(&format!(
        "WITH t AS MATERIALIZED (SELECT {{now}} AS now) \
         SELECT p.name, {OWNER}, (SELECT e.recorded_at FROM {{s}}buttress_event_order AS o \
             JOIN {{s}}buttress_event AS e ON e.sequence = o.sequence \
             WHERE o.position = p.checkpoint + 1), t.now, c.last \
         FROM {{s}}buttress_event_projection AS p CROSS JOIN t \
         CROSS JOIN {{s}}buttress_event_counter AS c ORDER BY p.name"
    ));
    let mut loan = store.borrow().await?;
    let rows = query(sql).bind(store.time()).fetch_all(&mut *loan).await.map_err(what)?;
    loan.finish().await?;
    let read = |row: &sqlx::postgres::PgRow| {
        let (now, last): (i64, i64) = (row.try_get(10)?, row.try_get(11)?);
        state(row, now, last.unsigned_abs())
    };
    rows.iter().map(read).collect::<sqlx::Result<_>>().map_err(what)
}

pub(super) async fn remove(store: &PostgresStore, name: &str) -> Answer<bool> {
    let sql = store.sql("DELETE FROM {s}buttress_event_projection WHERE name = $1 RETURNING epoch");
    let mut loan = store.borrow().await?;
    let query = query_scalar::<i64>(sql).bind(name);
    let epoch = query.fetch_optional(&mut *loan).await;
    let is_known = epoch.map_err(during("removing a projection"))?.is_some();
    loan.finish().await?;
    Ok(is_known)
}
