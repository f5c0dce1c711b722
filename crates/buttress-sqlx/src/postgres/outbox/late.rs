//! Shortening of ends that are later than their length from now, because the clock was set back. A
//! shortened end is its length from now.

use sqlx::postgres::PgConnection;

use crate::postgres::rows::query;
use crate::postgres::sql::Sql;

/// Sets the ends that a [`Plan`](crate::outbox::owners::Plan) gives to leases.
pub(super) async fn shorten_leases(
    tx: &mut PgConnection,
    sql: &Sql,
    ends: &[(i64, i64)],
) -> sqlx::Result<()> {
    if ends.is_empty() {
        return Ok(());
    }
    let text = sql.text(
        "UPDATE {s}buttress_outbox_lease AS l SET until = e.until \
         FROM unnest($1::int8[], $2::int8[]) AS e(partition, until) \
         WHERE l.partition = e.partition",
    );
    let (partitions, ends): (Vec<i64>, Vec<i64>) = ends.iter().copied().unzip();
    query(text).bind(partitions).bind(ends).execute(tx).await.map(drop)
}

/// Shortens the leases of relays. A relay that crashed must not count for longer than its lease.
pub(super) async fn shorten_relays(tx: &mut PgConnection, sql: &Sql) -> sqlx::Result<()> {
    let text = sql.text(
        "UPDATE {s}buttress_outbox_relay SET until = t.now + greatest(length, 0) \
         FROM (SELECT {now} AS now) AS t WHERE CASE WHEN until > t.now \
         THEN until - greatest(length, 0) > t.now ELSE false END",
    );
    query(text).bind(sql.time()).execute(tx).await.map(drop)
}

/// Shortens holds for a retry and delays of messages. Returns how many. A hold by a dead letter has
/// no end, and an endless length. The first comparison uses an index to find them. It computes with
/// floats, which cannot overflow. The second comparison is exact. Holds and messages are locked in
/// the order of their sequence, as in all other statements.
pub(super) async fn shorten_waits(
    tx: &mut PgConnection,
    sql: &Sql,
    partitions: &[i64],
) -> sqlx::Result<u64> {
    let mut shortened = 0;
    for template in [
        "WITH t AS MATERIALIZED (SELECT {now} AS now), \
         late AS MATERIALIZED (SELECT partition, key, sequence FROM {s}buttress_outbox_hold \
             WHERE partition = ANY ($2) AND until::float8 - length::float8 > (SELECT now FROM t) \
             ORDER BY sequence FOR UPDATE SKIP LOCKED) \
         UPDATE {s}buttress_outbox_hold AS h SET until = t.now + greatest(h.length, 0) \
         FROM late AS l CROSS JOIN t WHERE h.partition = l.partition AND h.key = l.key \
         AND h.sequence = l.sequence AND CASE WHEN h.until > t.now \
             THEN h.until - greatest(h.length, 0) > t.now ELSE false END",
        "WITH t AS MATERIALIZED (SELECT {now} AS now), \
         late AS MATERIALIZED (SELECT sequence FROM {s}buttress_outbox \
             WHERE status = 1 AND partition = ANY ($2) \
             AND due_at::float8 - length::float8 > (SELECT now FROM t) \
             ORDER BY sequence FOR UPDATE SKIP LOCKED) \
         UPDATE {s}buttress_outbox AS m SET due_at = t.now + greatest(m.length, 0) \
         FROM late AS l CROSS JOIN t WHERE m.sequence = l.sequence AND m.status + 0 = 1 \
         AND CASE WHEN m.due_at > t.now \
             THEN m.due_at - greatest(m.length, 0) > t.now ELSE false END",
    ] {
        let text = sql.text(template);
        let query = query(text).bind(sql.time()).bind(partitions);
        shortened += query.execute(&mut *tx).await?.rows_affected();
    }
    Ok(shortened)
}
