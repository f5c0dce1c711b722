//! The published DDL creates what a store creates.

use buttress::StoreErrorKind;
use buttress_sqlx::{SqliteConfig, SqliteStore};
use sqlx::AssertSqlSafe;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use crate::db::{fresh_path, remove};

/// Returns the definition of a database as text.
async fn shape_of_file(pool: &SqlitePool) -> Vec<String> {
    let sql = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL \
               UNION ALL SELECT name || '=' || value FROM buttress_schema \
               UNION ALL SELECT 'partition ' || partition FROM buttress_outbox_lease ORDER BY 1";
    let mut shape: Vec<String> = sqlx::query_scalar(sql).fetch_all(pool).await.unwrap();
    for line in &mut shape {
        *line = line.replace("IF NOT EXISTS ", "");
    }
    shape
}

#[tokio::test]
async fn on_sqlite() {
    let (by_store, by_ddl) = (fresh_path(), fresh_path());
    let config = |path| SqliteConfig::new(path).partitions(5);
    let store = SqliteStore::open(config(&by_store)).await.unwrap();
    let expected = shape_of_file(store.pool()).await;
    assert!(expected.contains(&"partition 4".to_owned()), "{expected:?}");

    let options = SqliteConnectOptions::new().filename(&by_ddl).create_if_missing(true);
    let pool = SqlitePool::connect_with(options).await.unwrap();
    let ddl = config(&by_ddl).ddl().unwrap();
    sqlx::raw_sql(AssertSqlSafe(ddl)).execute(&pool).await.unwrap();
    assert_eq!(shape_of_file(&pool).await, expected);
    let opened = SqliteStore::open(config(&by_ddl)).await.unwrap();
    assert_eq!(opened.partitions(), 5);
    assert_eq!(shape_of_file(opened.pool()).await, expected);

    pool.close().await;
    drop((store, opened));
    remove(&by_store);
    remove(&by_ddl);
}

#[test]
fn a_configuration_that_cannot_work_has_no_ddl() {
    let error = SqliteConfig::new("orders.db").partitions(0).ddl().unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid);
    assert!(error.to_string().contains("partitions"), "{error}");
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn on_postgres() {
    use buttress_sqlx::{PostgresConfig, PostgresStore};
    use sqlx::postgres::PgPool;

    use crate::db::{drop_schema, fresh_schema, postgres_url};

    const SHAPE: &str = "SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, \
                                 column_default, is_identity, collation_name) \
                         FROM information_schema.columns WHERE table_schema = '{s}' \
                         UNION ALL SELECT replace(indexdef, '{s}', '') FROM pg_indexes \
                         WHERE schemaname = '{s}' \
                         UNION ALL SELECT relname || array_to_string(reloptions, ',') FROM pg_class \
                         WHERE relnamespace = '{s}'::regnamespace AND reloptions IS NOT NULL \
                         UNION ALL SELECT name || '=' || value FROM {s}.buttress_schema \
                         UNION ALL SELECT 'partition ' || partition FROM {s}.buttress_outbox_lease \
                         ORDER BY 1";
    let Some(url) = postgres_url("the published DDL").await else { return };
    let pool = PgPool::connect(&url).await.unwrap();
    let shape = async |schema: &str| -> Vec<String> {
        let sql = AssertSqlSafe(SHAPE.replace("{s}", schema));
        sqlx::query_scalar(sql).fetch_all(&pool).await.unwrap()
    };
    let (by_store, by_ddl) = (fresh_schema(), fresh_schema());
    let config = |schema| PostgresConfig::new(&url).schema(schema).partitions(5).connections(1);
    let store = PostgresStore::open(config(&by_store)).await.unwrap();
    let expected = shape(&by_store).await;
    assert!(expected.contains(&"partition 4".to_owned()), "{expected:?}");

    sqlx::raw_sql(AssertSqlSafe(config(&by_ddl).ddl().unwrap())).execute(&pool).await.unwrap();
    assert_eq!(shape(&by_ddl).await, expected);
    let opened = PostgresStore::open(config(&by_ddl)).await.unwrap();
    assert_eq!(opened.partitions(), 5);
    assert_eq!(shape(&by_ddl).await, expected);

    drop((store, opened));
    drop_schema(&pool, &by_store).await;
    drop_schema(&pool, &by_ddl).await;
}
