//! Workers as processes: this program, started with the argument `worker`.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::process::{Child, ChildStdin, Command};
use tower::BoxError;

use crate::broker::{Broker, Role};

/// The argument that makes this program a worker.
pub(crate) const WORKER: &str = "worker";

/// The task of a worker.
#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    pub file: PathBuf,
    pub broker: Broker,
    pub role: Role,
    /// Whether billing can handle every order.
    pub is_mended: bool,
}

/// A worker process.
pub(crate) struct Worker {
    process: Child,
    input: ChildStdin,
}

impl Worker {
    pub(crate) fn hire(
        file: &Path,
        broker: &Broker,
        at: usize,
        is_mended: bool,
    ) -> Result<Self, BoxError> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(WORKER)
            .arg(file)
            .args([broker.to_string(), at.to_string(), is_mended.to_string()])
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let input = process.stdin.take().ok_or("no standard input")?;
        Ok(Self { process, input })
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

/// Reads the arguments of a worker.
pub(crate) fn assignment(arguments: &[&str]) -> Result<Assignment, BoxError> {
    let [file, broker, at, is_mended] = arguments else {
        return Err("a worker has four arguments".into());
    };
    let broker: Broker = broker.parse()?;
    let at: usize = at.parse()?;
    let role = *broker.roles().get(at).ok_or("no such role")?;
    Ok(Assignment { file: file.into(), broker, role, is_mended: is_mended.parse()? })
}
