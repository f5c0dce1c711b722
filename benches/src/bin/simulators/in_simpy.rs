//! The simulation in SimPy, if Python has it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::Run;

const SCRIPT: &str = "simulators/mm1_simpy.py";

/// Returns `None` without Python or SimPy.
pub(crate) fn run(requests: u64) -> Option<Run> {
    let package = std::env::var_os("CARGO_MANIFEST_DIR");
    let package = package.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let mut python = Command::new("python3");
    let output = python.arg(Path::new(&package).join(SCRIPT)).arg(requests.to_string()).output();
    let output = output.ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut fields = text.split_whitespace();
    let done: f64 = fields.next()?.parse().ok()?;
    let mean = Duration::try_from_secs_f64(fields.next()?.parse().ok()?).ok()?;
    let cpu: f64 = fields.next()?.parse().ok()?;
    Some(Run { per_second: done / cpu, mean })
}
