//! Idle connections, held by a separate process, so that each side has its own limit of descriptors.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::thread;

use crate::Error;
use crate::candidates::{self, Backend};
use crate::client::{Client, SMALL};
use crate::server::Server;

/// The argument of the process that holds the connections.
pub const ARGUMENT: &str = "idle";
/// The number of connections.
pub const COUNT: usize = 10_000;

/// The threads that open connections.
const THREADS: usize = 8;

/// Opens connections, sends one request on each, prints a line, and holds them until standard input closes.
pub fn hold(address: &str, count: &str) -> Result<(), Error> {
    let (address, count): (_, usize) = (address.parse()?, count.parse()?);
    let open = |thread: usize| -> std::io::Result<Vec<Client>> {
        let mine = (thread..count).step_by(THREADS);
        let opened = mine.map(|_| {
            let mut client = Client::connect(address)?;
            client.get(SMALL)?;
            Ok(client)
        });
        opened.collect()
    };
    let threads = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..THREADS).map(|thread| scope.spawn(move || open(thread))).collect();
        threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
    });
    let mut clients = Vec::new();
    for opened in threads {
        clients.extend(opened.map_err(|_| "a thread that opens connections panicked")??);
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

/// The new processes that are tried before a candidate is left out.
const ATTEMPTS: usize = 10;

/// Returns the resident memory in KiB of a new process of a candidate with 10 000 idle connections. Earlier load or earlier
/// connections would have grown the memory of a running one.
pub fn of_new(name: &'static str, backend: &Backend) -> Result<f64, Error> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match resident_kib(&candidates::start(name, backend)?.server) {
            Ok(resident) => return Ok(resident),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| "no attempt".into()))
}

/// Returns the resident memory of `server` in KiB while it has 10 000 idle connections, or why it cannot be measured: e.g. the
/// gateway closes a connection that has been idle for 10 seconds, and a slow machine opens fewer in this time.
fn resident_kib(server: &Server) -> Result<f64, Error> {
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
    let (resident, sockets) = (server.resident_kib(), server.sockets());
    drop(child.stdin.take());
    child.wait()?;
    if line.trim() != "held" {
        return Err("the connections could not be opened".into());
    }
    match sockets? {
        open if open < COUNT => {
            Err(format!("of {COUNT} connections only {open} were still open").into())
        }
        _ => resident,
    }
}
