//! Dead letters of consumers on SQLite.

use std::time::Duration;

use buttress_durable::Answer;
use buttress_durable::consume::{
    DeadLetters, Letter, LetterBacklog, LetterClaim, LetterId, LetterPage, Replay, ReplayId,
};
use sqlx::AssertSqlSafe;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteRow};

use super::pack::Pack;
use super::rows::bytes_of_id;
use super::{SqliteStore, SqliteTransaction};
use crate::error::during;
use crate::letters::{By, COLUMNS, Chosen, State, Values, backlog, dead_letters, list_with};
use crate::number::{changed, signed};
use crate::time::{before, nanos};

type Bound<'q> = Query<'q, Sqlite, SqliteArguments>;

dead_letters!(SqliteStore);

async fn bury(store: &SqliteStore, letter: &Letter) -> Answer<()> {
    let values = Values::of(letter)?;
    let mut tx = store.begin().await?;
    let insert = "INSERT INTO buttress_dead_letter (reason, error, attempts, replays, died_at, due_at, holds_key, \
                  id, consumer_group, source, key, topic, payload, headers) \
                  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING";
    bind_state(sqlx::query(insert), values.state)
        .bind(bytes_of_id(letter.id.get()))
        .bind(values.group)
        .bind(values.source)
        .bind(values.key)
        .bind(values.topic)
        .bind(values.payload)
        .bind(values.headers)
        .execute(&mut **tx)
        .await
        .map_err(during("writing a dead letter"))?;
    tx.commit().await
}

/// Returns whether the replay still holds the letter.
async fn rebury(store: &SqliteStore, replay: ReplayId, letter: &Letter) -> Answer<bool> {
    let mut tx = store.begin().await?;
    let update = "UPDATE buttress_dead_letter SET reason = ?, error = ?, attempts = ?, replays = ?, died_at = ?, \
                  due_at = ?, holds_key = ?, until = 0 WHERE id = ? AND claim = ?";
    let done = bind_state(sqlx::query(update), State::of(letter))
        .bind(bytes_of_id(letter.id.get()))
        .bind(bytes_of_id(replay.get()))
        .execute(&mut **tx)
        .await
        .map_err(during("writing a replayed letter"))?;
    tx.commit().await?;
    Ok(done.rows_affected() > 0)
}

/// Returns `false` if another replay holds the letter.
async fn resolve(store: &SqliteStore, replay: Replay) -> Answer<bool> {
    let what = during("removing a replayed letter");
    let mut tx = store.begin().await?;
    let id = bytes_of_id(replay.letter.get());
    sqlx::query("DELETE FROM buttress_dead_letter WHERE id = ? AND claim = ?")
        .bind(&id)
        .bind(bytes_of_id(replay.id.get()))
        .execute(&mut **tx)
        .await
        .map_err(what)?;
    let is_left: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM buttress_dead_letter WHERE id = ?)")
            .bind(&id)
            .fetch_one(&mut **tx)
            .await
            .map_err(what)?;
    tx.commit().await?;
    Ok(!is_left)
}

async fn list(store: &SqliteStore, page: LetterPage<'_>) -> Answer<Vec<Letter>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM buttress_dead_letter \
         WHERE consumer_group = ?1 AND sequence > ?2 AND {} ORDER BY sequence LIMIT ?3",
        condition(Chosen::of(page.select)?.by)
    );
    list_with(page, async |page| {
        let query = bind_page(sqlx::query(AssertSqlSafe(sql.clone())), page)?;
        query.fetch_all(store.pool()).await.map_err(during("listing letters of a group"))
    })
    .await
}

