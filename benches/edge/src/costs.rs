//! The measurement: rounds in which the candidates take turns.

use std::path::PathBuf;

use crate::candidates::{self, All, BARE, Backend, Candidate, FULL, PINGORA, ROUTES};
use crate::client::{BIG, SMALL};
use crate::load::{self, has_wrk};
use crate::{Error, idle, tunnel};

const ROUNDS: usize = 5;
/// The rounds of the rows that move many bytes.
const LARGE_ROUNDS: usize = 3;
/// The seconds of one load.
const SECONDS: u64 = 1;

/// The medians of a candidate.
#[derive(Clone, Debug, Default)]
pub struct Cost {
    pub name: &'static str,
    /// CPU microseconds of the process per request of 1 KiB.
    pub cpu: Option<f64>,
    pub requests_per_second: Option<f64>,
    pub p99_micros: Option<f64>,
    /// MiB per second of bodies of 1 MiB.
    pub large: Option<f64>,
    /// MiB per second in each direction of a tunnel.
    pub tunnel: Option<f64>,
    /// Resident memory after the load, in KiB.
    pub resident: Option<f64>,
    /// Resident memory with 10 000 idle connections, in KiB.
    pub idle: Option<f64>,
}

/// The result of a run.
pub struct Costs {
    pub rows: Vec<Cost>,
    pub skipped: Vec<String>,
    pub versions: Vec<String>,
    pub load: &'static str,
}

/// A folder of temporary files. It is removed with this value.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is small.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

pub fn measure(without: &[&str]) -> Result<Costs, Error> {
    let folder = Folder(std::env::temp_dir().join(format!("edge-bench-{}", std::process::id())));
    let backend = Backend::start()?;
    let All { candidates, mut skipped, versions } =
        candidates::start_all(&backend, &folder.0, without)?;
    let with_wrk = has_wrk();
    let mut rows: Vec<Cost> =
        candidates.iter().map(|Candidate { name, .. }| Cost { name, ..Cost::default() }).collect();

    let mut small: Vec<Vec<[f64; 3]>> = vec![Vec::new(); candidates.len()];
    // The first round opens connections, and is not counted.
    for round in 0..=ROUNDS {
        for (candidate, found) in candidates.iter().zip(&mut small) {
            let before = candidate.server.cpu_micros()?;
            let loaded = load::run(candidate.server.address, SMALL, SECONDS, with_wrk)
                .map_err(|error| format!("{}: {error}", candidate.name))?;
            let cpu = (candidate.server.cpu_micros()? - before) / loaded.requests;
            if round > 0 {
                found.push([cpu, loaded.requests / loaded.seconds, loaded.p99_micros]);
            }
        }
    }
    for ((row, found), candidate) in rows.iter_mut().zip(small).zip(&candidates) {
        let of = |index: usize| median(found.iter().filter_map(|round| round.get(index).copied()));
        (row.cpu, row.requests_per_second, row.p99_micros) = (of(0), of(1), of(2));
        row.resident = Some(candidate.server.resident_kib()?);
    }

    large(&candidates, &mut rows, with_wrk)?;
    tunnels(&candidates, &backend, &mut rows, &mut skipped)?;
    for name in [BARE, ROUTES, FULL] {
        match idle::of_new(name, &backend) {
            Ok(resident) => set(&mut rows, name, |row| row.idle = Some(resident)),
            Err(error) => skipped.push(format!("idle connections of {name}: {error}")),
        }
    }
    let load =
        if with_wrk { "wrk" } else { "threads of this program, because wrk is not installed" };
    Ok(Costs { rows, skipped, versions, load })
}

/// Sets a figure of a candidate. A floor that is no candidate gets a separate row.
fn set(rows: &mut Vec<Cost>, name: &'static str, figure: impl FnOnce(&mut Cost)) {
    if let Some(row) = rows.iter_mut().find(|row| row.name == name) {
        return figure(row);
    }
    let mut row = Cost { name, ..Cost::default() };
    figure(&mut row);
    rows.push(row);
}

fn large(candidates: &[Candidate], rows: &mut Vec<Cost>, with_wrk: bool) -> Result<(), Error> {
    let chosen = [BARE, ROUTES, FULL, PINGORA, "nginx"];
    let mut rates: Vec<(&'static str, Vec<f64>)> = Vec::new();
    for _ in 0..LARGE_ROUNDS {
        for candidate in candidates.iter().filter(|candidate| chosen.contains(&candidate.name)) {
            let loaded = load::run(candidate.server.address, BIG, SECONDS, with_wrk)?;
            add(&mut rates, candidate.name, loaded.requests / loaded.seconds);
        }
    }
    for (name, rates) in rates {
        set(rows, name, |row| row.large = median(rates));
    }
    Ok(())
}

/// The name of the floor of the tunnel.
pub const RELAY: &str = "bare copy";

fn tunnels(
    candidates: &[Candidate],
    backend: &Backend,
    rows: &mut Vec<Cost>,
    skipped: &mut Vec<String>,
) -> Result<(), Error> {
    let relay = candidates::start("relay", backend)?.server;
    let gateway = candidates.iter().find(|candidate| candidate.name == ROUTES);
    let gateway = gateway.ok_or("no gateway")?.server.address;
    let mut rates: Vec<(&'static str, Vec<f64>)> = Vec::new();
    for _ in 0..LARGE_ROUNDS {
        for (name, address) in [(RELAY, relay.address), (ROUTES, gateway)] {
            match tunnel::run(address, SECONDS) {
                Ok(bytes) => add(&mut rates, name, bytes / (1024.0 * 1024.0)),
                Err(error) => {
                    skipped.push(format!("tunnel of {name}: {error}"));
                    return Ok(());
                }
            }
        }
    }
    for (name, rates) in rates {
        set(rows, name, |row| row.tunnel = median(rates));
    }
    Ok(())
}

fn add(rates: &mut Vec<(&'static str, Vec<f64>)>, name: &'static str, rate: f64) {
    match rates.iter_mut().find(|(known, _)| *known == name) {
        Some((_, rates)) => rates.push(rate),
        None => rates.push((name, vec![rate])),
    }
}

/// Returns the middle value of an odd number of values.
fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
