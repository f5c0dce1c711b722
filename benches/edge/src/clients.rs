//! What a call of a client costs. Written to `CLIENTS.md`.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::candidates::Backend;
use crate::toolchain::{Toolchain, today};
use crate::{Error, build, built, callgrind, process, root};

const HYPER: &str = "hyper-util's client";
const SERVICE: &str = "`ServiceClient`";
const TOWER: &str = "tower over hyper-util's client";
const REQWEST: &str = "reqwest";
/// The clients: their program, and its last argument.
const CLIENTS: [Client; 4] = [
    (HYPER, "calls", Some("hyper")),
    (SERVICE, "calls", Some("buttress")),
    (TOWER, "calls", Some("tower")),
    (REQWEST, PEER, None),
];
/// The program, and the package, of the client on reqwest. The other clients are a part of the servers.
const PEER: &str = "reqwest_peer";
/// How long a run is.
#[derive(Clone, Copy)]
struct Length {
    rounds: usize,
    calls: u64,
}

const WHOLE: Length = Length { rounds: 11, calls: 10_000 };
const QUICK: Length = Length { rounds: 1, calls: 1000 };
const TASKS: [u64; 2] = [1, 64];
/// The calls that callgrind counts, and those that it subtracts.
const COUNTED: (u64, u64) = (2_500, 500);
/// The most that a call may cost, of the client of hyper-util.
const BOUND: f64 = 1.3;

const READING: &str = "\
- *CPU* is the time of the client's process per call: a GET with an answer of 1 KiB that is read whole, on the loopback
  interface. Every client has one worker thread. A call alone waits for its answer, and the wait for a socket is a part of
  the figure; 64 tasks share such waits. *Least and most* say how noisy the machine was. Compare ratios.
- *Instructions* are those of user space, counted by callgrind, of one task. System calls are not in them.
- *hyper-util's client* is the floor: `ServiceClient` and the stack of tower are built on it. It has no limit.
- `ServiceClient` has its defaults: a time limit for all attempts and one for each, which it sends to the service, a
  circuit breaker, a retry that is not needed, with a budget, and a balancer over one endpoint. It counts its requests.
- *tower* has the layers of tower for the same work: a time limit for all attempts, a retry that is not needed, with a
  budget, and a time limit for each attempt. tower has no circuit breaker, and this stack no balancer and no numbers.
- *reqwest* has a time limit for the whole request and one for the connection, and follows no redirect, like the others.
  The pools of reqwest and `ServiceClient` have the same size.
- *Why the targets are missed.* A call of `ServiceClient` takes about 12 500 instructions more than one of hyper-util's
  client. A profile by callgrind (2 500 calls, one task) finds no single large cost: functions in sources of buttress-edge
  2 900, copies of futures and requests 2 400, the allocator 2 100 (28 allocations a call against 14), inlined code of the
  standard library 1 700, `http` (maps of fields, targets) 1 100, functions of the crate buttress (circuit, balancer, retry)
  650, reads of the clock 500 (17 against 7), timers of tokio 300. hyper-util's client sets no timer, adds no field and
  counts nothing.
";

/// A client, and what its calls cost.
struct Cost {
    name: &'static str,
    /// CPU per call, by the number of tasks.
    cpu: Vec<Rounds>,
    instructions: Option<f64>,
}

/// The figures of several rounds, in nanoseconds.
#[derive(Clone, Copy)]
struct Rounds {
    least: f64,
    median: f64,
    most: f64,
}

impl Rounds {
    /// Returns `None` without a round.
    fn of(mut found: Vec<f64>) -> Option<Self> {
        found.sort_by(f64::total_cmp);
        let median = *found.get(found.len() / 2)?;
        Some(Self { least: *found.first()?, median, most: *found.last()? })
    }
}

/// Measures the clients, prints the report and writes it.
pub fn write(without: &[&str]) -> Result<(), Error> {
    let text = text(&measure(without, WHOLE)?, WHOLE);
    println!("{text}");
    fs::write(root().join("CLIENTS.md"), text)?;
    Ok(())
}

