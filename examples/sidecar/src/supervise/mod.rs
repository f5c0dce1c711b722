//! Starts the child, restarts it, and stops it. The decisions are in `state.rs`, the system calls in `group.rs`.

mod group;
mod state;

use std::future::{Future, pending};
use std::io;
use std::pin::pin;
use std::process::Command;
use std::time::{Duration, Instant};

use buttress::Clock;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::standing::Standing;
pub(crate) use group::Stop;
use group::{Group, adopt_orphans};
pub(crate) use state::{Restart, Rules};
use state::{State, Step};

/// How often a group is looked at whose child has ended. Only processes that this one can reap announce their end.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long the sidecar waits for processes that had SIGKILL: the system can hold one that waits for a disk.
const LONGEST_LEAVE: Duration = Duration::from_secs(5);

/// The signals that the sidecar heeds. They are caught from the moment that this value exists.
pub(crate) struct Signals {
    child: Signal,
    stops: [(Stop, Signal); 4],
}

impl Signals {
    pub(crate) fn catch() -> io::Result<Self> {
        let stop = |stop, kind| Ok::<_, io::Error>((stop, signal(kind)?));
        Ok(Self {
            child: signal(SignalKind::child())?,
            stops: [
                stop(Stop::Terminate, SignalKind::terminate())?,
                stop(Stop::Interrupt, SignalKind::interrupt())?,
                stop(Stop::Hangup, SignalKind::hangup())?,
                stop(Stop::Quit, SignalKind::quit())?,
            ],
        })
    }

    /// Waits for a signal to stop, for the end of a child (`None`), or for `due`.
    async fn next(&mut self, due: impl Future<Output = ()>) -> Option<Stop> {
        let [terminate, interrupt, hangup, quit] = &mut self.stops;
        tokio::select! {
            _ = self.child.recv() => None,
            _ = terminate.1.recv() => Some(terminate.0),
            _ = interrupt.1.recv() => Some(interrupt.0),
            _ = hangup.1.recv() => Some(hangup.0),
            _ = quit.1.recv() => Some(quit.0),
            () = due => None,
        }
    }
}

/// Runs the command by the rules until the sidecar has to end. Returns its exit code.
///
/// When it returns, no process of the child's group is left. SIGKILL to the sidecar leaves the group: no program can
/// catch it.
pub(crate) async fn supervise(
    mut command: Command,
    rules: Rules,
    mut signals: Signals,
    standing: &Standing,
) -> u8 {
    adopt_orphans();
    let clock = Clock::default();
    let mut state = State::new(rules, clock.now());
    let mut group: Option<Group> = None;
    let mut killed_at: Option<Instant> = None;
    loop {
        let now = clock.now();
        match state.next(now) {
            Step::Start => {
                killed_at = None;
                match Group::start(&mut command) {
                    Ok(started) => {
                        group = Some(started);
                        state.started(now);
                        standing.started();
                    }
                    Err((why, error)) => {
                        let program = command.get_program().to_string_lossy();
                        eprintln!("sidecar: cannot start `{program}`: {error}");
                        state.not_started(now, why);
                    }
                }
                continue;
            }
            Step::Kill => {
                killed_at = Some(now);
                if let Some(group) = &group {
                    group.kill();
                }
            }
            Step::Exit(code) => {
                standing.stopping();
                return code;
            }
            Step::Wait => {}
        }
        if let Some(present) = &mut group {
            if state.is_leaving() {
                let is_stuck = killed_at.is_some_and(|at| now.duration_since(at) >= LONGEST_LEAVE);
                if is_stuck {
                    eprintln!("sidecar: a process of the group does not end on SIGKILL");
                }
                if present.is_empty() || is_stuck {
                    group = None;
                    state.emptied();
                    if let Some(at) = state.starts_at() {
                        standing.down(at);
                    }
                    continue;
                }
            } else if let Some(end) = present.ended().or_else(|| present.reap_orphans()) {
                eprintln!("sidecar: the command ended: {end}");
                standing.ended(now, end.is_failure());
                state.ended(now, end);
                continue;
            }
        }
        let due = if state.is_leaving() { Some(now + LOOK_EVERY) } else { state.due() };
        let due = async {
            match due {
                Some(due) => clock.sleep_until(due).await,
                None => pending().await,
            }
        };
        if let Some(stop) = signals.next(pin!(due)).await {
            // Before the signal: a child that stops gets no new request.
            standing.stopping();
            let has_group = state.stop(clock.now());
            if let Some(group) = group.as_ref().filter(|_| has_group) {
                group.stop(stop);
            }
        }
    }
}
