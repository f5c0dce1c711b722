//! Dead letters of consumers on PostgreSQL.

use std::collections::BTreeSet;
use std::time::Duration;

use buttress_durable::Answer;
use buttress_durable::consume::{
    DeadLetters, Letter, LetterBacklog, LetterClaim, LetterId, LetterPage, Replay, ReplayId, Select,
};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::types::Uuid;

use super::PostgresStore;
use super::rows::{PgQuery, query, query_scalar, uuid};
use crate::columns::Columns as _;
use crate::error::during;
use crate::letters::{
    By, COLUMNS, Chosen, State, Values, backlog, dead_letters, list_with, renewed,
};
use crate::number::{changed, signed};
use crate::time::span;

dead_letters!(PostgresStore);

async fn bury(store: &PostgresStore, letter: &Letter) -> Answer<()> {
    let values = Values::of(letter)?;
    let insert = store.sql(
        "INSERT INTO {s}buttress_dead_letter (reason, error, attempts, replays, died_at, due_at, holds_key, \
         id, consumer_group, source, key, topic, payload, headers) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) ON CONFLICT (id) DO NOTHING",
    );
    let query = bind_state(query(insert), values.state).bind(uuid(letter.id.get()));
    let query = query.bind(values.group).bind(values.source).bind(values.key);
    let query = query.bind(values.topic).bind(values.payload).bind(values.headers);
    let mut loan = store.borrow().await?;
    query.execute(&mut *loan).await.map_err(during("writing a dead letter"))?;
    loan.finish().await
}

/// Returns whether the replay still holds the letter.
async fn rebury(store: &PostgresStore, replay: ReplayId, letter: &Letter) -> Answer<bool> {
    let update = store.sql(
        "UPDATE {s}buttress_dead_letter SET reason = $1, error = $2, attempts = $3, replays = $4, died_at = $5, \
         due_at = $6, holds_key = $7, until = 0 WHERE id = $8 AND claim = $9",
    );
    let query = bind_state(query(update), State::of(letter));
    let query = query.bind(uuid(letter.id.get())).bind(uuid(replay.get()));
    let mut loan = store.borrow().await?;
    let done = query.execute(&mut *loan).await.map_err(during("writing a replayed letter"))?;
    loan.finish().await?;
    Ok(done.rows_affected() > 0)
}

/// Returns `false` if another replay holds the letter.
async fn resolve(store: &PostgresStore, replay: Replay) -> Answer<bool> {
    let what = during("removing a replayed letter");
    // The second statement sees a claim that the first one waited for.
    let delete = store.sql("DELETE FROM {s}buttress_dead_letter WHERE id = $1 AND claim = $2");
    let find = store.sql("SELECT EXISTS (SELECT 1 FROM {s}buttress_dead_letter WHERE id = $1)");
    let mut loan = store.borrow().await?;
    let id = uuid(replay.letter.get());
    query(delete).bind(id).bind(uuid(replay.id.get())).execute(&mut *loan).await.map_err(what)?;
    let is_left: bool = query_scalar(find).bind(id).fetch_one(&mut *loan).await.map_err(what)?;
    loan.finish().await?;
    Ok(!is_left)
}

async fn list(store: &PostgresStore, page: LetterPage<'_>) -> Answer<Vec<Letter>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM {{s}}buttress_dead_letter \
         WHERE consumer_group = $2 AND sequence > $3 AND {} ORDER BY sequence LIMIT $4",
        condition(Chosen::of(page.select)?.by)
    );
    list_with(page, async |page| {
        let mut loan = store.borrow().await?;
        let query = bind_page(query(store.sql(&sql)).bind(store.time()), page)?;
        let rows = query.fetch_all(&mut *loan).await;
        let rows = rows.map_err(during("listing letters of a group"))?;
        loan.finish().await?;
        Ok(rows)
    })
    .await
}

