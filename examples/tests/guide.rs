//! What the tests of the programs of the guides share.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// Runs `test` with the URL of a new database of PostgreSQL, and removes the database afterwards. Returns `None`
/// without a server, unless `BUTTRESS_REQUIRE_SERVICES=1` makes that a failure.
pub(crate) async fn with_database<T>(name: &str, test: impl AsyncFnOnce(&str) -> T) -> Option<T> {
    let server = std::env::var("BUTTRESS_POSTGRES_URL");
    let server = server.unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/test".to_owned());
    let mut connection = match PgConnection::connect(&server).await {
        Ok(connection) => connection,
        Err(error) => {
            let required =
                std::env::var("BUTTRESS_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
            assert!(!required, "PostgreSQL is required and unavailable: {error}");
            println!("skipped: PostgreSQL is unavailable: {error}");
            return None;
        }
    };
    let name = format!("{name}_{}", std::process::id());
    let mut execute = async |sql: String| {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    };
    execute(format!("CREATE DATABASE {name}")).await;
    let (server, _) = server.rsplit_once('/').unwrap();
    let tested = test(&format!("{server}/{name}")).await;
    execute(format!("DROP DATABASE {name} WITH (FORCE)")).await;
    Some(tested)
}

/// Checks that a page of the guide shows a program.
pub(crate) fn assert_shows(page: &str, program: &str) {
    let (_, rest) = page.split_once("```rust,no_run\n").expect("the page has the program");
    let (shown, _) = rest.split_once("\n```").expect("the program ends");
    assert_eq!(shown, program.trim_end(), "copy src/main.rs into the page");
}
