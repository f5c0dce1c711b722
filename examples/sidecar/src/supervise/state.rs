//! The decisions of the supervision: when the child starts, when it is killed, and when the sidecar ends.
//!
//! Nothing here reads time or touches a process. The shell in `mod.rs` reports what happened, and does what
//! [`State::next`] says.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

/// The exit code of a command that does not exist, as shells have it.
const NOT_FOUND: u8 = 127;
/// The exit code of a command that exists and cannot be started.
const NOT_EXECUTABLE: u8 = 126;

/// When the child is started again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Restart {
    Never,
    OnFailure,
    Always,
}

/// The rules of the supervision.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub restart: Restart,
    /// The wait before the first restart. Each further restart waits twice as long.
    pub first_wait: Duration,
    pub longest_wait: Duration,
    /// The failures within [`window`](Self::window) that end the sidecar.
    pub failures: usize,
    /// A child that ran for this time has recovered: the next restart waits for the first wait again.
    pub window: Duration,
    /// From the first signal to stop until SIGKILL.
    pub stop_limit: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            restart: Restart::OnFailure,
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_secs(10),
            failures: 6,
            window: Duration::from_secs(60),
            stop_limit: Duration::from_secs(30),
        }
    }
}

/// How the child ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Code(u8),
    Signal(u8),
    /// It could not be started, for want of memory or processes.
    NotStarted,
}

impl End {
    /// Returns the exit code that reports this end, as shells have it.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => signal.saturating_add(128),
            Self::NotStarted => NOT_EXECUTABLE,
        }
    }

    pub(crate) fn is_failure(self) -> bool {
        self != Self::Code(0)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::NotStarted => f.write_str("not started"),
        }
    }
}

/// Why a start failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unstarted {
    NotFound,
    NotExecutable,
    /// The system had no memory, or no room for a process.
    NoRoom,
}

/// What the shell does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Start the child.
    Start,
    /// Send SIGKILL to its group.
    Kill,
    /// Wait until [`State::due`], or until something happens.
    Wait,
    /// End with this code.
    Exit(u8),
}

/// Where the child is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// There is no child until this time.
    Waiting {
        until: Instant,
    },
    Running {
        since: Instant,
    },
    /// The child has ended; other processes of its group may not.
    Leaving {
        end: End,
        since: Instant,
        at: Instant,
    },
    Over {
        code: u8,
    },
}

/// The state of the supervision.
#[derive(Debug)]
pub(crate) struct State {
    rules: Rules,
    phase: Phase,
    /// The times of the last failures, the oldest first.
    failures: VecDeque<Instant>,
    /// The ends since the child last ran for the whole window.
    ends: u32,
    last: Option<End>,
    /// The time of SIGKILL, once a signal to stop has come.
    kill_at: Option<Instant>,
    /// Whether the group of the current child had its SIGKILL.
    killed: bool,
}

impl State {
    /// The child starts at `now`.
    pub(crate) fn new(rules: Rules, now: Instant) -> Self {
        Self {
            rules,
            phase: Phase::Waiting { until: now },
            failures: VecDeque::new(),
            ends: 0,
            last: None,
            kill_at: None,
            killed: false,
        }
    }

    /// Returns the step that is due at `now`.
    pub(crate) fn next(&mut self, now: Instant) -> Step {
        match self.phase {
            Phase::Waiting { until } if now >= until => Step::Start,
            Phase::Over { code } => Step::Exit(code),
            _ if self.kill_time().is_some_and(|at| now >= at) => {
                self.killed = true;
                Step::Kill
            }
            _ => Step::Wait,
        }
    }

    /// Returns when [`next`](Self::next) has something to do, if nothing happens before.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { until } => Some(until),
            _ => self.kill_time(),
        }
    }

    /// The time of a SIGKILL that is still to come.
    fn kill_time(&self) -> Option<Instant> {
        match self.phase {
            _ if self.killed => None,
            Phase::Running { .. } => self.kill_at,
            // No process asks the processes that the child has left behind to end, unless a stop is under way.
            Phase::Leaving { at, .. } => Some(self.kill_at.unwrap_or(at)),
            Phase::Waiting { .. } | Phase::Over { .. } => None,
        }
    }

    /// Returns the time of the next start, if there is no child.
    pub(crate) fn starts_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { until } => Some(until),
            _ => None,
        }
    }

    /// Whether the child has ended and its group has to be seen empty.
    pub(crate) fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Leaving { .. })
    }

    /// Whether a signal to stop has come.
    pub(crate) fn is_stopping(&self) -> bool {
        self.kill_at.is_some()
    }

    /// The child was started.
    pub(crate) fn started(&mut self, now: Instant) {
        self.phase = Phase::Running { since: now };
        self.killed = false;
    }

    /// The child could not be started.
    pub(crate) fn not_started(&mut self, now: Instant, why: Unstarted) {
        match why {
            Unstarted::NotFound => self.phase = Phase::Over { code: NOT_FOUND },
            Unstarted::NotExecutable => self.phase = Phase::Over { code: NOT_EXECUTABLE },
            Unstarted::NoRoom => self.decide(End::NotStarted, now, now),
        }
    }

    /// The child ended.
    pub(crate) fn ended(&mut self, now: Instant, end: End) {
        if let Phase::Running { since } = self.phase {
            self.phase = Phase::Leaving { end, since, at: now };
        }
    }

    /// No process of the child's group is left.
    pub(crate) fn emptied(&mut self) {
        if let Phase::Leaving { end, since, at } = self.phase {
            self.decide(end, since, at);
        }
    }

    /// A signal to stop came. Returns whether the group gets it. Only the first signal sets the time of SIGKILL.
    pub(crate) fn stop(&mut self, now: Instant) -> bool {
        self.kill_at.get_or_insert(now + self.rules.stop_limit);
        match self.phase {
            Phase::Running { .. } | Phase::Leaving { .. } => true,
            Phase::Waiting { .. } => {
                self.phase = Phase::Over { code: self.last.map_or(0, End::code) };
                false
            }
            Phase::Over { .. } => false,
        }
    }

    /// Decides what follows on the end of a child that ran from `since` to `at`.
    fn decide(&mut self, end: End, since: Instant, at: Instant) {
        self.last = Some(end);
        let Rules { restart, first_wait, longest_wait, failures, window, .. } = self.rules;
        let restarts = match restart {
            Restart::Never => false,
            Restart::OnFailure => end.is_failure(),
            Restart::Always => true,
        };
        if end.is_failure() {
            while self.failures.front().is_some_and(|first| at.duration_since(*first) >= window) {
                self.failures.pop_front();
            }
            self.failures.push_back(at);
        }
        let is_hopeless = end.is_failure() && self.failures.len() >= failures;
        if self.is_stopping() || !restarts || is_hopeless {
            self.phase = Phase::Over { code: end.code() };
            return;
        }
        let has_recovered = at.duration_since(since) >= window;
        self.ends = if has_recovered { 1 } else { self.ends.saturating_add(1) };
        let factor = 1_u32.checked_shl(self.ends - 1).unwrap_or(u32::MAX);
        let wait = first_wait.saturating_mul(factor).min(longest_wait);
        self.phase = Phase::Waiting { until: at + wait };
    }
}
