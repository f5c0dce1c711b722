//! The driver. `cargo benchmarks` measures everything and writes BENCHMARKS.md. `cargo benchmarks again timings durable`
//! measures the times of these programs again, where the machine was busy, and takes the other times of the last run.
//! `cargo benchmarks gate` compares buttress with the committed baseline, and
//! `cargo benchmarks baseline` writes the baseline.
#![allow(clippy::expect_used, reason = "a program for the developers of buttress")]

use std::fs;
use std::process::ExitCode;

use buttress_benches::report::programs::root;
use buttress_benches::report::results::Results;
use buttress_benches::report::{chart, gate, markdown};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        times @ ([] | ["again", ..]) => {
            let results = Results::measure(times.get(1..));
            let (report, wrong) = markdown::report(&results);
            chart::write(&results.table);
            fs::write(root().join("BENCHMARKS.md"), &report).expect("the report can be written");
            println!("{report}");
            for wrong in &wrong {
                eprintln!("FAILED: {wrong}");
            }
            if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        ["gate"] => gate::gate(),
        ["baseline"] => gate::write_baseline(),
        _ => {
            eprintln!(
                "There are `cargo benchmarks`, `... again PROGRAM ..`, `... gate` and `... baseline`."
            );
            ExitCode::FAILURE
        }
    }
}
