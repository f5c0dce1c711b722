//! The PostgreSQL of the tests.

use std::time::Duration;

use buttress::Rng;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, PgPool};

/// Returns the URL of the database, if there is one. Without it tests are skipped with a line of
/// output, unless `BUTTRESS_REQUIRE_SERVICES=1` makes that a failure.
pub(crate) async fn postgres_url(test: &str) -> Option<String> {
    let url = std::env::var("BUTTRESS_POSTGRES_URL")
        .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/test".to_owned());
    // A busy machine needs longer than a second.
    let connecting = tokio::time::timeout(Duration::from_secs(20), PgConnection::connect(&url));
    let why = match connecting.await {
        Ok(Ok(connection)) => {
            let _ = connection.close().await;
            return Some(url);
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer within 20 seconds".to_owned(),
    };
    let required = std::env::var("BUTTRESS_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
    assert!(!required, "PostgreSQL is required, and is unavailable: {why}");
    println!("skipped {test} on PostgreSQL: {why}");
    None
}

/// Returns the name of a schema, or of a role, that no other test has.
pub(crate) fn fresh_schema() -> String {
    format!("buttress_test_{:016x}", Rng::default().next_u64())
}

pub(crate) async fn drop_schema(pool: &PgPool, schema: &str) {
    let sql = AssertSqlSafe(format!("DROP SCHEMA IF EXISTS \"{schema}\" CASCADE"));
    sqlx::query(sql).execute(pool).await.unwrap();
}