async fn claim(store: &SqliteStore, asked: LetterClaim<'_>) -> Answer<Vec<SqliteRow>> {
    let LetterClaim { page, replay, lease, .. } = asked;
    let what = "claiming letters";
    // The `+` keeps SQLite from the index of the group: few letters are claimed, and a group can have many.
    let sql = format!(
        "UPDATE buttress_dead_letter SET replays = replays + (claim IS NOT ?8), claim = ?8, \
                until = ?9 + ?10, length = ?10 \
         WHERE sequence IN (SELECT sequence FROM buttress_dead_letter \
             WHERE consumer_group = ?1 AND sequence > ?2 AND {} AND (until <= ?9 OR claim = ?8) \
             AND (key = x'' OR key NOT IN (SELECT key FROM buttress_dead_letter \
                 WHERE until > 0 AND until > ?9 AND +consumer_group = ?1 AND claim <> ?8)) \
             ORDER BY sequence LIMIT ?3) RETURNING {COLUMNS}",
        condition(Chosen::of(page.select)?.by)
    );
    let (tx, now) = begin(store).await?;
    let query = bind_page(sqlx::query(AssertSqlSafe(sql)), page)?.bind(bytes_of_id(replay.get()));
    grant(tx, query, (now, lease), what).await
}

async fn renew(store: &SqliteStore, replays: &[Replay], lease: Duration) -> Answer<Vec<SqliteRow>> {
    let what = "renewing claims on letters";
    let mut pack = Pack::new();
    for replay in replays {
        let (letter, id) = (bytes_of_id(replay.letter.get()), bytes_of_id(replay.id.get()));
        pack.row().bytes(&letter).bytes(&id);
    }
    let pack = pack.end();
    let (tx, now) = begin(store).await?;
    // Of ended claims on one key, the replay of the first letter gets the key. For the `+` see `claim`.
    let query = sqlx::query(
        "WITH asked AS MATERIALIZED (SELECT sequence, claim, first_value(claim) OVER ( \
             PARTITION BY consumer_group, key ORDER BY sequence) AS first \
             FROM buttress_dead_letter WHERE until > 0 \
             AND (id, claim) IN (SELECT substr(?2, value ->> 0, 16), substr(?2, value ->> 2, 16) \
                                 FROM json_each(?1))) \
         UPDATE buttress_dead_letter AS l SET until = ?3 + ?4, length = ?4 FROM asked AS a \
         WHERE l.sequence = a.sequence AND (l.until > ?3 OR l.key = x'' OR (a.claim = a.first \
             AND NOT EXISTS (SELECT 1 FROM buttress_dead_letter AS h WHERE h.until > 0 AND h.until > ?3 \
                 AND +h.consumer_group = l.consumer_group AND h.key = l.key AND h.claim <> l.claim))) \
         RETURNING id, claim",
    );
    grant(tx, query.bind(pack.json).bind(pack.blob), (now, lease), what).await
}

async fn remove(store: &SqliteStore, ids: &[LetterId]) -> Answer<usize> {
    let pack = pack_of_ids(ids.iter().map(|id| id.get()));
    let mut tx = store.begin().await?;
    let delete = "DELETE FROM buttress_dead_letter \
                  WHERE id IN (SELECT substr(?2, value ->> 0, 16) FROM json_each(?1))";
    let done = sqlx::query(delete).bind(pack.json).bind(pack.blob).execute(&mut **tx).await;
    let done = done.map_err(during("removing letters"))?;
    tx.commit().await?;
    Ok(changed(done.rows_affected()))
}

async fn purge(store: &SqliteStore, group: &str, age: Duration, limit: usize) -> Answer<usize> {
    let what = during("purging letters");
    let (mut tx, now) = begin(store).await?;
    let delete = "DELETE FROM buttress_dead_letter WHERE sequence IN (SELECT sequence FROM buttress_dead_letter \
                  WHERE consumer_group = ? AND due_at IS NULL AND died_at <= ? AND until <= ? \
                  ORDER BY sequence LIMIT ?)";
    let query = sqlx::query(delete).bind(group).bind(before(now, age)).bind(now);
    let done = query.bind(signed(limit as u64)).execute(&mut **tx).await.map_err(what)?;
    tx.commit().await?;
    Ok(changed(done.rows_affected()))
}

