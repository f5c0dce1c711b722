//! Workers as processes: this program started with the argument `worker`.

use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tower::BoxError;

use crate::database::Place;
use crate::services::Addresses;

/// The argument that makes this program a worker.
pub(crate) const WORKER: &str = "worker";

/// The input of a worker: one line on its standard input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub place: Place,
    pub services: Addresses,
}

/// A handle on a worker process.
pub(crate) struct Worker {
    process: Child,
    input: ChildStdin,
    /// The address at which it accepts orders.
    pub address: SocketAddr,
}

impl Worker {
    /// Starts a worker, and waits until it accepts orders.
    pub(crate) async fn hire(assignment: &Assignment) -> Result<Self, BoxError> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(WORKER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut input = process.stdin.take().ok_or("no standard input")?;
        let mut line = serde_json::to_vec(assignment)?;
        line.push(b'\n');
        input.write_all(&line).await?;
        let output = process.stdout.take().ok_or("no standard output")?;
        let mut said = String::new();
        BufReader::new(output).read_line(&mut said).await?;
        let address = said.trim().parse().map_err(|_| "the worker printed no address")?;
        Ok(Self { process, input, address })
    }

    /// Sends SIGKILL. The process cannot react to it.
    pub(crate) async fn kill(mut self) -> Result<(), BoxError> {
        Ok(self.process.kill().await?)
    }

    /// Lets the worker finish its current work, and waits for its exit.
    pub(crate) async fn dismiss(mut self) -> Result<ExitStatus, BoxError> {
        drop(self.input);
        Ok(self.process.wait().await?)
    }
}

/// Reads the assignment, in the worker process.
pub(crate) async fn assignment() -> Result<Assignment, BoxError> {
    let mut line = Vec::new();
    let mut input = tokio::io::stdin();
    // One byte at a time: the bytes after the line are for `end_of_input`.
    while let Ok(byte) = input.read_u8().await {
        if byte == b'\n' {
            break;
        }
        line.push(byte);
    }
    Ok(serde_json::from_slice(&line)?)
}

/// Waits, in the worker process, until it is dismissed or its parent process has exited.
pub(crate) async fn end_of_input() {
    let mut input = tokio::io::stdin();
    while input.read_u8().await.is_ok() {}
}