async fn claim(store: &PostgresStore, asked: LetterClaim<'_>) -> Answer<Vec<PgRow>> {
    let LetterClaim { page, replay, lease, .. } = asked;
    if matches!(page.select, Select::Due(_)) && !finds(store, page).await? {
        return Ok(Vec::new());
    }
    let what = during("claiming letters");
    // Waits for locked rows: without a locked letter, a later letter of its key would overtake it.
    let sql = store.sql(&format!(
        "WITH t AS MATERIALIZED (SELECT {{now}} AS now), \
         held AS MATERIALIZED (SELECT h.key FROM {{s}}buttress_dead_letter AS h, t \
             WHERE h.until > 0 AND h.until > t.now AND h.consumer_group = $2 AND h.claim <> $8) \
         UPDATE {{s}}buttress_dead_letter SET claim = $8, until = t.now + $9::int8, length = $9::int8, \
         replays = replays + (CASE WHEN claim IS DISTINCT FROM $8 THEN 1 ELSE 0 END) FROM t \
         WHERE sequence = ANY (ARRAY (SELECT sequence FROM {{s}}buttress_dead_letter \
             WHERE consumer_group = $2 AND sequence > $3 AND {} \
             AND (until <= (SELECT now FROM t) OR claim = $8) \
             AND (key = '' OR key NOT IN (SELECT key FROM held)) \
             ORDER BY sequence LIMIT $4 FOR UPDATE)) RETURNING {COLUMNS}",
        condition(Chosen::of(page.select)?.by)
    ));
    let mut loan = store.borrow().await?;
    let mut tx = loan.begin().await.map_err(what)?;
    lock(store, &mut tx, &[page.group]).await?;
    shorten(store, &mut tx).await?;
    let query = bind_page(query(sql).bind(store.time()), page)?;
    let query = query.bind(uuid(replay.get())).bind(span(lease));
    let rows = query.fetch_all(&mut *tx).await.map_err(what)?;
    tx.commit().await.map_err(what)?;
    loan.finish().await?;
    Ok(rows)
}

/// Whether there is a letter to claim. A consumer asks for due letters again and again, and most times there is none:
/// the claims of its group are then not locked.
async fn finds(store: &PostgresStore, page: LetterPage<'_>) -> Answer<bool> {
    let sql = store.sql(&format!(
        "SELECT FROM {{s}}buttress_dead_letter \
         WHERE consumer_group = $2 AND sequence > $3 AND {} LIMIT least($4, 1)",
        condition(Chosen::of(page.select)?.by)
    ));
    let mut loan = store.borrow().await?;
    let query = bind_page(query(sql).bind(store.time()), page)?;
    let found = query.fetch_optional(&mut *loan).await.map_err(during("claiming letters"))?;
    loan.finish().await?;
    Ok(found.is_some())
}

/// Locks the claims of groups until the end of the transaction: a claim does not see one that is not committed. The
/// next statement sees all claims before it.
async fn lock<G: AsRef<str>>(
    store: &PostgresStore,
    tx: &mut PgConnection,
    groups: &[G],
) -> Answer<()> {
    let number = |group: &G| store.inner.sql.lock("letters", group.as_ref());
    // In one order, against deadlocks.
    for number in groups.iter().map(number).collect::<BTreeSet<_>>() {
        let query = query(store.sql("SELECT pg_advisory_xact_lock($1)")).bind(number);
        query.execute(&mut *tx).await.map_err(during("locking the claims of a group"))?;
    }
    Ok(())
}

async fn renew(store: &PostgresStore, replays: &[Replay], lease: Duration) -> Answer<Vec<PgRow>> {
    let what = during("renewing claims on letters");
    // With half of its lease left, a claim still keeps other replays from its key when this transaction commits.
    let sql = store.sql(
        "UPDATE {s}buttress_dead_letter AS l SET until = {now} + $4::int8, length = $4::int8 \
         FROM unnest($2::uuid[], $3::uuid[]) AS r(letter, claim) \
         WHERE l.id = r.letter AND l.claim = r.claim AND l.until - l.length / 2 > {now} \
         RETURNING l.id, l.claim",
    );
    let mut loan = store.borrow().await?;
    let query = bind_replays(query(sql).bind(store.time()), replays).bind(span(lease));
    let mut rows = query.fetch_all(&mut *loan).await.map_err(what)?;
    loan.finish().await?;
    let are_renewed = renewed(replays, &rows).map_err(what)?;
    let others = replays.iter().zip(are_renewed).filter(|(_, is_renewed)| !is_renewed);
    let others: Vec<Replay> = others.map(|(replay, _)| *replay).collect();
    if !others.is_empty() {
        rows.extend(renew_late(store, &others, lease).await?);
    }
    Ok(rows)
}