async fn holds(store: &SqliteStore, group: &str, key: &str) -> Answer<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM buttress_dead_letter \
               WHERE holds_key = 1 AND key = ? AND consumer_group = ?)";
    let query = sqlx::query_scalar(sql).bind(key.as_bytes()).bind(group);
    query.fetch_one(store.pool()).await.map_err(during("asking for a held key"))
}

async fn count(store: &SqliteStore, group: &str) -> Answer<LetterBacklog> {
    let what = during("counting letters");
    let sql = "SELECT count(*), count(due_at), count(DISTINCT iif(holds_key = 1, key, NULL)), \
               ?2 - coalesce(min(died_at), ?2) FROM buttress_dead_letter WHERE consumer_group = ?1";
    let query = sqlx::query(sql).bind(group).bind(store.now());
    let row = query.fetch_one(store.pool()).await.map_err(what)?;
    backlog(&row).map_err(what)
}

/// Begins a transaction. Shortens the leases that end later than their length from now, because the clock was set
/// back. Returns the time too.
async fn begin(store: &SqliteStore) -> Answer<(SqliteTransaction, i64)> {
    let mut tx = store.begin().await?;
    let now = store.now();
    let sql = "UPDATE buttress_dead_letter SET until = ?1 + length WHERE until > 0 AND until - length > ?1";
    let done = sqlx::query(sql).bind(now).execute(&mut **tx).await;
    done.map_err(during("shortening claims on letters"))?;
    Ok((tx, now))
}

/// Binds the time and the length of a lease, runs the statement and commits.
async fn grant(
    mut tx: SqliteTransaction,
    query: Bound<'_>,
    (now, lease): (i64, Duration),
    what: &str,
) -> Answer<Vec<SqliteRow>> {
    // The end of the lease is a sum in SQL.
    let length = nanos(lease).min(i64::MAX - now.max(0));
    let rows = query.bind(now).bind(length).fetch_all(&mut **tx).await.map_err(during(what))?;
    tx.commit().await?;
    Ok(rows)
}

fn bind_state(query: Bound<'_>, state: State) -> Bound<'_> {
    let State { reason, error, attempts, replays, died_at, due_at, holds_key } = state;
    let query = query.bind(reason).bind(error).bind(attempts).bind(replays);
    query.bind(died_at).bind(due_at).bind(i64::from(holds_key))
}

/// The condition of a selection, in the parameters that [`bind_page`] binds.
const fn condition(by: By) -> &'static str {
    match by {
        By::Ids => "id IN (SELECT substr(?5, value ->> 0, 16) FROM json_each(?4)) AND ?6 IS ?7",
        By::Reason => "reason = ?6 AND ?4 IS ?5 AND ?7 IS NULL",
        By::Due => "due_at <= ?7 AND ?4 IS ?5 AND ?6 IS NULL",
        By::Nothing => "?4 IS ?5 AND ?6 IS ?7",
    }
}

/// Binds seven parameters: the group, the sequence, the limit, and the selection.
fn bind_page<'q>(query: Bound<'q>, page: LetterPage<'q>) -> Answer<Bound<'q>> {
    let Chosen { ids, reason, due, .. } = Chosen::of(page.select)?;
    let (json, blob) = ids.map(pack_of_ids).map(|pack| (pack.json, pack.blob)).unzip();
    let query = query.bind(page.group).bind(signed(page.after)).bind(signed(page.limit as u64));
    Ok(query.bind(json).bind(blob).bind(reason).bind(due))
}

/// Returns identifiers for `substr(.., value ->> 0, 16)`.
fn pack_of_ids(ids: impl IntoIterator<Item = u128>) -> Pack {
    let mut pack = Pack::new();
    for id in ids {
        pack.row().bytes(&bytes_of_id(id));
    }
    pack.end()
}
