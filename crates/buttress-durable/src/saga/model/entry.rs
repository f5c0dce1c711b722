//! The log of a saga: its entries, and the status that follows from them.

/// The kind of an entry of a saga's log, without its data.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EntryKind {
    /// The action of a step may leave from now on.
    ActionStarted,
    /// The action was done.
    ActionDone,
    /// The action certainly had no effect.
    ActionFailed,
    /// Whether the action had an effect is not known.
    ActionInDoubt,
    /// The undo of a step may leave from now on.
    UndoStarted,
    /// The effect of the step is gone, or never was.
    UndoDone,
    /// The undo failed after all its attempts.
    UndoFailed,
    /// From here on steps are undone.
    Unwinding,
    /// A step waits for an operator.
    Stuck,
    /// An operator: try the stuck step again.
    Retried,
    /// An operator: the stuck undo counts as done.
    Skipped,
    /// An operator: the action in doubt did happen.
    Happened,
    /// An operator: the action in doubt did not happen.
    DidNotHappen,
    /// Every step is done.
    Completed,
    /// Every effect is undone.
    Compensated,
}

impl EntryKind {
    const ALL: [Self; 15] = [
        Self::ActionStarted,
        Self::ActionDone,
        Self::ActionFailed,
        Self::ActionInDoubt,
        Self::UndoStarted,
        Self::UndoDone,
        Self::UndoFailed,
        Self::Unwinding,
        Self::Stuck,
        Self::Retried,
        Self::Skipped,
        Self::Happened,
        Self::DidNotHappen,
        Self::Completed,
        Self::Compensated,
    ];

    /// The number under which stores keep the kind. It never changes meaning.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8 + 1
    }

    /// The kind with this number; `None` if this version knows none.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code.checked_sub(1)?)).copied()
    }
}

/// What a saga was started with: the first entry of its log, before those that count from position 0.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Beginning<P> {
    /// The encoded input.
    pub input: P,
    /// The names, kinds and edges of the steps of the definition, as one line of text. An executor resumes a
    /// saga only if its own definition has the same shape. `None` if the log does not say.
    pub shape: Option<String>,
    /// The correlation id of the request that started the saga.
    pub correlation: Option<String>,
    /// The trace of the request that started the saga, as a W3C `traceparent`.
    pub trace: Option<String>,
}

impl<P> Beginning<P> {
    /// Creates a first entry with an encoded input and nothing else.
    #[must_use]
    pub const fn new(input: P) -> Self {
        Self { input, shape: None, correlation: None, trace: None }
    }
}

/// One entry of a saga's log. `P` is what payloads are encoded to.
///
/// A `why` is a text for people. It is `None` if the store could not hold the text.
///
/// A store that keeps entries in columns takes them apart with [`kind`](Self::kind), [`step`](Self::step),
/// [`payload`](Self::payload) and [`note`](Self::note), and puts them together with
/// [`from_parts`](Self::from_parts).
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "`step`, `output` and `why` mean the same in each variant")]
pub enum Entry<P> {
    /// The action of a step may leave from now on.
    ActionStarted { step: u16 },
    /// The action was done.
    ActionDone { step: u16, output: P },
    /// The action certainly had no effect.
    ActionFailed { step: u16, why: Option<String> },
    /// Whether the action had an effect is not known.
    ActionInDoubt { step: u16, why: Option<String> },
    /// The undo of a step may leave from now on.
    UndoStarted { step: u16 },
    /// The effect of the step is gone, or never was.
    UndoDone { step: u16 },
    /// The undo failed after all its attempts.
    UndoFailed { step: u16, why: Option<String> },
    /// From here on steps are undone.
    Unwinding { why: Option<String> },
    /// A step waits for an operator.
    Stuck { step: u16, why: Option<String> },
    /// An operator: try the stuck step again.
    Retried { step: u16, why: Option<String> },
    /// An operator: the stuck undo counts as done.
    Skipped { step: u16, why: Option<String> },
    /// An operator: the action in doubt did happen.
    Happened { step: u16, output: P, why: Option<String> },
    /// An operator: the action in doubt did not happen.
    DidNotHappen { step: u16, why: Option<String> },
    /// Every step is done.
    Completed,
    /// Every effect is undone.
    Compensated,
}

impl<P> Entry<P> {
    /// Puts an entry together from its parts, and ignores the parts that an entry of this kind does not have.
    /// Returns `None` if the kind needs a payload and there is none.
    #[must_use]
    pub fn from_parts(
        kind: EntryKind,
        step: u16,
        payload: Option<P>,
        why: Option<String>,
    ) -> Option<Self> {
        Some(match kind {
            EntryKind::ActionStarted => Self::ActionStarted { step },
            EntryKind::ActionDone => Self::ActionDone { step, output: payload? },
            EntryKind::ActionFailed => Self::ActionFailed { step, why },
            EntryKind::ActionInDoubt => Self::ActionInDoubt { step, why },
            EntryKind::UndoStarted => Self::UndoStarted { step },
            EntryKind::UndoDone => Self::UndoDone { step },
            EntryKind::UndoFailed => Self::UndoFailed { step, why },
            EntryKind::Unwinding => Self::Unwinding { why },
            EntryKind::Stuck => Self::Stuck { step, why },
            EntryKind::Retried => Self::Retried { step, why },
            EntryKind::Skipped => Self::Skipped { step, why },
            EntryKind::Happened => Self::Happened { step, output: payload?, why },
            EntryKind::DidNotHappen => Self::DidNotHappen { step, why },
            EntryKind::Completed => Self::Completed,
            EntryKind::Compensated => Self::Compensated,
        })
    }

