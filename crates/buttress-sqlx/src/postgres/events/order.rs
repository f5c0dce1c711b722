//! The sequencer: gives positions to committed events.
//!
//! A row counts the positions, and has the snapshot up to which all events have one. A reader locks the row, and then
//! gives positions to the events of the transactions that are visible now and were not visible in that snapshot, in the
//! order of their sequences. Two statements, because the snapshot of the second one must be later than the lock. An
//! open transaction delays only its own events: it is among the running ones of the stored snapshot.
//!
//! A new scan is never bounded by the greatest sequence that has a position. A long transaction may have appended version n
//! of a stream before others that are committed already. Its version n has a smaller sequence than any n + 1.

use buttress_durable::Answer;
use buttress_durable::event_store::StoreStats;
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use crate::error::during;
use crate::number::signed;
use crate::postgres::PostgresStore;
use crate::postgres::rows::{query, query_scalar};
use crate::time::duration;

/// How many events one transaction gives positions to.
const PASS: i64 = 10_000;

const ORDERING: &str = "giving positions to events";

/// The code of a lock timeout.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// The columns of a [`Counter`], of the one row of its table.
const COUNTER: &str = "last, snapshot::text, pg_snapshot_xmax(snapshot)::text, \
                       ARRAY (SELECT pg_snapshot_xip(snapshot))::text[], scan::text, scanned";

/// Whether an event that this statement sees has no position.
const LACKS: &str = "(scan IS NOT NULL \
     OR EXISTS (SELECT FROM {s}buttress_event AS e WHERE e.xid >= pg_snapshot_xmax(snapshot) \
         AND e.xid < pg_snapshot_xmax(pg_current_snapshot())) \
     OR EXISTS (SELECT FROM {s}buttress_event AS e WHERE e.xid = ANY (ARRAY (SELECT pg_snapshot_xip(snapshot)))))";

/// Events without a position, unless a scan has given them one: events of the transactions from `$1` on, and of `$2`,
/// as far as this statement sees them. A restored dump may have events of later transactions than the server has begun;
/// [`mend`] has ordered them. The parts are materialised, because the planner would otherwise walk along the sequences
/// from the first one on.
const CANDIDATES: &str = "e AS MATERIALIZED (SELECT sequence, xid, recorded_at FROM {s}buttress_event \
         WHERE xid >= $1::text::xid8 AND xid < pg_snapshot_xmax(pg_current_snapshot()) \
         UNION ALL SELECT sequence, xid, recorded_at FROM {s}buttress_event WHERE xid = ANY ($2::text[]::xid8[]))";

/// Begins a pass: `n` are its events, and one more if there is one.
const FIRST: &str = "n AS MATERIALIZED (SELECT e.sequence FROM e ORDER BY e.sequence LIMIT $3 + 1)";

/// Continues the pass of the snapshot `$1` after the sequence `$4`. The snapshot `$2` sees the events that had a position
/// before the pass.
const NEXT: &str = "n AS MATERIALIZED (SELECT e.sequence FROM {s}buttress_event AS e WHERE e.sequence > $4 \
         AND pg_visible_in_snapshot(e.xid, $1::text::pg_snapshot) \
         AND NOT pg_visible_in_snapshot(e.xid, $2::text::pg_snapshot) ORDER BY e.sequence LIMIT $3 + 1)";

/// Gives positions to the first `$3` events of `n`. The snapshot of the pass is `{pass}`.
const GIVE: &str = "f AS MATERIALIZED (SELECT sequence FROM n ORDER BY sequence LIMIT $3), \
     g AS MATERIALIZED (SELECT f.sequence FROM f WHERE \
         (SELECT o.position FROM {s}buttress_event_order AS o WHERE o.sequence = f.sequence) IS NULL), \
     p AS (INSERT INTO {s}buttress_event_order (position, sequence) \
         SELECT c.last + row_number() OVER (ORDER BY g.sequence), g.sequence \
         FROM g CROSS JOIN {s}buttress_event_counter AS c), \
     m AS (SELECT (SELECT count(*) FROM n) > $3 AS is_more, (SELECT count(*) FROM g) AS given, \
         (SELECT max(sequence) FROM f) AS scanned) \
     UPDATE {s}buttress_event_counter AS c SET last = c.last + m.given, \
     snapshot = CASE WHEN m.is_more THEN c.snapshot ELSE {pass} END, \
     scan = CASE WHEN m.is_more THEN {pass} END, scanned = CASE WHEN m.is_more THEN m.scanned END \
     FROM m RETURNING c.last, m.is_more";

