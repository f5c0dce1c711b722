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

const WHOLE: Length = Length { rounds: 5, calls: 20_000 };
const QUICK: Length = Length { rounds: 1, calls: 1000 };
const TASKS: [u64; 2] = [1, 64];
/// The calls that callgrind counts, and those that it subtracts.
const COUNTED: (u64, u64) = (2_500, 500);
/// The most that a call may cost, of the client of hyper-util.
const BOUND: f64 = 1.3;

const READING: &str = "\
- *CPU* is the time of the client's process per call: a GET with an answer of 1 KiB that is read whole, on the loopback
  interface. Every client has one worker thread. The clients take turns; the figures are medians of 5 rounds of 20 000
  calls. A call alone waits for its answer, and the wait for a socket is a part of the figure; 64 tasks share such waits.
- *Instructions* are those of user space, counted by callgrind, of one task. System calls are not in them.
- *hyper-util's client* is the floor: `ServiceClient` and the stack of tower are built on it. It has no limit.
- `ServiceClient` has its defaults: a time limit for all attempts and one for each, which it sends to the service, a
  circuit breaker, a retry that is not needed, with a budget, and a balancer over one endpoint. It counts its requests.
- *tower* has the layers of tower for the same work: a time limit for all attempts, a retry that is not needed, with a
  budget, and a time limit for each attempt. tower has no circuit breaker, and this stack no balancer and no numbers.
- *reqwest* has a time limit for the whole request and one for the connection, and follows no redirect, like the others.
  The pools of reqwest and `ServiceClient` have the same size.
";

/// A client, and what its calls cost.
struct Cost {
    name: &'static str,
    /// CPU nanoseconds per call, by the number of tasks.
    cpu: Vec<f64>,
    instructions: Option<f64>,
}

/// Measures the clients, prints the report and writes it.
pub fn write(without: &[&str]) -> Result<(), Error> {
    let text = text(&measure(without, WHOLE)?);
    println!("{text}");
    fs::write(root().join("CLIENTS.md"), text)?;
    Ok(())
}

/// Measures the clients briefly, and prints the report. The figures show that the programs run, and no more.
pub fn try_out() -> Result<(), Error> {
    println!("{}", text(&measure(&[], QUICK)?));
    Ok(())
}

fn measure(without: &[&str], length: Length) -> Result<Vec<Cost>, Error> {
    let backend = Backend::start()?;
    let mut clients = Vec::new();
    for client in CLIENTS {
        let (name, program, _) = client;
        if without.contains(&name) {
            continue;
        }
        if program == PEER {
            build(program)?;
        }
        clients.push(client);
    }
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
        for (cost, mut found) in costs.iter_mut().zip(rounds) {
            found.sort_by(f64::total_cmp);
            cost.cpu.extend(found.get(found.len() / 2));
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

fn text(costs: &[Cost]) -> String {
    let Toolchain { rustc, target } = Toolchain::current();
    let mut text = format!(
        "# A call of a client\n\n\
         <!-- Written by `cargo run --release --manifest-path benches/edge/Cargo.toml -- clients`. Do not edit. -->\n\n\
         {} · {rustc} · {target} · {}\n\n\
         | client | CPU us, 1 task | of hyper-util's | CPU us, 64 tasks | of hyper-util's | instructions | of hyper-util's |\n\
         |---|---|---|---|---|---|---|\n",
        today(),
        process::machine(),
    );
    let floor = costs.iter().find(|cost| cost.name == HYPER);
    let figures = |cost: &Cost| -> Vec<Option<f64>> {
        let micros = cost.cpu.iter().map(|nanos| Some(nanos / 1000.0));
        micros.chain([cost.instructions]).collect()
    };
    let of_floor = floor.map(figures).unwrap_or_default();
    let mut worst: Option<f64> = None;
    for cost in costs {
        let _ = write!(text, "| {}", cost.name);
        for (place, figure) in figures(cost).into_iter().enumerate() {
            let digits = if place == cost.cpu.len() { 0 } else { 1 };
            let floor = of_floor.get(place).copied().flatten();
            let ratio = figure.zip(floor).map(|(figure, floor)| figure / floor);
            if cost.name == SERVICE {
                worst = ratio.into_iter().chain(worst).reduce(f64::max);
            }
            let _ = write!(text, " | {} | {}", number(figure, digits), number(ratio, 2));
        }
        text.push_str(" |\n");
    }
    let reached = match worst {
        Some(worst) if worst <= BOUND => "reached",
        Some(_) => "**not reached**",
        None => "not measured",
    };
    let _ = write!(
        text,
        "\nTarget: a call of {SERVICE} at most {BOUND} of hyper-util's client. The worst ratio is {}: {reached}.\n\n\
         ## How to read it\n\n{READING}",
        number(worst, 2)
    );
    text
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_compares_with_the_client_below() {
        let cost = |name, factor: f64| Cost {
            name,
            cpu: vec![10_000.0 * factor, 20_000.0 * factor],
            instructions: Some(1000.0 * factor),
        };
        let report = text(&[cost(HYPER, 1.0), cost(SERVICE, 1.25)]);
        assert!(
            report.contains("| `ServiceClient` | 12.5 | 1.25 | 25.0 | 1.25 | 1250 | 1.25 |\n"),
            "{report}"
        );
        assert!(report.contains("The worst ratio is 1.25: reached."), "{report}");
    }
}
