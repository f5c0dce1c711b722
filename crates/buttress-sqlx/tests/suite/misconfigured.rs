//! Errors that an operator must fix on PostgreSQL, and their messages.

use buttress::{StoreError, StoreErrorKind};
use buttress_durable::outbox::{RelayId, Renewal, Store as _};
use buttress_sqlx::{PostgresConfig, PostgresStore};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnectOptions, PgPool};

use crate::db::{SECOND, drop_schema, fresh_schema, postgres_url};

fn refused(error: &StoreError, names: &str) {
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");
    assert!(error.to_string().contains(names), "{error} does not name {names}");
    assert!(std::error::Error::source(error).is_some(), "{error}");
}

fn options(url: &str) -> PgConnectOptions {
    url.parse().unwrap()
}

#[tokio::test]
async fn an_unknown_role_or_database_is_named() {
    let Some(url) = postgres_url("an_unknown_role_or_database_is_named").await else { return };
    let role = PostgresConfig::with_options(options(&url).username("buttress_nobody"));
    refused(&PostgresStore::open(role).await.unwrap_err(), "buttress_nobody");
    let database = PostgresConfig::with_options(options(&url).database("buttress_nowhere"));
    refused(&PostgresStore::open(database).await.unwrap_err(), "buttress_nowhere");
}

/// A role without rights cannot create the schema. Once it may use the tables, it works. If a right
/// is revoked later, the operation that needs it reports it.
#[tokio::test]
async fn a_missing_right_is_named() {
    let Some(url) = postgres_url("a_missing_right_is_named").await else { return };
    let pool = PgPool::connect(&url).await.unwrap();
    let execute = async |sql: String| {
        sqlx::query(AssertSqlSafe(sql)).execute(&pool).await.unwrap();
    };
    let (schema, role) = (fresh_schema(), fresh_schema());
    execute(format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'")).await;
    let user = options(&url).username(&role).password("secret");
    let config = || PostgresConfig::with_options(user.clone()).schema(&schema).connections(1);

    refused(&PostgresStore::open(config()).await.unwrap_err(), "permission denied for database");
    execute(format!("CREATE SCHEMA {schema}")).await;
    execute(format!("GRANT USAGE ON SCHEMA {schema} TO {role}")).await;
    refused(&PostgresStore::open(config()).await.unwrap_err(), "permission denied for schema");
    execute(format!("GRANT CREATE ON SCHEMA {schema} TO {role}")).await;
    let store = PostgresStore::open(config()).await.unwrap();

    let (relay, length) = (RelayId::new(1), 10 * SECOND);
    store.lease_partitions(Renewal::new(relay, length, &[])).await.unwrap();
    let table = format!("{schema}.buttress_outbox_lease");
    execute(format!("ALTER TABLE {table} OWNER TO CURRENT_USER")).await;
    execute(format!("REVOKE ALL ON {table} FROM {role}")).await;
    let error = store.lease_partitions(Renewal::new(relay, length, &[])).await.unwrap_err();
    refused(&error, "permission denied for table buttress_outbox_lease");
    execute(format!("GRANT ALL ON {table} TO {role}")).await;
    store.lease_partitions(Renewal::new(relay, length, &[])).await.unwrap();

    store.close().await;
    drop(store);
    drop_schema(&pool, &schema).await;
    execute(format!("DROP OWNED BY {role}")).await;
    execute(format!("DROP ROLE {role}")).await;
}

/// Caught: a text that the encoding of the database does not have stopped a whole relay.
#[tokio::test]
async fn a_database_that_cannot_hold_every_text_is_refused() {
    let Some(url) = postgres_url("a_database_that_cannot_hold_every_text_is_refused").await else {
        return;
    };
    let pool = PgPool::connect(&url).await.unwrap();
    let execute = async |sql: String| {
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&pool).await.unwrap();
    };
    let database = fresh_schema();
    execute(format!(
        "CREATE DATABASE {database} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    ))
    .await;
    let config = PostgresConfig::with_options(options(&url).database(&database));
    let error = PostgresStore::open(config).await.unwrap_err();
    execute(format!("DROP DATABASE {database} WITH (FORCE)")).await;
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
    assert!(error.to_string().contains("LATIN1") && error.to_string().contains("UTF8"), "{error}");
}
