//! Commands on PostgreSQL with other crates: each loads an aggregate, decides, and appends an event. Prints commands per
//! second. Arguments: the crate, the address of the database, and the number of the round.
#![allow(clippy::disallowed_methods, reason = "a program that measures real time")]

#[path = "../../src/bench.rs"]
#[allow(dead_code, reason = "the other program uses the rest")]
mod bench;
mod on_cqrs_es;
mod on_disintegrate;
mod on_esrs;

use bench::Error;

/// Bytes of the text of an event.
const NOTE: usize = 150;

/// The schema of a run, which the other program drops.
const SCHEMA: &str = "buttress_event_store_bench";

/// The address of a database whose tables are those of the schema.
fn in_schema(url: &str) -> String {
    let mark = if url.contains('?') { '&' } else { '?' };
    format!("{url}{mark}options=-csearch_path%3D{SCHEMA}")
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, url, round] = arguments.as_slice() else {
        return Err("usage: event_store_peers NAME URL ROUND".into());
    };
    let streams = round.parse::<u64>()? * 1_000_000;
    let url = in_schema(url);
    let rate = match name.as_str() {
        "cqrs-es" => on_cqrs_es::measure(&url, streams).await?,
        "esrs" => on_esrs::measure(&url, streams).await?,
        "disintegrate" => on_disintegrate::measure(&url, streams).await?,
        other => return Err(format!("{other} is unknown").into()),
    };
    println!("{rate}");
    Ok(())
}
