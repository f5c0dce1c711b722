//! The log of a saga: kinds of entries, and the status that follows from them.

/// What one line of a saga's log says.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EntryKind {
    /// The action of a step may leave from now on.
    ActionStarted,
    /// The action was done. The payload is its output.
    ActionDone,
    /// The action certainly had no effect. The note says why.
    ActionFailed,
    /// Nobody knows whether the action had an effect. The note says why.
    ActionInDoubt,
    /// The undo of a step may leave from now on.
    UndoStarted,
    /// The effect of the step is gone, or never was.
    UndoDone,
    /// The undo failed after all its attempts. The note says why.
    UndoFailed,
    /// From here on steps are undone. The note says why.
    Unwinding,
    /// A step waits for an operator.
    Stuck,
    /// An operator: try the stuck step again.
    Retried,
    /// An operator: the stuck undo counts as done.
    Skipped,
    /// An operator: the action in doubt did happen. The payload is its output.
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

/// One line of a saga's log. `P` is what payloads are encoded to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry<P> {
    /// What happened.
    pub kind: EntryKind,
    /// The number of the step, from 0; 0 where the entry speaks of the whole saga.
    pub step: u16,
    /// An output.
    pub payload: Option<P>,
    /// A reason, for people.
    pub note: Option<String>,
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
