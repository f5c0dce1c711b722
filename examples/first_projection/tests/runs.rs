//! Runs the program of the guide twice on a new database.

#[path = "../../tests/guide.rs"]
mod guide;

use guide::{assert_shows, with_database};
use sqlx::{Connection as _, PgConnection};
use tokio::process::Command;

#[tokio::test]
async fn the_program_keeps_a_table_of_balances() {
    let run = with_database("first_projection", async |database| {
        let mut printed = Vec::new();
        for _ in 0..2 {
            let program = env!("CARGO_BIN_EXE_first_projection");
            let run = Command::new(program).env("DATABASE_URL", database).output().await.unwrap();
            printed.push((run.status.success(), String::from_utf8_lossy(&run.stdout).into_owned()));
        }
        let mut reader = PgConnection::connect(database).await.unwrap();
        let balances: Vec<i64> =
            sqlx::query_scalar("SELECT cents FROM balance").fetch_all(&mut reader).await.unwrap();
        reader.close().await.unwrap();
        (printed, balances)
    });
    let Some((printed, balances)) = run.await else { return };
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
    assert_shows(page, include_str!("../src/main.rs"));
}