/// Renews claims that end soon or have ended. A claim that has ended must wait for the replay that has its key.
async fn renew_late(
    store: &PostgresStore,
    replays: &[Replay],
    lease: Duration,
) -> Answer<Vec<PgRow>> {
    let what = during("renewing claims on letters");
    let groups = store.sql(
        "SELECT DISTINCT l.consumer_group FROM {s}buttress_dead_letter AS l \
         JOIN unnest($1::uuid[], $2::uuid[]) AS r(letter, claim) \
         ON l.id = r.letter AND l.claim = r.claim WHERE l.until > 0",
    );
    // Of ended claims on one key, the replay of the first letter gets the key. A key that is held has one replay, so the
    // hashed lists answer the question for every letter.
    let update = store.sql(
        "WITH t AS MATERIALIZED (SELECT {now} AS now), \
         held AS MATERIALIZED (SELECT h.consumer_group, h.key, h.claim FROM {s}buttress_dead_letter AS h, t \
             WHERE h.until > 0 AND h.until > t.now), \
         asked AS MATERIALIZED (SELECT l.sequence, l.claim, first_value(l.claim) OVER ( \
             PARTITION BY l.consumer_group, l.key ORDER BY l.sequence) AS first \
             FROM {s}buttress_dead_letter AS l JOIN unnest($2::uuid[], $3::uuid[]) AS r(letter, claim) \
             ON l.id = r.letter AND l.claim = r.claim WHERE l.until > 0) \
         UPDATE {s}buttress_dead_letter AS l SET until = t.now + $4::int8, length = $4::int8 \
         FROM asked AS a, t WHERE l.sequence = a.sequence AND l.claim = a.claim AND l.until > 0 \
         AND (l.until > t.now OR l.key = '' OR (a.claim = a.first AND ( \
             (l.consumer_group, l.key) NOT IN (SELECT consumer_group, key FROM held) \
             OR (l.consumer_group, l.key, l.claim) IN (SELECT consumer_group, key, claim FROM held)))) \
         RETURNING l.id, l.claim",
    );
    let mut loan = store.borrow().await?;
    let mut tx = loan.begin().await.map_err(what)?;
    let groups = bind_replays(query(groups), replays).fetch_all(&mut *tx).await.map_err(what)?;
    let groups = groups.iter().map(|row| row.text(0)).collect::<sqlx::Result<Vec<_>>>();
    let groups = groups.map_err(what)?;
    let mut rows = Vec::new();
    if !groups.is_empty() {
        lock(store, &mut tx, &groups).await?;
        let query = bind_replays(query(update).bind(store.time()), replays).bind(span(lease));
        rows = query.fetch_all(&mut *tx).await.map_err(what)?;
    }
    tx.commit().await.map_err(what)?;
    loan.finish().await?;
    Ok(rows)
}

/// Binds the letters, and their claims.
fn bind_replays<'q>(query: PgQuery<'q>, replays: &[Replay]) -> PgQuery<'q> {
    let letters: Vec<Uuid> = replays.iter().map(|replay| uuid(replay.letter.get())).collect();
    let claims: Vec<Uuid> = replays.iter().map(|replay| uuid(replay.id.get())).collect();
    query.bind(letters).bind(claims)
}

async fn remove(store: &PostgresStore, ids: &[LetterId]) -> Answer<usize> {
    // In the order in which a claim locks them, against deadlocks.
    let sql = store.sql(
        "DELETE FROM {s}buttress_dead_letter WHERE sequence = ANY (ARRAY ( \
         SELECT sequence FROM {s}buttress_dead_letter WHERE id = ANY ($1) ORDER BY sequence FOR UPDATE))",
    );
    let ids: Vec<Uuid> = ids.iter().map(|id| uuid(id.get())).collect();
    let mut loan = store.borrow().await?;
    let done =
        query(sql).bind(ids).execute(&mut *loan).await.map_err(during("removing letters"))?;
    loan.finish().await?;
    Ok(changed(done.rows_affected()))
}