/// The row of the counter.
pub(super) struct Counter {
    /// The last position.
    pub last: u64,
    /// The snapshot up to which every event has a position.
    snapshot: String,
    /// The first transaction that had not begun at the snapshot.
    next: String,
    /// The transactions that were running.
    running: Vec<String>,
    /// A pass that has not given a position to all of its events: its snapshot, and the last sequence.
    scan: Option<String>,
    scanned: Option<i64>,
}

impl Counter {
    fn read(row: &PgRow) -> sqlx::Result<Self> {
        let last: i64 = row.try_get(0)?;
        Ok(Self {
            last: last.unsigned_abs(),
            snapshot: row.try_get(1)?,
            next: row.try_get(2)?,
            running: row.try_get(3)?,
            scan: row.try_get(4)?,
            scanned: row.try_get(5)?,
        })
    }
}

/// How far the events have positions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ordering {
    /// The last position.
    pub last: u64,
    /// Whether every event had a position that was committed before. A replica knows no others.
    pub is_complete: bool,
}

/// Returns the last position. Gives positions to events first if a reader wants more than there are.
pub(super) async fn counter(store: &PostgresStore, wanted: u64) -> Answer<Ordering> {
    let what = during(ORDERING);
    mended(store).await?;
    let mut loan = store.borrow().await?;
    let sql = store.sql(&format!(
        "SELECT {COUNTER}, pg_is_in_recovery(), last < $1 AND NOT pg_is_in_recovery() AND {LACKS} \
         FROM {{s}}buttress_event_counter"
    ));
    let row = query(sql).bind(signed(wanted)).fetch_one(&mut *loan).await.map_err(what)?;
    let last = Counter::read(&row).map_err(what)?.last;
    let is_replica: bool = row.try_get(6).map_err(what)?;
    let lacks: bool = row.try_get(7).map_err(what)?;
    let is_enough = last >= wanted && !is_replica;
    if !lacks {
        loan.finish().await?;
        return Ok(Ordering { last, is_complete: !is_enough });
    }
    let mut tx = loan.begin().await.map_err(what)?;
    let Some(counter) = lock(store, &mut tx).await? else {
        // The reader that holds the lock has stopped. The server ends its session, and until then readers get the
        // events that have a position.
        tx.rollback().await.map_err(what)?;
        loan.finish().await?;
        return Ok(Ordering { last, is_complete: false });
    };
    let ordering = order(store, &mut tx, &counter).await?;
    tx.commit().await.map_err(what)?;
    loan.finish().await?;
    Ok(ordering)
}

/// Locks the counter. Returns `None` after the lock timeout.
///
/// Waits for another reader that gives positions, so that a reader sees every event that was committed before it began.
async fn lock(store: &PostgresStore, tx: &mut PgConnection) -> Answer<Option<Counter>> {
    let sql = store.sql(&format!("SELECT {COUNTER} FROM {{s}}buttress_event_counter FOR UPDATE"));
    let found = match query(sql).fetch_one(tx).await {
        Ok(row) => Counter::read(&row).map(Some),
        Err(sqlx::Error::Database(error))
            if error.code().as_deref() == Some(LOCK_NOT_AVAILABLE) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    };
    found.map_err(during(ORDERING))
}

/// Gives positions to up to [`PASS`] events under the lock.
///
/// A backlog takes several passes, and each of them gives positions to the events of one snapshot, in the order of their
/// sequences. So the last sequence is a bound within the snapshot: what commits later is not in it, and an event that
/// it sees has all earlier events of its stream in it. A pass does not read the whole backlog again.
async fn order(
    store: &PostgresStore,
    tx: &mut PgConnection,
    counter: &Counter,
) -> Answer<Ordering> {
    let what = during(ORDERING);
    let row = if let (Some(scan), Some(scanned)) = (&counter.scan, counter.scanned) {
        let give = GIVE.replace("{pass}", "c.scan");
        let query = query(store.sql(&format!("WITH {NEXT}, {give}")));
        let query = query.bind(scan).bind(&counter.snapshot).bind(PASS).bind(scanned);
        query.fetch_one(tx).await.map_err(what)?
    } else {
        let give = GIVE.replace("{pass}", "pg_current_snapshot()");
        let query = query(store.sql(&format!("WITH {CANDIDATES}, {FIRST}, {give}")));
        let query = query.bind(&counter.next).bind(&counter.running).bind(PASS);
        query.fetch_one(tx).await.map_err(what)?
    };
    let (last, is_more): (i64, bool) =
        (row.try_get(0).map_err(what)?, row.try_get(1).map_err(what)?);
    // A pass of an older snapshot has not seen the later commits.
    let is_complete = !is_more && counter.scan.is_none();
    Ok(Ordering { last: last.unsigned_abs(), is_complete })
}

