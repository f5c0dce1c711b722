//! Generates the program on PostgreSQL from the program on SQLite: it replaces the lines that the
//! guide names.

use std::path::Path;

const ON_SQLITE: &str = r#"SqliteStore::open(SqliteConfig::new("orders.db"))"#;
const ON_POSTGRES: &str = r#"PostgresStore::open(PostgresConfig::new(std::env::var("DATABASE_URL").map_err(|error| format!("DATABASE_URL: {error}"))?))"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=src/main.rs");
    let program = std::fs::read_to_string("src/main.rs")?;
    let program: Vec<&str> = program.lines().filter(|line| !line.starts_with("//!")).collect();
    let program = program.join("\n");
    assert_eq!(program.matches(ON_SQLITE).count(), 1, "one line opens the store");
    let program = program.replace(ON_SQLITE, ON_POSTGRES);
    let program = program.replace("{SqliteConfig, SqliteStore}", "{PostgresConfig, PostgresStore}");
    assert!(!program.contains("Sqlite"), "nothing else names the database");
    let folder = std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    Ok(std::fs::write(Path::new(&folder).join("on_postgres.rs"), program)?)
}
