//! Measures the gateway of buttress-edge beside other proxies, in one run.
//!
//! Without an argument it measures everything and writes `EDGE.md`. `without pingora` leaves a peer out. `gate` counts instructions and compares them with
//! `baseline.tsv`; `baseline` writes that file. `clients` measures calls of clients, and writes `CLIENTS.md`;
//! `clients reqwest` leaves it out, and `clients quick` prints a short run and writes nothing. `idle` measures the idle
//! connections alone, and replaces their figures in `EDGE.md`.
#![allow(clippy::disallowed_methods, reason = "a program that measures real time")]

mod candidates;
mod client;
mod clients;
mod costs;
mod idle;
mod instructions;
mod load;
mod peers;
mod renew;
mod report;
mod server;
mod tunnel;

// Shared with the other workspace of benchmarks.
#[path = "../../src/report/callgrind.rs"]
#[allow(dead_code, reason = "the other workspace uses the rest")]
mod callgrind;
#[path = "../../src/process.rs"]
#[allow(dead_code, reason = "the other workspace uses the rest")]
mod process;
#[path = "../../src/report/toolchain.rs"]
mod toolchain;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Any failure of a measurement.
type Error = Box<dyn std::error::Error>;

/// The folder of this workspace.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder of the programs that cargo built.
fn built() -> Result<PathBuf, Error> {
    let program = std::env::current_exe()?;
    Ok(program.parent().ok_or("a program without a folder")?.to_owned())
}

/// Builds packages of this workspace. Their programs are in [`built`] afterwards. Without `--locked`: a dependency that a
/// crate of buttress gains joins the lock file, and the versions of all others stay.
fn build(packages: &[&str]) -> Result<(), Error> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--quiet"]);
    command.args(packages.iter().flat_map(|package| ["--package", package]));
    let status = command.current_dir(root()).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{} does not build", packages.join(", ")).into())
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match *arguments {
        ["without", ref names @ ..] => report::write(names),
        [] => report::write(&[]),
        ["clients", "quick"] => clients::try_out(),
        ["clients", ref without @ ..] => clients::write(without),
        [idle::ARGUMENT] => renew::idle(),
        ["gate"] => instructions::gate(),
        ["baseline"] => instructions::write_baseline(),
        [idle::ARGUMENT, address, count] => idle::hold(address, count),
        _ => {
            Err("usage: nothing, `without` and names of peers, `clients`, `idle`, `gate`, or `baseline`"
                .into())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
