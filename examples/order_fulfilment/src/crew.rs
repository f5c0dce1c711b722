//! Workers as processes: this program again, with the argument `worker`.

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

/// What a worker needs to know: a line on its standard input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub(crate) place: Place,
    pub(crate) services: Addresses,
}

/// A worker, seen from the outside.
pub(crate) struct Worker {
    process: Child,
    input: ChildStdin,
    /// Where it takes orders.
    pub(crate) address: SocketAddr,
}

impl Worker {
    /// Starts one, and waits until it takes orders.
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
        let address = said.trim().parse().map_err(|_| "the worker did not get ready")?;
        Ok(Self { process, input, address })
    }

    /// SIGKILL: nothing in the process can notice, let alone put anything in order.
    pub(crate) async fn kill(mut self) -> Result<(), BoxError> {
        Ok(self.process.kill().await?)
    }

    /// Lets it end what is under way.
    pub(crate) async fn dismiss(mut self) -> Result<ExitStatus, BoxError> {
        drop(self.input);
        Ok(self.process.wait().await?)
    }
}

/// On the worker's side: what it is to do.
pub(crate) async fn assignment() -> Result<Assignment, BoxError> {
    let mut line = Vec::new();
    let mut input = tokio::io::stdin();
    // A byte at a time: what comes after the line is for `end_of_input`.
    while let Ok(byte) = input.read_u8().await {
        if byte == b'\n' {
            break;
        }
        line.push(byte);
    }
    Ok(serde_json::from_slice(&line)?)
}

/// On the worker's side: completes when it is dismissed, or whoever hired it is gone.
pub(crate) async fn end_of_input() {
    let mut input = tokio::io::stdin();
    while input.read_u8().await.is_ok() {}
}
