//! The decisions: when a check runs, what its result means and how long, and what the groups answer.

use std::time::{Duration, Instant};

use super::finding::{Finding, Group, Importance, Status};
use super::report::CheckReport;
use crate::vocabulary::clock::after;
use crate::vocabulary::name::Name;

/// How many intervals a result stays valid.
const VALID_INTERVALS: u32 = 3;

pub(super) const TIMEOUT: &str = "timeout";

/// The times that all checks share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub interval: Duration,
    pub limit: Duration,
}

/// The checks of a service, and the last result of each.
#[derive(Debug)]
pub(super) struct State {
    times: Times,
    checks: Vec<Entry>,
    /// Every startup check has passed once.
    started: bool,
    draining: bool,
}

/// The name of a check, and the groups that it counts for.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub name: Name,
    pub importance: Importance,
    pub groups: Vec<Group>,
}

#[derive(Debug)]
struct Entry {
    identity: Identity,
    /// When the next run may begin. `None` for immediately.
    due: Option<Instant>,
    /// When the run that has not ended began.
    begun: Option<Instant>,
    last: Option<Known>,
    /// A run passed once.
    passed: bool,
}

/// The last result.
#[derive(Debug)]
struct Known {
    finding: Finding,
    at: Instant,
    took: Duration,
}

/// The answer to a task that wants to run a check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Begin {
    /// The check runs now.
    Now,
    /// The task asks again at this instant.
    Later(Instant),
}

/// A change of the status of a check, for the log.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Change {
    pub check: Name,
    pub status: Status,
    pub text: Option<String>,
}

impl State {
    pub(super) const fn new(times: Times) -> Self {
        Self { times, checks: Vec::new(), started: false, draining: false }
    }

    /// Adds a check, and returns its index. Returns `None` if another check has its name.
    pub(super) fn add(&mut self, identity: Identity) -> Option<usize> {
        if self.checks.iter().any(|check| check.identity.name == identity.name) {
            return None;
        }
        let index = self.checks.len();
        self.checks.push(Entry { identity, due: None, begun: None, last: None, passed: false });
        Some(index)
    }

    /// Begins a run if the check is due and no run of it is in flight. The caller ends the run by
    /// [`end`](Self::end) or [`abandon`](Self::abandon).
    pub(super) fn begin(&mut self, index: usize, now: Instant) -> Begin {
        let next = after(now, self.times.interval);
        let Some(check) = self.checks.get_mut(index) else {
            debug_assert!(false, "a run of a check that does not exist");
            return Begin::Later(next);
        };
        if check.begun.is_some() {
            return Begin::Later(next);
        }
        match check.due {
            // An instant that lies further ahead comes from another runtime, whose clock was ahead.
            Some(due) if due > now && due <= next => Begin::Later(due),
            _ => {
                (check.begun, check.due) = (Some(now), Some(next));
                Begin::Now
            }
        }
    }

    /// Ends a run with its finding, or with `None` for a run that was cancelled at its limit. A
    /// finding that comes after the limit is a timeout as well.
    pub(super) fn end(
        &mut self,
        index: usize,
        finding: Option<Finding>,
        now: Instant,
    ) -> Option<Change> {
        let check = self.checks.get_mut(index)?;
        let Some(begun) = check.begun.take() else {
            debug_assert!(false, "a run ended twice");
            return None;
        };
        let took = now.saturating_duration_since(begun);
        let finding = finding.filter(|_| took <= self.times.limit);
        let finding = finding.unwrap_or_else(|| Finding::down(TIMEOUT));
        let status = finding.status();
        let before = check.last.as_ref().map_or(Status::Up, |known| known.finding.status());
        let change = (before != status).then(|| Change {
            check: check.identity.name,
            status,
            text: finding.text().map(str::to_owned),
        });
        check.passed |= status.is_passing();
        check.last = Some(Known { finding, at: now, took });
        self.latch_started_after(index);
        change
    }

    /// Ends a run without a result. The check is due immediately.
    pub(super) fn abandon(&mut self, index: usize) {
        if let Some(check) = self.checks.get_mut(index) {
            (check.begun, check.due) = (None, None);
        }
    }

