//! Projections: leases, checkpoints and swaps.

use buttress_durable::Answer;
use buttress_durable::event_store::{
    Advance, Leased, Position, ProjectionClaim, ProjectionLease, ProjectionState, Start, Swap,
};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _};

use crate::epoch;
use crate::error::during;
use crate::events::{Owner, Turn, not_moved, state, turn};
use crate::number::{changed, signed};
use crate::sqlite::SqliteStore;
use crate::sqlite::rows::bytes_of_id;
use crate::time::{after, nanos};

/// Finds a projection by its name: the columns of [`Owner`].
const FIND: &str = "SELECT worker, until, length, epoch, checkpoint, seen, replayed, rebuilt \
                    FROM buttress_event_projection WHERE name = ?";

const LAST: &str = "coalesce((SELECT max(position) FROM buttress_event), 0)";

pub(super) async fn lease(
    store: &SqliteStore,
    claim: ProjectionClaim<'_>,
) -> Answer<Option<Leased>> {
    let ProjectionClaim { name, worker, .. } = claim;
    let what = during("leasing a projection");
    let mut tx = store.begin().await?;
    if let Some(start) = claim.start {
        let start = if start == Start::Last { LAST } else { "0" };
        let create = format!(
            "INSERT INTO buttress_event_projection (name, checkpoint, seen) \
             SELECT ?1, {start}, {start} WHERE TRUE ON CONFLICT (name) DO NOTHING"
        );
        let create = sqlx::query(AssertSqlSafe(create)).bind(name);
        create.execute(&mut **tx).await.map_err(what)?;
    }
    let row = sqlx::query(FIND).bind(name).fetch_optional(&mut **tx).await.map_err(what)?;
    let Some(row) = row else { return Ok(None) };
    let (now, owner) = (store.now(), Owner::read(&row, 0).map_err(what)?);
    let (update, leased) = match turn(name, owner, worker, now)? {
        Turn::Own(epoch) => {
            let update = "UPDATE buttress_event_projection SET until = ?2, worker = ?3, length = ?4, \
                          epoch = ?5 WHERE name = ?1";
            let update = sqlx::query(update).bind(name).bind(after(now, claim.lease));
            let update = update.bind(bytes_of_id(worker.get())).bind(nanos(claim.lease));
            (update.bind(epoch), Some(owner.leased(name, worker, epoch)))
        }
        Turn::Shorten(end) => {
            let update = "UPDATE buttress_event_projection SET until = ?2 WHERE name = ?1";
            (sqlx::query(update).bind(name).bind(end), None)
        }
        Turn::Wait => return Ok(None),
    };
    update.execute(&mut **tx).await.map_err(what)?;
    tx.commit().await?;
    Ok(leased)
}

pub(super) async fn release(store: &SqliteStore, lease: &ProjectionLease) -> Answer<()> {
    let mut tx = store.begin().await?;
    let sql = "UPDATE buttress_event_projection SET worker = NULL, until = 0 \
               WHERE name = ? AND worker = ? AND epoch = ?";
    let query = sqlx::query(sql).bind(&*lease.name).bind(bytes_of_id(lease.worker.get()));
    let done = query.bind(epoch::asked(lease.epoch)).execute(&mut **tx).await;
    done.map_err(during("releasing a projection"))?;
    tx.commit().await
}

pub(super) async fn advance_alone(store: &SqliteStore, moved: &Advance) -> Answer<()> {
    let mut tx = store.begin().await?;
    advance(store, &mut tx, moved).await?;
    tx.commit().await
}

