//! [`StepHistory`]: when a step ran, how many times it was attempted, and its last error.

use std::time::Duration;

use super::model::entry::{Entry, EntryKind};

/// The history of one step, according to the log of its saga.
///
/// The log keeps at most one further entry for each execution of a step, with a text of at most 2000
/// characters, and only if the execution needed more than one attempt.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct StepHistory {
    /// When the action or the wait was started for the first time, as wall time since 1970. `None` if it was
    /// not started, or if a release that kept no times has started it.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::optional"))]
    pub started: Option<Duration>,
    /// When the action, the undo or the wait of the step ended last, as wall time since 1970. `None` while
    /// one of them is in progress, or if the time is not known.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::optional"))]
    pub ended: Option<Duration>,
    /// The attempts of the action. A start that a crash cut short counts as one attempt.
    pub attempts: u32,
    /// The attempts of the undo. A start that a crash cut short counts as one attempt.
    pub undo_attempts: u32,
    /// The error of the last attempt that was not successful, of action or undo.
    pub error: Option<String>,
}

/// The histories of all steps of a saga.
#[derive(Clone, Debug)]
pub(super) struct Histories {
    steps: Vec<StepHistory>,
}

impl Histories {
    pub(super) fn new(steps: usize) -> Self {
        Self { steps: vec![StepHistory::default(); steps] }
    }

    /// Returns the histories after `entries`, which were recorded at `times`.
    pub(super) fn of<P>(steps: usize, entries: &[Entry<P>], times: &[Option<Duration>]) -> Self {
        let mut histories = Self::new(steps);
        let times = times.iter().copied().chain(std::iter::repeat(None));
        entries.iter().zip(times).for_each(|(entry, at)| histories.add(entry, at));
        histories
    }

    /// Takes in an entry that was recorded at `at`.
    pub(super) fn add<P>(&mut self, entry: &Entry<P>, at: Option<Duration>) {
        let Some(step) = self.steps.get_mut(usize::from(entry.step())) else { return };
        match entry.kind() {
            EntryKind::ActionStarted => {
                if step.attempts == 0 {
                    step.started = at;
                }
                step.attempts = step.attempts.saturating_add(1);
                step.ended = None;
            }
            EntryKind::UndoStarted => {
                step.undo_attempts = step.undo_attempts.saturating_add(1);
                step.ended = None;
            }
            EntryKind::Attempted => {
                let Some((attempts, error)) = entry.note().and_then(parse) else { return };
                // The start of the execution is the first of its attempts.
                let more = attempts.saturating_sub(1);
                let count = match step.undo_attempts {
                    0 => &mut step.attempts,
                    _ => &mut step.undo_attempts,
                };
                *count = count.saturating_add(more);
                step.error = Some(error.to_owned());
            }
            EntryKind::WaitStarted => step.started = step.started.or(at),
            EntryKind::ActionDone
            | EntryKind::WaitEnded
            | EntryKind::Signalled
            | EntryKind::UndoDone
            | EntryKind::Skipped
            | EntryKind::Happened => {
                step.ended = at;
            }
            EntryKind::ActionFailed | EntryKind::ActionInDoubt | EntryKind::UndoFailed => {
                step.ended = at;
                if let Some(why) = entry.note() {
                    step.error = Some(why.to_owned());
                }
            }
            _ => {}
        }
    }

    /// Returns when the action of a step was started for the first time.
    pub(super) fn started(&self, step: u16) -> Option<Duration> {
        self.steps.get(usize::from(step))?.started
    }

    pub(super) fn into_steps(self) -> Vec<StepHistory> {
        self.steps
    }
}

/// Returns the text of an entry about `attempts`, of which the last but one failed with `error`.
pub(super) fn attempted(attempts: u32, error: &str) -> String {
    format!("{attempts} attempts: {error}")
}

/// Reads a text of [`attempted`].
fn parse(note: &str) -> Option<(u32, &str)> {
    let (attempts, error) = note.split_once(" attempts: ")?;
    Some((attempts.parse().ok()?, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entries_of_a_step_are_its_history() {
        let why = |why: &str| Some(why.to_owned());
        let entries: Vec<Entry<()>> = vec![
            Entry::ActionStarted { step: 1 },
            Entry::Attempted { step: 1, why: Some(attempted(3, "busy: later")) },
            Entry::ActionDone { step: 1, output: () },
            Entry::ActionStarted { step: 0 },
            Entry::ActionFailed { step: 0, why: why("refused") },
            Entry::Unwinding { why: why("a: refused") },
            Entry::UndoStarted { step: 1 },
            Entry::UndoStarted { step: 1 },
            Entry::Attempted { step: 1, why: Some(attempted(2, "broken")) },
            Entry::UndoFailed { step: 1, why: why("broken again") },
            Entry::Stuck { step: 0, why: why("b: broken again") },
        ];
        let times: Vec<_> = (10..21).map(|at| Some(Duration::from_secs(at))).collect();
        let at = |seconds| Some(Duration::from_secs(seconds));
        let after = |count: usize| Histories::of(2, &entries[..count], &times).into_steps();
        assert_eq!(after(1)[1].started, at(10));
        assert_eq!((after(1)[1].ended, after(1)[1].attempts), (None, 1));
        let done = after(3).remove(1);
        assert_eq!((done.ended, done.attempts, done.error), (at(12), 3, why("busy: later")));
        assert_eq!(after(7)[1].ended, None, "the undo is in progress");
        let steps = after(11);
        assert_eq!((steps[0].started, steps[0].ended, steps[0].attempts), (at(13), at(14), 1));
        assert_eq!(steps[0].error, why("refused"));
        assert_eq!((steps[1].started, steps[1].ended), (at(10), at(19)));
        assert_eq!((steps[1].attempts, steps[1].undo_attempts), (3, 3));
        assert_eq!(steps[1].error, why("broken again"));
        // A log of a release that kept no times.
        let old = Histories::of(2, &entries, &[]).into_steps();
        assert_eq!((old[1].started, old[1].ended, old[1].attempts), (None, None, 3));
        assert_eq!(parse("x attempts: y").or(parse("attempted")), None);
    }
}