async fn purge(store: &PostgresStore, group: &str, age: Duration, limit: usize) -> Answer<usize> {
    let sql = store.sql(
        "DELETE FROM {s}buttress_dead_letter WHERE sequence = ANY (ARRAY ( \
         SELECT sequence FROM {s}buttress_dead_letter WHERE consumer_group = $2 AND due_at IS NULL \
         AND died_at <= {now} - $3::int8 AND until <= {now} ORDER BY sequence LIMIT $4 \
         FOR UPDATE SKIP LOCKED))",
    );
    let mut loan = store.borrow().await?;
    shorten(store, &mut loan).await?;
    let query = query(sql).bind(store.time()).bind(group).bind(span(age));
    let done = query.bind(signed(limit as u64)).execute(&mut *loan).await;
    let done = done.map_err(during("purging letters"))?;
    loan.finish().await?;
    Ok(changed(done.rows_affected()))
}

async fn holds(store: &PostgresStore, group: &str, key: &str) -> Answer<bool> {
    let sql = store.sql(
        "SELECT EXISTS (SELECT 1 FROM {s}buttress_dead_letter \
         WHERE holds_key AND key = $1 AND consumer_group = $2)",
    );
    let mut loan = store.borrow().await?;
    let query = query_scalar(sql).bind(key.as_bytes()).bind(group);
    let held = query.fetch_one(&mut *loan).await.map_err(during("asking for a held key"))?;
    loan.finish().await?;
    Ok(held)
}

async fn count(store: &PostgresStore, group: &str) -> Answer<LetterBacklog> {
    let what = during("counting letters");
    let sql = store.sql(
        "SELECT count(*), count(due_at), count(DISTINCT key) FILTER (WHERE holds_key), \
         coalesce({now} - min(died_at), 0) FROM {s}buttress_dead_letter WHERE consumer_group = $2",
    );
    let mut loan = store.borrow().await?;
    let query = query(sql).bind(store.time()).bind(group);
    let row = query.fetch_one(&mut *loan).await.map_err(what)?;
    loan.finish().await?;
    backlog(&row).map_err(what)
}

/// Shortens the leases that end later than their length from now, because the clock was set back.
async fn shorten(store: &PostgresStore, connection: &mut PgConnection) -> Answer<()> {
    let sql = store.sql(
        "UPDATE {s}buttress_dead_letter SET until = {now} + length WHERE sequence = ANY (ARRAY ( \
         SELECT sequence FROM {s}buttress_dead_letter WHERE until > 0 AND until - length > {now} \
         ORDER BY sequence FOR UPDATE SKIP LOCKED))",
    );
    let done = query(sql).bind(store.time()).execute(connection).await;
    done.map(drop).map_err(during("shortening claims on letters"))
}

fn bind_state(query: PgQuery<'_>, state: State) -> PgQuery<'_> {
    let State { reason, error, attempts, replays, died_at, due_at, holds_key } = state;
    let query = query.bind(reason).bind(error).bind(attempts).bind(replays);
    query.bind(died_at).bind(due_at).bind(holds_key)
}

/// The condition of a selection, in the parameters that [`bind_page`] binds. It mentions every parameter, because
/// PostgreSQL needs the type of each.
fn condition(by: By) -> String {
    let by = match by {
        By::Ids => "id = ANY ($5)",
        By::Reason => "reason = $6",
        By::Due => "due_at <= $7",
        By::Nothing => "TRUE",
    };
    format!(
        "{by} AND ($1::int8 IS NULL OR $5::uuid[] IS NULL OR $6::text IS NULL OR $7::int8 IS NULL OR TRUE)"
    )
}

/// Binds the second to the seventh parameter: the group, the sequence, the limit, and the selection.
fn bind_page<'q>(query: PgQuery<'q>, page: LetterPage<'q>) -> Answer<PgQuery<'q>> {
    let Chosen { ids, reason, due, .. } = Chosen::of(page.select)?;
    let ids: Option<Vec<Uuid>> = ids.map(|ids| ids.into_iter().map(uuid).collect());
    let query = query.bind(page.group).bind(signed(page.after)).bind(signed(page.limit as u64));
    Ok(query.bind(ids).bind(reason).bind(due))
}