/// Measures the clients briefly, and prints the report. The figures show that the programs run, and no more.
pub fn try_out() -> Result<(), Error> {
    println!("{}", text(&measure(&[], QUICK)?, QUICK));
    Ok(())
}

fn measure(without: &[&str], length: Length) -> Result<Vec<Cost>, Error> {
    let mut clients = CLIENTS.to_vec();
    clients.retain(|(name, ..)| !without.contains(name));
    // By one command: with other features, the dependencies of all clients would be built a second time.
    let mut packages = vec!["servers"];
    packages.extend(clients.iter().map(|(_, program, _)| *program).find(|name| *name == PEER));
    build(&packages)?;
    let backend = Backend::start_built()?;
    let mut costs = Vec::new();
    for (name, ..) in &clients {
        costs.push(Cost { name, cpu: Vec::new(), instructions: None });
    }
    for tasks in TASKS {
        let mut rounds = vec![Vec::new(); clients.len()];
        for _ in 0..length.rounds {
            for (client, found) in clients.iter().zip(&mut rounds) {
                found.push(cpu(client, &backend, length.calls, tasks)?);
            }
        }
        for (cost, found) in costs.iter_mut().zip(rounds) {
            cost.cpu.extend(Rounds::of(found));
        }
    }
    if Command::new("valgrind").arg("--version").output().is_ok() {
        for (client, cost) in clients.iter().zip(&mut costs) {
            let (many, few) = COUNTED;
            let all = instructions(client, &backend, many)?;
            let less = instructions(client, &backend, few)?;
            cost.instructions = Some((all - less) / (many - few) as f64);
        }
    }
    Ok(costs)
}