/// Runs [`mend`] once for each store.
pub(in crate::postgres) async fn mended(store: &PostgresStore) -> Answer<()> {
    store.inner.mended.get_or_try_init(|| mend(store)).await.map(drop)
}

/// Gives positions to all events after a restore: when the snapshot or an event has a transaction that this server has
/// not begun yet, and no store has ordered the events on this server since. Their numbers say nothing then, and no
/// writer has an event open in an order that matters.
async fn mend(store: &PostgresStore) -> Answer<()> {
    let what = during("ordering the events of a restored database");
    let mut loan = store.borrow().await?;
    let is_foreign = store.sql(
        "SELECT NOT pg_is_in_recovery() AND (pg_snapshot_xmax(c.snapshot) > n.next \
         OR (coalesce((SELECT max(xid) FROM {s}buttress_event) >= n.next, false) \
             AND c.mended_on IS DISTINCT FROM n.server)) \
         FROM {s}buttress_event_counter AS c \
         CROSS JOIN (SELECT pg_snapshot_xmax(pg_current_snapshot()) AS next, \
             (SELECT system_identifier FROM pg_control_system()) AS server) AS n",
    );
    let is_foreign: bool = query_scalar(is_foreign).fetch_one(&mut *loan).await.map_err(what)?;
    if is_foreign {
        let mut tx = loan.begin().await.map_err(what)?;
        // The anti-join reads both tables whole.
        let settings = store.sql("SET LOCAL statement_timeout = 0; SET LOCAL enable_seqscan = on");
        sqlx::raw_sql(settings.text()).execute(&mut *tx).await.map_err(what)?;
        let lock = store.sql("SELECT last FROM {s}buttress_event_counter FOR UPDATE");
        query(lock).execute(&mut *tx).await.map_err(what)?;
        let sql = store.sql(
            "WITH n AS MATERIALIZED (SELECT e.sequence FROM {s}buttress_event AS e WHERE NOT EXISTS \
                 (SELECT FROM {s}buttress_event_order AS o WHERE o.sequence = e.sequence)), \
             p AS (INSERT INTO {s}buttress_event_order (position, sequence) \
                 SELECT c.last + row_number() OVER (ORDER BY n.sequence), n.sequence \
                 FROM n CROSS JOIN {s}buttress_event_counter AS c), \
             m AS (SELECT count(*) AS n FROM n) \
             UPDATE {s}buttress_event_counter AS c SET last = c.last + m.n, \
             snapshot = pg_current_snapshot(), scan = NULL, scanned = NULL, \
             mended_on = (SELECT system_identifier FROM pg_control_system()) FROM m",
        );
        query(sql).execute(&mut *tx).await.map_err(what)?;
        tx.commit().await.map_err(what)?;
    }
    loan.finish().await
}

pub(super) async fn stats(store: &PostgresStore) -> Answer<StoreStats> {
    let what = during("counting events");
    mended(store).await?;
    let mut loan = store.borrow().await?;
    let sql = store.sql(&format!("SELECT {COUNTER} FROM {{s}}buttress_event_counter"));
    let row = query(sql).fetch_one(&mut *loan).await.map_err(what)?;
    let counter = Counter::read(&row).map_err(what)?;
    let candidates = CANDIDATES.replace("$2", "$3").replace("$1", "$2");
    let sql = store.sql(&format!(
        "WITH t AS MATERIALIZED (SELECT {{now}} AS now), {candidates} \
         SELECT coalesce((SELECT t.now - min(e.recorded_at) FROM e WHERE NOT coalesce( \
             e.sequence <= $5 AND pg_visible_in_snapshot(e.xid, $4::text::pg_snapshot), false) \
         GROUP BY t.now), 0) FROM t"
    ));
    let query = query_scalar::<i64>(sql).bind(store.time());
    let query = query.bind(&counter.next).bind(&counter.running);
    let query = query.bind(&counter.scan).bind(counter.scanned);
    let age = query.fetch_one(&mut *loan).await.map_err(what)?;
    loan.finish().await?;
    Ok(StoreStats::new(counter.last.into()).unsequenced_age(duration(age)))
}
