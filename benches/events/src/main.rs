//! Measures publishers and consumers of each broker beside a raw loop of the same client, in one run.
//!
//! Prints the report and writes it to `EVENTS.md`. Needs the brokers on their standard ports, and the broker of
//! `BUTTRESS_KAFKA`, which `.ci/kafka` starts. It leaves a broker out that does not answer. Arguments: the name of the one
//! broker to measure, and the number of rounds.
#![allow(clippy::disallowed_methods, reason = "a program that measures real time")]

mod bench;
mod in_process;
mod kafka_topics;
mod nats_jetstream;
mod rabbitmq;
mod redis_streams;
mod report;
mod take_over;

// Shared with the other workspace of benchmarks.
#[path = "../../src/process.rs"]
#[allow(dead_code, reason = "the other workspace uses the rest")]
mod process;
#[path = "../../src/report/toolchain.rs"]
mod toolchain;

use std::process::ExitCode;

use bench::{Error, ROUNDS, Row};
use report::Target;
use tokio::runtime::{Builder, Runtime};

/// Measures the brokers whose names are in `wanted`.
async fn over_brokers(wanted: &[&str], rounds: usize) -> Result<(Vec<Row>, Vec<Target>), Error> {
    let (mut rows, mut targets) = (Vec::new(), Vec::new());
    for broker in wanted {
        let (found, took) = match *broker {
            "redis" => (redis_streams::measure(rounds).await?, redis_streams::take_over().await?),
            "nats" => (nats_jetstream::measure(rounds).await?, nats_jetstream::take_over().await?),
            "rabbitmq" => (rabbitmq::measure(rounds).await?, rabbitmq::take_over().await?),
            _ => (kafka_topics::measure(rounds).await?, kafka_topics::take_over().await?),
        };
        rows.extend(found);
        targets.extend(took);
    }
    Ok((rows, targets))
}

const BROKERS: [&str; 4] = ["redis", "nats", "rabbitmq", "kafka"];

fn run() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let many = Runtime::new()?;
    if let [take_over::CHILD, broker] = words[..] {
        return many.block_on(async {
            match broker {
                "redis" => redis_streams::hold().await,
                "nats" => nats_jetstream::hold().await,
                "rabbitmq" => rabbitmq::hold().await,
                _ => kafka_topics::hold().await,
            }
        });
    }
    let rounds = words.iter().find_map(|word| word.parse().ok());
    words.retain(|word| word.parse::<usize>().is_err());
    if words.iter().any(|word| !BROKERS.contains(word)) {
        return Err(format!("usage: [BROKER ..] [ROUNDS]; brokers: {}", BROKERS.join(", ")).into());
    }
    let wanted = if words.is_empty() { &BROKERS[..] } else { &words[..] };
    let rounds = rounds.unwrap_or(ROUNDS);
    let (rows, mut targets) = many.block_on(over_brokers(wanted, rounds))?;
    targets.extend(in_process::measure(&Builder::new_current_thread().build()?)?);
    report::write(&rows, targets, rounds)
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
