//! A running sidecar, and what it can be asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// The longest wait for anything.
const BOUND: Duration = Duration::from_secs(60);
/// The pause between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(5);

/// The running program. It is killed if a test fails.
pub(crate) struct Sidecar {
    child: Child,
    /// The lines of the command's output.
    output: Receiver<String>,
    /// The lines of the sidecar's messages.
    messages: Receiver<String>,
}

/// Returns a receiver of the lines that `pipe` gives.
fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            if line.is_err() || line.is_ok_and(|line| sender.send(line).is_err()) {
                return;
            }
        }
    });
    receiver
}

impl Sidecar {
    /// Starts the program with these arguments.
    pub(crate) fn run(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sidecar"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = lines(child.stdout.take().unwrap());
        let messages = lines(child.stderr.take().unwrap());
        Self { child, output, messages }
    }

    /// Supervises a script of a shell. Nothing listens behind the proxy.
    pub(crate) fn script(options: &[&str], script: &str) -> Self {
        let listen = ["--listen", "127.0.0.1:0", "--to", "http://127.0.0.1:1"];
        let command = ["--", "sh", "-c", script];
        Self::run(&[&listen[..], options, &command].concat())
    }

    /// Returns the next line of the command's output.
    pub(crate) fn line(&self) -> String {
        self.output.recv_timeout(BOUND).expect("the command prints a line")
    }

    /// Returns the rest of the command's output. The sidecar has ended.
    pub(crate) fn rest(&self) -> Vec<String> {
        self.output.iter().collect()
    }

    /// Returns the next message of the sidecar, or of the command, that has this text.
    pub(crate) fn message(&self, text: &str) -> String {
        loop {
            let message = self.messages.recv_timeout(BOUND);
            let message = message.unwrap_or_else(|_| panic!("no message with {text:?}"));
            if message.contains(text) {
                return message;
            }
        }
    }

    /// Returns the address in the next message that has this text.
    pub(crate) fn address(&self, text: &str) -> SocketAddr {
        let message = self.message(text);
        message.rsplit(' ').next().unwrap().parse().unwrap()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end of the sidecar.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let mut ended = None;
        eventually("the sidecar ends", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }

    /// Waits for the exit code of the sidecar.
    pub(crate) fn code(&mut self) -> i32 {
        self.end().code().expect("an exit, not a signal")
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // A sidecar that has ended is not there to be signalled. One that has not stops its group.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// Waits until `condition` holds, for a bounded time.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    // A receiver without a sender would return immediately.
    let (_sender, pause) = channel::<()>();
    for _ in 0..BOUND.as_millis() / PAUSE.as_millis() {
        if condition() {
            return;
        }
        // The sender lives, so this is the end of the time.
        let _ = pause.recv_timeout(PAUSE);
    }
    panic!("never: {what}");
}

/// Whether there is a process with this id, alive or a zombie.
pub(crate) fn exists(id: &str) -> bool {
    test_kill_process(Pid::from_raw(id.parse().unwrap()).unwrap()).is_ok()
}

/// Sends SIGKILL to the process with this id.
pub(crate) fn kill(id: &str) {
    kill_process(Pid::from_raw(id.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
}

/// An answer to a request.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub status: String,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (given, value) = line.split_once(": ")?;
            given.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Sends a request on a separate connection. `None` if the connection fails.
pub(crate) fn try_send(at: SocketAddr, method: &str, path: &str) -> Option<Answer> {
    try_send_with(at, method, path, "")
}

/// Sends a request with fields on a separate connection. `None` if the connection fails.
pub(crate) fn try_send_with(
    at: SocketAddr,
    method: &str,
    path: &str,
    fields: &str,
) -> Option<Answer> {
    let mut connection = TcpStream::connect(at).ok()?;
    connection.set_read_timeout(Some(BOUND)).unwrap();
    write!(connection, "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n")
        .ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.to_owned();
    Some(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

pub(crate) fn get(at: SocketAddr, path: &str) -> Answer {
    try_send(at, "GET", path).unwrap_or_else(|| panic!("no answer to {path}"))
}

/// Lets the fragile service end. A POST is sent once: the next child must not get it.
pub(crate) fn crash(front: SocketAddr) {
    let answer = try_send(front, "POST", "/exit/3").unwrap();
    assert_eq!(answer.status, "502", "{answer:?}");
}

/// Returns an address on which nothing listens.
pub(crate) fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
