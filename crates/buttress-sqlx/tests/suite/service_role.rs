//! The rights that a running service needs on PostgreSQL: exactly the rights that the guide grants.

use buttress::StoreErrorKind;
use buttress_sqlx::{PostgresConfig, PostgresStore};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnectOptions, PgPool};

use crate::db::{drop_schema, fresh_schema, postgres_url};

/// A role that owns nothing.
pub(crate) struct ServiceRole {
    name: String,
}

async fn execute(pool: &PgPool, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.unwrap();
}

/// Returns the statements of the guide's page, with other names.
fn grants(schema: &str, role: &str) -> String {
    let page = include_str!("../../src/guide/deployment.md");
    let (_, rest) = page.split_once("```sql\n").expect("the page has a block of SQL");
    let (sql, _) = rest.split_once("```").expect("the block ends");
    assert!(sql.starts_with("GRANT USAGE ON SCHEMA app TO app_service;"), "{sql}");
    sql.replace("SCHEMA app ", &format!("SCHEMA {schema} "))
        .replace(" app.", &format!(" {schema}."))
        .replace("app_service", role)
}

impl ServiceRole {
    pub(crate) async fn create(pool: &PgPool) -> Self {
        let name = fresh_schema();
        execute(pool, format!("CREATE ROLE {name} LOGIN PASSWORD 'secret'")).await;
        Self { name }
    }

    /// Creates the tables in `schema` as the migrating role, and grants the rights. Returns how the
    /// service opens the store.
    pub(crate) async fn prepare(&self, pool: &PgPool, url: &str, schema: &str) -> PostgresConfig {
        let ddl = PostgresConfig::new(url).schema(schema).ddl().unwrap();
        execute(pool, ddl).await;
        execute(pool, grants(schema, &self.name)).await;
        let options: PgConnectOptions = url.parse().unwrap();
        let options = options.username(&self.name).password("secret");
        PostgresConfig::with_options(options).schema(schema)
    }

    pub(crate) async fn drop(&self, pool: &PgPool) {
        execute(pool, format!("DROP OWNED BY {0}; DROP ROLE {0}", self.name)).await;
    }
}

#[tokio::test]
async fn the_role_of_a_service_can_create_nothing() {
    let Some(url) = postgres_url("the_role_of_a_service_can_create_nothing").await else { return };
    let pool = PgPool::connect(&url).await.unwrap();
    let role = ServiceRole::create(&pool).await;
    let schema = fresh_schema();
    let store = PostgresStore::open(role.prepare(&pool, &url, &schema).await).await.unwrap();
    for forbidden in [
        format!("CREATE TABLE {schema}.another (number int8)"),
        format!("DROP TABLE {schema}.buttress_outbox"),
        format!("UPDATE {schema}.buttress_schema SET value = 0"),
        format!("TRUNCATE {schema}.buttress_saga"),
    ] {
        let refused = sqlx::query(AssertSqlSafe(&*forbidden)).execute(store.pool()).await;
        let error = refused.expect_err(&forbidden);
        let code = error.as_database_error().and_then(|error| error.code().map(String::from));
        assert_eq!(code.as_deref(), Some("42501"), "{forbidden}: {error}");
    }
    // Without the tables it cannot open a store, because that would create them.
    let elsewhere = fresh_schema();
    execute(&pool, format!("CREATE SCHEMA {elsewhere}")).await;
    let config = store.config().clone().schema(&elsewhere);
    let error = PostgresStore::open(config).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");

    store.close().await;
    drop(store);
    drop_schema(&pool, &schema).await;
    drop_schema(&pool, &elsewhere).await;
    role.drop(&pool).await;
}
