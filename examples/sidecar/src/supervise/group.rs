//! [`Group`]: the process group of the child.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, test_kill_process_group,
    wait, waitid,
};

use super::state::{End, Unstarted};

/// A signal to stop, as the sidecar gets it and passes it on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    Hangup,
    Interrupt,
    Quit,
    Terminate,
}

impl Stop {
    fn signal(self) -> Signal {
        match self {
            Self::Hangup => Signal::HUP,
            Self::Interrupt => Signal::INT,
            Self::Quit => Signal::QUIT,
            Self::Terminate => Signal::TERM,
        }
    }
}

/// The process group of a child. Dropping it sends SIGKILL to the group.
#[derive(Debug)]
pub(super) struct Group {
    /// The id of the child is the id of the group. It stays taken while the child is not reaped.
    leader: Pid,
    _child: Child,
    is_reaped: bool,
}

/// Makes this process the parent of processes whose own parent has ended, so that it can reap them. Other systems than
/// Linux leave them to the first process.
pub(super) fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
        eprintln!("sidecar: orphans are left to the first process: {error}");
    }
}

impl Group {
    /// Starts the child in a separate process group. Its output is the output of the sidecar. It has no input: a read
    /// from the terminal would stop a group in the background.
    pub(super) fn start(command: &mut Command) -> Result<Self, (Unstarted, io::Error)> {
        match command.stdin(Stdio::null()).process_group(0).spawn() {
            Ok(child) => {
                Ok(Self { leader: Pid::from_child(&child), _child: child, is_reaped: false })
            }
            Err(error) => Err((unstarted(&error), error)),
        }
    }

    /// Returns how the child has ended, and `None` while it runs. The child is not reaped.
    pub(super) fn ended(&mut self) -> Option<End> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(self.leader), options).ok().flatten()?;
        Some(end_of(status.exit_status(), status.terminating_signal()))
    }

    /// Reaps processes that ended and that this process was left with. Returns the end of the child if it ended meanwhile.
    pub(super) fn reap_orphans(&mut self) -> Option<End> {
        while let Ok(Some((id, status))) = wait(WaitOptions::NOHANG) {
            if id == self.leader {
                self.is_reaped = true;
                return Some(end_of(status.exit_status(), status.terminating_signal()));
            }
        }
        None
    }

    /// Reaps the child, which has ended, and all orphans. Returns whether no process of the group is left.
    pub(super) fn is_empty(&mut self) -> bool {
        // This reaps the child too.
        while self.reap_orphans().is_some() {}
        self.is_reaped && test_kill_process_group(self.leader) == Err(Errno::SRCH)
    }

    /// Sends a signal to stop to the group.
    pub(super) fn stop(&self, stop: Stop) {
        self.send(stop.signal());
    }

    /// Sends SIGKILL to the group.
    pub(super) fn kill(&self) {
        self.send(Signal::KILL);
    }

    fn send(&self, signal: Signal) {
        match kill_process_group(self.leader, signal) {
            // Nothing is left of the group.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => eprintln!("sidecar: cannot send {signal:?} to the group: {error}"),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The supervision drops an empty group. A panic drops one that is not.
        if !self.is_reaped || test_kill_process_group(self.leader).is_ok() {
            self.kill();
        }
    }
}

fn unstarted(error: &io::Error) -> Unstarted {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT | Errno::NOTDIR) => Unstarted::NotFound,
        Some(Errno::AGAIN | Errno::NOMEM | Errno::MFILE | Errno::NFILE) => Unstarted::NoRoom,
        // Another program writes the file, and ends with that.
        Some(Errno::TXTBSY) => Unstarted::NoRoom,
        _ => Unstarted::NotExecutable,
    }
}

fn end_of(code: Option<i32>, signal: Option<i32>) -> End {
    match code {
        Some(code) => End::Code(low_byte(code)),
        None => End::Signal(low_byte(signal.unwrap_or_default())),
    }
}

/// Codes and signals have 8 bits.
fn low_byte(number: i32) -> u8 {
    u8::try_from(number & 0xff).unwrap_or(u8::MAX)
}
