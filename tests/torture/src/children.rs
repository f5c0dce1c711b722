//! The child processes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use buttress::{Clock, Rng};

use crate::duty::{Duty, RELAY};

/// The children. They are killed when this is dropped.
pub(crate) struct Children {
    all: Vec<Member>,
    folder: PathBuf,
    address: String,
    /// How long a consumer lives at least.
    life: Duration,
    clock: Clock,
}

struct Member {
    role: &'static str,
    since: Instant,
    process: Child,
}

impl Children {
    pub(crate) fn new(folder: &Path, address: &str, life: Duration) -> Self {
        let (folder, address) = (folder.to_owned(), address.to_owned());
        Self { all: Vec::new(), folder, address, life, clock: Clock::default() }
    }

    pub(crate) fn start(&mut self, role: &'static str) -> std::io::Result<()> {
        let mut command = Command::new(std::env::current_exe()?);
        Duty::hand_over(&mut command, role, &self.folder, &self.address);
        self.all.push(Member { role, since: self.clock.now(), process: command.spawn()? });
        Ok(())
    }

    /// Kills a child with SIGKILL, and starts another one with its role.
    pub(crate) fn replace_one(&mut self, rng: &Rng) -> std::io::Result<()> {
        let now = self.clock.now();
        let may_die = |it: &Member| it.role == RELAY || now - it.since >= self.life;
        let old: Vec<usize> =
            self.all.iter().enumerate().filter(|(_, it)| may_die(it)).map(|(at, _)| at).collect();
        let chosen = rng.between(0, (old.len() as u64).saturating_sub(1)) as usize;
        let Some(at) = old.get(chosen) else { return Ok(()) };
        let mut killed = self.all.swap_remove(*at);
        killed.process.kill()?;
        killed.process.wait()?;
        self.start(killed.role)
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for Member { process: child, .. } in &mut self.all {
            let _ended = child.kill();
            let _ended = child.wait();
        }
    }
}
