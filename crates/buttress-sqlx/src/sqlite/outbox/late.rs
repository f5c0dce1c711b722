//! Shortening of ends that are later than their length from now, because the clock was set back. A
//! shortened end is its length from now.

use sqlx::sqlite::SqliteConnection;

/// Sets the ends that a [`Plan`](crate::outbox::owners::Plan) gives to leases.
pub(super) async fn shorten_leases(
    tx: &mut SqliteConnection,
    ends: &[(i64, i64)],
) -> sqlx::Result<()> {
    for (partition, until) in ends {
        sqlx::query("UPDATE buttress_outbox_lease SET until = ?2 WHERE partition = ?1")
            .bind(partition)
            .bind(until)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

/// Shortens the leases of relays. A relay that crashed must not count for longer than its lease.
pub(super) async fn shorten_relays(tx: &mut SqliteConnection, now: i64) -> sqlx::Result<()> {
    let sql = "UPDATE buttress_outbox_relay SET until = ?1 + max(length, 0) \
               WHERE until > ?1 AND until - max(length, 0) > ?1";
    sqlx::query(sql).bind(now).execute(tx).await.map(drop)
}

/// Shortens holds for a retry and delays of messages. Returns how many. A hold by a dead letter has
/// no end, and an endless length.
pub(in crate::sqlite) async fn shorten_waits(
    tx: &mut SqliteConnection,
    now: i64,
    partitions: &[u16],
) -> sqlx::Result<u64> {
    let mut shortened = 0;
    for sql in [
        "UPDATE buttress_outbox_hold SET until = ?2 + max(length, 0) \
         WHERE partition IN (SELECT value FROM json_each(?1)) AND until - length > ?2 AND until > ?2",
        "UPDATE buttress_outbox SET due_at = ?2 + max(length, 0) WHERE status = 1 \
         AND partition IN (SELECT value FROM json_each(?1)) AND due_at - length > ?2 AND due_at > ?2",
    ] {
        let query = sqlx::query(sql).bind(format!("{partitions:?}")).bind(now);
        shortened += query.execute(&mut *tx).await?.rows_affected();
    }
    Ok(shortened)
}
