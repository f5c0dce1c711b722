//! Runs the program of the guide twice on a new database.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::process::Command;

#[tokio::test]
async fn the_program_keeps_a_table_of_balances() {
    let server = std::env::var("BUTTRESS_POSTGRES_URL");
    let server = server.unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/test".to_owned());
    let mut connection = match PgConnection::connect(&server).await {
        Ok(connection) => connection,
        Err(error) => {
            let required =
                std::env::var("BUTTRESS_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
            assert!(!required, "PostgreSQL is required and unavailable: {error}");
            println!("skipped: PostgreSQL is unavailable: {error}");
            return;
        }
    };
    let name = format!("first_projection_{}", std::process::id());
    let mut execute = async |sql: String| {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    };
    execute(format!("CREATE DATABASE {name}")).await;
    let (server, _) = server.rsplit_once('/').unwrap();
    let database = format!("{server}/{name}");
    let mut printed = Vec::new();
    for _ in 0..2 {
        let program = env!("CARGO_BIN_EXE_first_projection");
        let run = Command::new(program).env("DATABASE_URL", &database).output().await.unwrap();
        printed.push((run.status.success(), String::from_utf8_lossy(&run.stdout).into_owned()));
    }
    let mut reader = PgConnection::connect(&database).await.unwrap();
    let balances: Vec<i64> =
        sqlx::query_scalar("SELECT cents FROM balance").fetch_all(&mut reader).await.unwrap();
    reader.close().await.unwrap();
    execute(format!("DROP DATABASE {name} WITH (FORCE)")).await;
    for (worked, text) in printed {
        assert!(worked, "{text}");
        assert!(text.contains("has 380 cents at version 3"), "{text}");
        assert!(text.contains("refused: the account has 380 cents"), "{text}");
    }
    assert_eq!(balances, [380, 380]);
}

/// The guide shows this program.
#[test]
fn the_page_shows_the_program() {
    let page = include_str!("../../../crates/buttress-sqlx/src/guide/first_projection.md");
    let (_, rest) = page.split_once("```rust,no_run\n").expect("the page has the program");
    let (shown, _) = rest.split_once("\n```").expect("the program ends");
    let program = include_str!("../src/main.rs");
    assert_eq!(shown, program.trim_end(), "copy src/main.rs into the page");
}