/// Moves a checkpoint in the transaction of `connection`.
pub(super) async fn advance(
    _store: &SqliteStore,
    connection: &mut SqliteConnection,
    Advance { lease, from, to, replayed, .. }: &Advance,
) -> Answer<()> {
    let sql = "UPDATE buttress_event_projection SET checkpoint = ?5, seen = max(seen, ?5), \
               replayed = coalesce(?6, replayed) \
               WHERE name = ?1 AND worker = ?2 AND epoch = ?3 AND checkpoint = ?4";
    let query = sqlx::query(sql).bind(&*lease.name).bind(bytes_of_id(lease.worker.get()));
    let query = query.bind(epoch::asked(lease.epoch)).bind(signed(from.get()));
    let replayed = replayed.map(|position| signed(position.get()));
    let query = query.bind(signed(to.get())).bind(replayed);
    let done = query.execute(&mut *connection).await;
    let done = done.map_err(during("moving a checkpoint"))?;
    moved(connection, done.rows_affected(), lease, *from).await
}

pub(super) async fn swap_alone(store: &SqliteStore, swapped: &Swap) -> Answer<()> {
    let mut tx = store.begin().await?;
    swap(store, &mut tx, swapped).await?;
    tx.commit().await
}

/// Replaces a projection in the transaction of `connection`.
pub(super) async fn swap(
    _store: &SqliteStore,
    connection: &mut SqliteConnection,
    Swap { built, at, name, is_live_only, .. }: &Swap,
) -> Answer<()> {
    let what = during("swapping projections");
    let remove = "DELETE FROM buttress_event_projection \
                  WHERE name = ? AND worker = ? AND epoch = ? AND checkpoint = ?";
    let remove = sqlx::query(remove).bind(&*built.name).bind(bytes_of_id(built.worker.get()));
    let remove = remove.bind(epoch::asked(built.epoch)).bind(signed(at.get()));
    let done = remove.execute(&mut *connection).await.map_err(what)?;
    moved(connection, done.rows_affected(), built, *at).await?;
    let replace = "INSERT INTO buttress_event_projection AS p (name, checkpoint, seen, rebuilt) \
                   VALUES (?1, ?2, ?2, ?2) ON CONFLICT (name) DO UPDATE SET worker = NULL, until = 0, \
                   checkpoint = iif(?3, min(excluded.checkpoint, p.seen), excluded.checkpoint), \
                   seen = iif(?3, p.seen, max(p.seen, excluded.seen)), rebuilt = excluded.rebuilt";
    let replace = sqlx::query(replace).bind(&**name).bind(signed(at.get())).bind(*is_live_only);
    replace.execute(connection).await.map(drop).map_err(what)
}

/// Returns the reason if a statement on the projection of `lease` changed no row.
async fn moved(
    connection: &mut SqliteConnection,
    rows: u64,
    lease: &ProjectionLease,
    at: Position,
) -> Answer<()> {
    if rows > 0 {
        return Ok(());
    }
    let what = during("reading a projection");
    let row =
        sqlx::query(FIND).bind(&*lease.name).fetch_optional(connection).await.map_err(what)?;
    let owner = row.map(|row| Owner::read(&row, 0)).transpose().map_err(what)?;
    Err(not_moved(lease, at, owner))
}

pub(super) async fn list(store: &SqliteStore) -> Answer<Vec<ProjectionState>> {
    let what = during("listing projections");
    let sql = format!(
        "SELECT p.name, {}, \
         (SELECT e.recorded_at FROM buttress_event AS e WHERE e.position = p.checkpoint + 1), {LAST} \
         FROM buttress_event_projection AS p ORDER BY p.name",
        Owner::COLUMNS
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(store.pool()).await.map_err(what)?;
    let now = store.now();
    let read = |row: &SqliteRow| state(row, now, row.try_get::<i64, _>(10)?.unsigned_abs());
    rows.iter().map(read).collect::<sqlx::Result<_>>().map_err(what)
}

pub(super) async fn remove(store: &SqliteStore, name: &str) -> Answer<bool> {
    let mut tx = store.begin().await?;
    let query = sqlx::query("DELETE FROM buttress_event_projection WHERE name = ?").bind(name);
    let done = query.execute(&mut **tx).await.map_err(during("removing a projection"))?;
    tx.commit().await?;
    Ok(changed(done.rows_affected()) > 0)
}
