//! The program on PostgreSQL: see `build.rs`.

include!(concat!(env!("OUT_DIR"), "/on_postgres.rs"));