/// The name of a client, its program, and the last argument of the program.
type Client = (&'static str, &'static str, Option<&'static str>);

/// The arguments of a client's program.
fn arguments(
    client: &Client,
    backend: &Backend,
    calls: u64,
    tasks: u64,
) -> Result<Vec<String>, Error> {
    let address = backend.addresses.first().ok_or("no address")?;
    let mut arguments = vec![address.to_string(), calls.to_string(), tasks.to_string()];
    arguments.extend(client.2.map(str::to_owned));
    Ok(arguments)
}

fn program(client: &Client) -> Result<PathBuf, Error> {
    Ok(built()?.join(client.1))
}

/// Returns the nanoseconds of CPU per call.
fn cpu(client: &Client, backend: &Backend, calls: u64, tasks: u64) -> Result<f64, Error> {
    let mut command = Command::new(program(client)?);
    let output = command.args(arguments(client, backend, calls, tasks)?).output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {text}", client.0).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

fn instructions(client: &Client, backend: &Backend, calls: u64) -> Result<f64, Error> {
    let name = format!("edge-clients-{}.callgrind", std::process::id());
    let file = std::env::temp_dir().join(name);
    let mut command = Command::new("valgrind");
    command.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", file.display()));
    command.arg(program(client)?).args(arguments(client, backend, calls, 1)?);
    let output = command.output()?;
    let text = fs::read_to_string(&file)?;
    fs::remove_file(&file)?;
    // A client that fails early needs few instructions.
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{} under callgrind: {text}", client.0).into());
    }
    let total = callgrind::total(&text).ok_or_else(|| format!("{}: no total", client.0))?;
    Ok(total as f64)
}

/// The columns that are compared with the floor, and their targets.
const FIGURES: [&str; 3] = ["CPU us, 1 task", "CPU us, 64 tasks", "instructions"];

fn text(costs: &[Cost], Length { rounds, calls }: Length) -> String {
    let Toolchain { rustc, target } = Toolchain::current();
    let mut text = format!(
        "# A call of a client\n\n\
         <!-- Written by `cargo run --release --manifest-path benches/edge/Cargo.toml -- clients`. Do not edit. -->\n\n\
         {} · {rustc} · {target} · {}\n\n{}## Targets\n\n\
         | {SERVICE}, of hyper-util's client | measured | target | reached |\n|---|---|---|---|\n",
        today(),
        process::machine(),
        busy(),
    );
    let figures = |cost: &Cost| -> Vec<Option<f64>> {
        let micros = cost.cpu.iter().map(|rounds| Some(rounds.median / 1000.0));
        micros.chain([cost.instructions]).collect()
    };
    let of = |name| costs.iter().find(|cost| cost.name == name).map(figures).unwrap_or_default();
    let (floor, service) = (of(HYPER), of(SERVICE));
    let ratio = |figures: &[Option<f64>], place| {
        let of = |all: &[Option<f64>]| all.get(place).copied().flatten();
        of(figures).zip(of(&floor)).map(|(figure, floor)| figure / floor)
    };
    for (place, what) in FIGURES.iter().enumerate() {
        let ratio = ratio(&service, place);
        let reached = match ratio {
            Some(ratio) if ratio <= BOUND => "yes",
            Some(_) => "**no**",
            None => "–",
        };
        let _ = writeln!(text, "| {what} | {} | at most {BOUND} | {reached} |", number(ratio, 2));
    }
    text.push_str("\n## Costs\n\n| client |");
    for what in FIGURES {
        let range = if what.starts_with("CPU") { " least and most |" } else { "" };
        let _ = write!(text, " {what} |{range} of hyper-util's |");
    }
    text.push_str("\n|---|---|---|---|---|---|---|---|---|\n");
    for cost in costs {
        let _ = write!(text, "| {} |", cost.name);
        for (place, figure) in figures(cost).into_iter().enumerate() {
            let range = cost.cpu.get(place);
            let digits = if range.is_some() { 1 } else { 0 };
            let _ = write!(text, " {} |", number(figure, digits));
            if let Some(Rounds { least, most, .. }) = range {
                let _ = write!(text, " {:.1} to {:.1} |", least / 1000.0, most / 1000.0);
            }
            let _ = write!(text, " {} |", number(ratio(&figures(cost), place), 2));
        }
        text.push('\n');
    }
    let _ = write!(
        text,
        "\n## How to read it\n\n\
         - The clients take turns. The figures are medians of {rounds} rounds of {calls} calls.\n{READING}"
    );
    text
}

/// Returns a line about the programs that ran on the machine meanwhile, where the system counts them.
fn busy() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = text.split_whitespace().next();
    load.map_or_else(String::new, |load| format!("Load average at the end: {load}.\n\n"))
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(factor: f64) -> String {
        let rounds = |nanos: f64| Rounds::of(vec![2.0 * nanos, nanos, nanos / 2.0]);
        let cost = |name, factor: f64| Cost {
            name,
            cpu: [10_000.0, 20_000.0].iter().filter_map(|nanos| rounds(nanos * factor)).collect(),
            instructions: Some(1000.0 * factor),
        };
        text(&[cost(HYPER, 1.0), cost(SERVICE, factor)], QUICK)
    }

    #[test]
    fn the_report_compares_with_the_client_below() {
        let report = report(1.25);
        let row = "| `ServiceClient` | 12.5 | 6.2 to 25.0 | 1.25 | 25.0 | 12.5 to 50.0 | 1.25 | 1250 | 1.25 |\n";
        assert!(report.contains(row), "{report}");
        assert!(report.contains("| CPU us, 64 tasks | 1.25 | at most 1.3 | yes |\n"), "{report}");
    }

    #[test]
    fn each_target_above_its_bound_is_missed() {
        let report = report(1.31);
        for what in FIGURES {
            let row = format!("| {what} | 1.31 | at most 1.3 | **no** |\n");
            assert!(report.contains(&row), "{report}");
        }
    }

    #[test]
    fn a_client_that_was_left_out_has_no_ratio() {
        let report = text(&[], QUICK);
        assert!(report.contains("| instructions | – | at most 1.3 | – |\n"), "{report}");
    }
}
