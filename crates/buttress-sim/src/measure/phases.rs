//! [`Phase`]: the states that a system goes through, found from offered load and answers.

mod reasons;
mod served;

#[cfg(test)]
mod tests;

use std::time::Duration;

use reasons::{Verdict, verdicts};

/// The state of a system.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PhaseKind {
    /// The system serves the offered load: at least the share
    /// [`Scenario::healthy`](crate::Scenario::healthy) of it. Short stretches may fall behind by chance; their
    /// sum may not.
    Stable,
    /// The system does not serve the offered load, and the reason is present: a fault, or a load above the capacity of
    /// the system. A load that grows or stays constant counts as overload even without a fault, and even if a queue hid
    /// the overload at first.
    Overloaded,
    /// The system does not serve the offered load yet, although the trigger is over. It works off its backlog
    /// and is stable soon.
    Recovering,
    /// The system stays down although its trigger is over: it keeps itself down (Bronson et al., "Metastable
    /// failures in distributed systems", 2021). Three things are necessary. A trigger brought the system down: a
    /// fault, or a load that is higher than the load now. The trigger is over. The system answered a load like
    /// the load now for at least ten windows before.
    Metastable,
}

impl PhaseKind {
    /// Returns the kind in lower case, for reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Overloaded => "overloaded",
            Self::Recovering => "recovering",
            Self::Metastable => "metastable",
        }
    }
}

/// A stretch of a run in one state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Phase {
    /// The kind of the state.
    pub kind: PhaseKind,
    /// The beginning, since the start of the run.
    pub from: Duration,
    /// The end, since the start of the run.
    pub to: Duration,
}

/// The kind of an event that brings a system down, or tries to.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Trigger {
    /// A fault of the scenario, whether or not it had an effect. A report speaks of these only.
    Fault,
    /// A load above the capacity of the system, without a fault.
    Load,
}

impl Trigger {
    /// Returns the kind in lower case, for reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Load => "load",
        }
    }
}

/// The time that a system needed after a trigger was over.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recovery {
    /// The kind of the trigger. A fault and an overload that follow each other without a pause are one trigger,
    /// and it is the fault.
    pub trigger: Trigger,
    /// The time from the start of the run to the end of the trigger.
    pub trigger_ended: Duration,
    /// The time from the end of the trigger until the system was stable, and remained so. `None` if it was not
    /// stable before the next trigger or the end of the run.
    pub after: Option<Duration>,
}

/// The input for finding phases, one per window.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Sample {
    pub from: Duration,
    pub to: Duration,
    pub offered: u64,
    pub good: u64,
    /// Whether a fault was present at some time of the window.
    pub faulty: bool,
}

/// Finds the phases of a run. `healthy` is the share of the offered load that has to be served. A system that is
/// down without a current reason for `patience` windows or more is metastable.
pub(crate) fn find(samples: &[Sample], healthy: f64, patience: usize) -> Vec<Phase> {
    let verdicts = verdicts(samples, healthy);
    let mut phases: Vec<Phase> = Vec::new();
    let mut rest = verdicts.as_slice();
    let mut times = samples.iter();
    while let Some(first) = rest.first() {
        let length = rest.iter().take_while(|verdict| *verdict == first).count();
        let kind = match first {
            Verdict::Served => PhaseKind::Stable,
            Verdict::Caused => PhaseKind::Overloaded,
            Verdict::Uncaused if length >= patience => PhaseKind::Metastable,
            Verdict::Uncaused => PhaseKind::Recovering,
        };
        let stretch: Vec<&Sample> = times.by_ref().take(length).collect();
        if let (Some(first), Some(last)) = (stretch.first(), stretch.last()) {
            match phases.last_mut() {
                Some(before) if before.kind == kind => before.to = last.to,
                _ => phases.push(Phase { kind, from: first.from, to: last.to }),
            }
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    phases
}

/// Finds how the system recovered from each trigger: each stretch of windows with a fault, or with a load that it
/// does not carry.
pub(crate) fn recovery(samples: &[Sample], healthy: f64) -> Vec<Recovery> {
    let verdicts = verdicts(samples, healthy);
    let triggers = |index: usize| {
        let faulty = samples.get(index).is_some_and(|sample| sample.faulty);
        faulty || verdicts.get(index) == Some(&Verdict::Caused)
    };
    let mut found = Vec::new();
    for index in 1..samples.len() {
        if !triggers(index - 1) || triggers(index) {
            continue;
        }
        let Some(trigger_ended) = samples.get(index).map(|sample| sample.from) else { break };
        let until = (index..samples.len()).find(|index| triggers(*index)).unwrap_or(samples.len());
        // From the last unserved window on, if another window follows it.
        let down =
            (index..until).rev().find(|index| verdicts.get(*index) != Some(&Verdict::Served));
        let fine_from = down.map_or(index, |down| down + 1);
        let after = (fine_from < until)
            .then(|| samples.get(fine_from).map(|sample| sample.from - trigger_ended))
            .flatten();
        let since = (0..index).rev().find(|index| !triggers(*index)).map_or(0, |before| before + 1);
        let during = samples.get(since..index).unwrap_or_default();
        let trigger = match during.iter().any(|sample| sample.faulty) {
            true => Trigger::Fault,
            false => Trigger::Load,
        };
        found.push(Recovery { trigger, trigger_ended, after });
    }
    found
}