    pub(super) const fn drain(&mut self) {
        self.draining = true;
    }

    pub(super) const fn is_draining(&self) -> bool {
        self.draining
    }

    /// Returns the status of the whole service.
    pub(super) fn status(&self, now: Instant) -> Status {
        let mut status = Status::Up;
        for check in &self.checks {
            match (check.identity.importance, check.now(now, self.times).0) {
                (Importance::Critical, Status::Down) => return Status::Down,
                (Importance::Critical | Importance::High, Status::Up) => {}
                (Importance::Critical | Importance::High, _) => status = Status::Degraded,
                (Importance::Medium | Importance::Low, _) => {}
            }
        }
        status
    }

    /// Returns the answer of a group.
    pub(super) fn group(&mut self, group: Group, now: Instant) -> Status {
        match group {
            Group::Live => self.live(now),
            Group::Ready => self.ready(now),
            Group::Startup => self.startup(),
        }
    }

    /// Returns DOWN if a check of the group is DOWN. UNKNOWN is not a reason to restart a process.
    fn live(&self, now: Instant) -> Status {
        let mut found = self.of(Group::Live).map(|check| check.now(now, self.times).0);
        if found.any(|status| status == Status::Down) { Status::Down } else { Status::Up }
    }

    fn ready(&self, now: Instant) -> Status {
        if self.draining {
            return Status::Down;
        }
        let mut ready = Status::Up;
        let critical =
            self.of(Group::Ready).filter(|it| it.identity.importance == Importance::Critical);
        for check in critical {
            match check.now(now, self.times).0 {
                Status::Down => return Status::Down,
                Status::Unknown => ready = Status::Unknown,
                Status::Up | Status::Degraded => {}
            }
        }
        ready
    }

    /// Returns UP once every check of the group has passed once, and forever after that.
    fn startup(&mut self) -> Status {
        self.started = self.started || self.of(Group::Startup).all(|check| check.passed);
        if self.started { Status::Up } else { Status::Down }
    }

    /// Latches the start when the last startup check has passed, so that a check that is added
    /// before the next probe changes nothing.
    fn latch_started_after(&mut self, index: usize) {
        let is_startup = |check: &Entry| check.identity.groups.contains(&Group::Startup);
        if self.checks.get(index).is_some_and(is_startup) {
            self.startup();
        }
    }

    fn of(&self, group: Group) -> impl Iterator<Item = &Entry> {
        self.checks.iter().filter(move |check| check.identity.groups.contains(&group))
    }

    pub(super) fn checks(&self, now: Instant) -> Vec<CheckReport> {
        self.checks.iter().map(|check| check.report(now, self.times)).collect()
    }
}

impl Entry {
    /// Returns the status now, and the text that explains it.
    fn now(&self, now: Instant, times: Times) -> (Status, Text<'_>) {
        // A run that blocks its thread cannot be cancelled, and does not report its timeout itself.
        if self.begun.is_some_and(|begun| now.saturating_duration_since(begun) > times.limit) {
            return (Status::Down, Text::Kept(TIMEOUT));
        }
        let Some(known) = &self.last else {
            return (Status::Unknown, Text::Kept("not checked yet"));
        };
        let age = now.saturating_duration_since(known.at);
        if age > times.interval.saturating_mul(VALID_INTERVALS) {
            return (Status::Unknown, Text::Old(age));
        }
        (known.finding.status(), known.finding.text().map_or(Text::None, Text::Kept))
    }

    fn report(&self, now: Instant, times: Times) -> CheckReport {
        let (status, text) = self.now(now, times);
        let Identity { name, importance, groups } = self.identity.clone();
        let known = self.last.as_ref();
        CheckReport {
            name,
            importance,
            groups,
            status,
            text: text.into_text(),
            age: known.map(|known| now.saturating_duration_since(known.at)),
            took: known.map(|known| known.took),
        }
    }
}

/// The text of a status. Made only for reports, because probes read none.
enum Text<'a> {
    None,
    Kept(&'a str),
    Old(Duration),
}

impl Text<'_> {
    fn into_text(self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Kept(text) => Some(text.to_owned()),
            Self::Old(age) => Some(format!("the last result is {} s old", age.as_secs())),
        }
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests;
