//! Idle connections, held by a separate process, so that each side has its own limit of descriptors.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use crate::Error;
use crate::client::{Client, SMALL};
use crate::server::Server;

/// The argument of the process that holds the connections.
pub const ARGUMENT: &str = "idle";
/// The number of connections.
pub const COUNT: usize = 10_000;

/// Opens connections, sends one request on each, prints a line, and holds them until standard input closes.
pub fn hold(address: &str, count: &str) -> Result<(), Error> {
    let (address, count) = (address.parse()?, count.parse()?);
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = Client::connect(address)?;
        client.get(SMALL)?;
        clients.push(client);
    }
    println!("held");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Wraps a command so that it may open as many descriptors as the system allows.
pub fn with_all_descriptors(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n $(ulimit -Hn); exec \"$@\"", "sh", program]).args(arguments);
    command
}

/// Returns the resident memory of `server` in KiB while it has 10 000 idle connections, or why it cannot be measured.
pub fn resident_kib(server: &Server) -> Result<f64, Error> {
    let limit = Command::new("sh").args(["-c", "ulimit -Hn"]).output()?;
    let limit = String::from_utf8(limit.stdout)?;
    if limit.trim().parse::<usize>().is_ok_and(|limit| limit < COUNT + 2_000) {
        return Err(format!("the hard limit of descriptors is {}", limit.trim()).into());
    }
    let program = std::env::current_exe()?;
    let program = program.to_str().ok_or("a path that is not text")?;
    let address = server.address.to_string();
    let mut command = with_all_descriptors(program, &[ARGUMENT, &address, &COUNT.to_string()]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut line)?;
    }
    let resident = server.resident_kib();
    drop(child.stdin.take());
    child.wait()?;
    if line.trim() == "held" { resident } else { Err("the connections could not be opened".into()) }
}