    /// Returns the kind of the entry.
    #[must_use]
    pub const fn kind(&self) -> EntryKind {
        match self {
            Self::ActionStarted { .. } => EntryKind::ActionStarted,
            Self::ActionDone { .. } => EntryKind::ActionDone,
            Self::ActionFailed { .. } => EntryKind::ActionFailed,
            Self::ActionInDoubt { .. } => EntryKind::ActionInDoubt,
            Self::UndoStarted { .. } => EntryKind::UndoStarted,
            Self::UndoDone { .. } => EntryKind::UndoDone,
            Self::UndoFailed { .. } => EntryKind::UndoFailed,
            Self::Unwinding { .. } => EntryKind::Unwinding,
            Self::Stuck { .. } => EntryKind::Stuck,
            Self::Retried { .. } => EntryKind::Retried,
            Self::Skipped { .. } => EntryKind::Skipped,
            Self::Happened { .. } => EntryKind::Happened,
            Self::DidNotHappen { .. } => EntryKind::DidNotHappen,
            Self::Completed => EntryKind::Completed,
            Self::Compensated => EntryKind::Compensated,
        }
    }

    /// Returns the number of the step, from 0. It is 0 if the entry is about the whole saga.
    #[must_use]
    pub const fn step(&self) -> u16 {
        match self {
            Self::ActionStarted { step }
            | Self::ActionDone { step, .. }
            | Self::ActionFailed { step, .. }
            | Self::ActionInDoubt { step, .. }
            | Self::UndoStarted { step }
            | Self::UndoDone { step }
            | Self::UndoFailed { step, .. }
            | Self::Stuck { step, .. }
            | Self::Retried { step, .. }
            | Self::Skipped { step, .. }
            | Self::Happened { step, .. }
            | Self::DidNotHappen { step, .. } => *step,
            Self::Unwinding { .. } | Self::Completed | Self::Compensated => 0,
        }
    }

    /// Returns the encoded output, if the entry has one.
    #[must_use]
    pub const fn payload(&self) -> Option<&P> {
        match self {
            Self::ActionDone { output, .. } | Self::Happened { output, .. } => Some(output),
            _ => None,
        }
    }

    /// Returns the text for people, if the entry has one.
    #[must_use]
    pub fn note(&self) -> Option<&str> {
        match self {
            Self::ActionFailed { why, .. }
            | Self::ActionInDoubt { why, .. }
            | Self::UndoFailed { why, .. }
            | Self::Unwinding { why }
            | Self::Stuck { why, .. }
            | Self::Retried { why, .. }
            | Self::Skipped { why, .. }
            | Self::Happened { why, .. }
            | Self::DidNotHappen { why, .. } => why.as_deref(),
            _ => None,
        }
    }

    /// Returns the text for people. A store may replace what it cannot hold.
    pub fn note_mut(&mut self) -> Option<&mut Option<String>> {
        match self {
            Self::ActionFailed { why, .. }
            | Self::ActionInDoubt { why, .. }
            | Self::UndoFailed { why, .. }
            | Self::Unwinding { why }
            | Self::Stuck { why, .. }
            | Self::Retried { why, .. }
            | Self::Skipped { why, .. }
            | Self::Happened { why, .. }
            | Self::DidNotHappen { why, .. } => Some(why),
            _ => None,
        }
    }
}

/// Where a saga stands: what stores index.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Status {
    /// Steps are run.
    Running,
    /// Steps are undone.
    Unwinding,
    /// An operator must decide. No worker goes on by itself.
    Stuck,
    /// Ended: every step is done.
    Completed,
    /// Ended: every effect is undone.
    Compensated,
}

impl Status {
    /// The number under which stores keep the status. It never changes meaning.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8 + 1
    }

    /// The status with this number; `None` if this version knows none.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        let all = [Self::Running, Self::Unwinding, Self::Stuck, Self::Completed, Self::Compensated];
        all.get(usize::from(code.checked_sub(1)?)).copied()
    }

    /// Whether nothing will ever be added to the log.
    #[must_use]
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Compensated)
    }

    /// The status in kebab case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Unwinding => "unwinding",
            Self::Stuck => "stuck",
            Self::Completed => "completed",
            Self::Compensated => "compensated",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_taken_apart_and_put_together() {
        for code in 1..=u8::MAX {
            let Some(kind) = EntryKind::from_code(code) else { break };
            let why = Some("why".to_owned());
            let entry = Entry::from_parts(kind, 7, Some(b"out"), why).unwrap();
            assert_eq!((entry.kind(), kind.code()), (kind, code));
            assert_eq!(entry.note().is_some(), entry.clone().note_mut().is_some(), "{kind:?}");
            let (payload, note) = (entry.payload().copied(), entry.note().map(str::to_owned));
            let again = Entry::from_parts(kind, entry.step(), payload, note);
            assert_eq!(again, Some(entry.clone()));
            // Without a payload there is no entry that has one.
            let without = Entry::<&[u8; 3]>::from_parts(kind, 7, None, None);
            assert_eq!(without.is_none(), entry.payload().is_some(), "{kind:?}");
        }
    }
}
