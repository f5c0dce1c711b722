//! A backlog of events without positions on PostgreSQL.

use std::collections::BTreeMap;

use buttress_durable::event_store::{
    Append, Expected, Filter, NewBatch, Position, Store, StreamId,
};
use sqlx::AssertSqlSafe;

use crate::db::{Db, Postgres, on_postgres};
use crate::event_order::{place, positions};
use crate::events::{event, order};

/// Appends `many` events of one stream with a statement by hand: a migration.
async fn import(db: &Postgres, of: u32, many: u32) {
    db.execute(&format!(
        "WITH s AS (INSERT INTO {{s}}buttress_event_stream (stream_kind, stream_id, version) \
             VALUES ('order', '{of}', {many}) RETURNING number) \
         INSERT INTO {{s}}buttress_event (stream, version, id, kind, schema, data, recorded_at) \
         SELECT s.number, n, gen_random_uuid(), 'order.placed', 1, '', 1 FROM s, generate_series(1, {many}) AS n \
         ORDER BY n"
    ))
    .await;
}

#[tokio::test]
async fn events_6_5_a_backlog_gets_its_positions_in_passes_and_once() {
    on_postgres("events_6_5_backlog", async |db: Postgres| {
        let scan = "SELECT count(*) FROM {s}buttress_event_counter WHERE scan IS NOT NULL";
        let scanning = async || -> i64 {
            let sql = AssertSqlSafe(db.sql(scan));
            sqlx::query_scalar(sql).fetch_one(db.store.pool()).await.unwrap()
        };
        // Events that are there already lie between those of the backlog.
        let mut open = db.begin().await;
        let batch = NewBatch::new(order(1), Expected::New, vec![event(1)]);
        db.store.append_in(&mut open, &batch).await.unwrap();
        import(&db, 2, 10).await;
        assert_eq!(positions(&db.store).await.len(), 10);
        db.commit(open).await;
        import(&db, 3, 24_990).await;
        let next = async |after: u64| {
            let page = db.store.read_all(Position::new(after), &Filter::all(), 10_000).await;
            let page = page.unwrap();
            (page.through.get(), page.is_end)
        };
        assert_eq!(next(10).await, (10_010, false));
        assert_eq!(scanning().await, 1);
        // Committed during the passes: it comes after them.
        place(&db.store, 50..=50).await;
        let stats = db.store.event_stats().await.unwrap();
        assert!(!stats.unsequenced_age.is_zero());
        assert_eq!(next(10_010).await, (20_010, false));
        assert_eq!(next(20_010).await.0, 25_001);
        assert_eq!(scanning().await, 0);
        assert_eq!(next(25_001).await, (25_002, true));
        let mut versions: BTreeMap<StreamId, u64> = BTreeMap::new();
        let (mut after, mut last) = (Position::START, None);
        while after.get() < 25_002 {
            let page = db.store.read_all(after, &Filter::all(), 10_000).await.unwrap();
            for one in page.events {
                let version = versions.entry(one.event.stream.clone()).or_default();
                *version += 1;
                assert_eq!(one.event.version.get(), *version, "{}", one.event.stream);
                last = Some(one.event.id);
            }
            after = page.through;
        }
        assert_eq!(versions.values().sum::<u64>(), 25_002, "each event once");
        assert_eq!(last.unwrap().get(), 50);
    })
    .await;
}

#[tokio::test]
async fn events_6_5_a_backlog_of_whole_passes_moves_the_snapshot() {
    on_postgres("events_6_5_whole", async |db: Postgres| {
        import(&db, 1, 10_000).await;
        let page = db.store.read_all(Position::START, &Filter::all(), 10_000).await.unwrap();
        assert_eq!((page.through.get(), page.is_end), (10_000, true));
        // Otherwise each poll would look at all of them again.
        let sql = "SELECT count(*) FROM {s}buttress_event AS e, {s}buttress_event_counter AS c \
                   WHERE NOT pg_visible_in_snapshot(e.xid, c.snapshot)";
        let left: i64 = sqlx::query_scalar(AssertSqlSafe(db.sql(sql)))
            .fetch_one(db.store.pool())
            .await
            .unwrap();
        assert_eq!(left, 0);
    })
    .await;
}
