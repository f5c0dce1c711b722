//! The entries of a saga's log, and the status of a saga.

use std::time::Duration;

use buttress::__words as words;

/// Makes [`EntryKind`], the list of all kinds, and the kind of each [`Entry`].
macro_rules! kinds {
    ($($(#[$doc:meta])+ $kind:ident,)+) => {
        /// The kind of an entry of a saga's log, without its data.
        #[non_exhaustive]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum EntryKind {
            $($(#[$doc])+ $kind,)+
        }

        impl EntryKind {
            const ALL: &[Self] = &[$(Self::$kind,)+];
        }

        impl<P> Entry<P> {
            /// Returns the kind of the entry.
            #[must_use]
            pub const fn kind(&self) -> EntryKind {
                match self {
                    $(Self::$kind { .. } => EntryKind::$kind,)+
                }
            }
        }
    };
}

kinds! {
    /// The saga may call the action of a step from now on.
    ActionStarted,
    /// The action was done.
    ActionDone,
    /// The action certainly had no effect.
    ActionFailed,
    /// It is unknown whether the action had an effect.
    ActionInDoubt,
    /// The saga may call the undo of a step from now on.
    UndoStarted,
    /// The undo was done, or was not needed.
    UndoDone,
    /// The undo failed after all its attempts.
    UndoFailed,
    /// The saga undoes steps from here on.
    Unwinding,
    /// A step waits for an operator.
    Stuck,
    /// An operator retries the stuck step.
    Retried,
    /// An operator counts the stuck undo as done.
    Skipped,
    /// An operator found that the action in doubt happened.
    Happened,
    /// An operator found that the action in doubt did not happen.
    DidNotHappen,
    /// Every step is done.
    Completed,
    /// Every effect is undone.
    Compensated,
    /// An execution of a step needed several attempts.
    Attempted,
    /// A step waits for a time from here on.
    WaitStarted,
    /// The time of a step that waits has come.
    WaitEnded,
    /// The signal for which a step waits has come.
    Signalled,
    /// The saga is the child of another saga.
    ChildOf,
    /// Every step is done, and the saga waits for the decision of its parent.
    Held,
    /// Every step is done, and nothing is undone from here on.
    Committed,
}

impl EntryKind {
    /// Returns the number under which stores keep the kind. It never changes meaning.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8 + 1
    }

    /// Returns the kind with this number; `None` if this version has no such kind.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code.checked_sub(1)?)).copied()
    }
}

/// The first entry of a saga's log, with the input. It is not counted as a position.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Beginning<P> {
    /// The encoded input.
    pub input: P,
    /// The names, kinds and edges of the steps of the definition, as one line of text; `None` if it
    /// was not recorded.
    ///
    /// An executor resumes a saga only if its own definition has the same shape.
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

/// An entry of a saga's log. `P` is the encoded form of payloads.
///
/// A `why` is a text for people. It is `None` if the store could not hold the text.
///
/// A store that keeps entries in columns splits them with [`kind`](Self::kind),
/// [`step`](Self::step), [`payload`](Self::payload) and [`note`](Self::note). It puts them together
/// with [`from_parts`](Self::from_parts).
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "`step`, `output` and `why` mean the same in each variant")]
pub enum Entry<P> {
    /// The saga may call the action of a step from now on.
    ActionStarted { step: u16 },
    /// The action was done.
    ActionDone { step: u16, output: P },
    /// The action certainly had no effect.
    ActionFailed { step: u16, why: Option<String> },
    /// It is unknown whether the action had an effect.
    ActionInDoubt { step: u16, why: Option<String> },
    /// The saga may call the undo of a step from now on.
    UndoStarted { step: u16 },
    /// The undo was done, or was not needed.
    UndoDone { step: u16 },
    /// The undo failed after all its attempts.
    UndoFailed { step: u16, why: Option<String> },
    /// The saga undoes steps from here on.
    Unwinding { why: Option<String> },
    /// A step waits for an operator.
    Stuck { step: u16, why: Option<String> },
    /// An operator retries the stuck step.
    Retried { step: u16, why: Option<String> },
    /// An operator counts the stuck undo as done.
    Skipped { step: u16, why: Option<String> },
    /// An operator found that the action in doubt happened.
    Happened { step: u16, output: P, why: Option<String> },
    /// An operator found that the action in doubt did not happen.
    DidNotHappen { step: u16, why: Option<String> },
    /// Every step is done.
    Completed,
    /// Every effect is undone.
    Compensated,
    /// An execution of a step needed several attempts. Its end follows. The `why` is the number of
    /// attempts and the error of the last but one, e.g. "3 attempts: no answer in time".
    Attempted { step: u16, why: Option<String> },
    /// A step waits from here on, for the time `length`. A worker that resumes the saga adds this entry again
    /// with the rest of the time. [`wait_started`](Entry::wait_started) writes the `length`, and
    /// [`wait`](Entry::wait) reads it.
    WaitStarted { step: u16, length: String },
    /// The time of a step that waits has come.
    WaitEnded { step: u16 },
    /// The signal for which a step waits has come. Its payload is the output of the step.
    Signalled { step: u16, output: P },
    /// The saga is the child of another saga. The text names the saga and the step of the parent. It also says whether
    /// the parent holds the child: then the child waits for its decision when every step is done.
    ChildOf { parent: String },
    /// Every step is done, and the saga waits for the decision of its parent: [`Committed`](Self::Committed), or a
    /// cancellation.
    Held,
    /// Every step is done, and nothing is undone from here on. The saga then commits its children, and completes.
    Committed,
}

/// Evaluates `$found` with the text of an entry; `None` for an entry without a text.
macro_rules! with_why {
    ($entry:expr, $why:ident => $found:expr) => {
        match $entry {
            Self::ActionFailed { why: $why, .. }
            | Self::ActionInDoubt { why: $why, .. }
            | Self::UndoFailed { why: $why, .. }
            | Self::Unwinding { why: $why }
            | Self::Stuck { why: $why, .. }
            | Self::Retried { why: $why, .. }
            | Self::Skipped { why: $why, .. }
            | Self::Happened { why: $why, .. }
            | Self::DidNotHappen { why: $why, .. }
            | Self::Attempted { why: $why, .. } => $found,
            _ => None,
        }
    };
}

impl<P> Entry<P> {
    /// Creates the entry of a step that waits for `length` from here on.
    #[must_use]
    pub fn wait_started(step: u16, length: Duration) -> Self {
        let (seconds, nanos) = (length.as_secs(), length.subsec_nanos());
        Self::WaitStarted { step, length: format!("{seconds}.{nanos:09} s") }
    }

    /// Returns how long a step waits from this entry on. `None` for an entry of another kind, and for a
    /// length that cannot be read.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        let Self::WaitStarted { length, .. } = self else { return None };
        let (seconds, nanos) = length.strip_suffix(" s")?.split_once('.')?;
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if nanos.len() != 9 || !is_number(seconds) || !is_number(nanos) {
            return None;
        }
        Some(Duration::new(seconds.parse().ok()?, nanos.parse().ok()?))
    }

    /// Creates an entry from its parts, and ignores the parts that an entry of this kind does not
    /// have.
    ///
    /// Returns `None` if the kind needs a payload or a text and there is none.
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
            EntryKind::Attempted => Self::Attempted { step, why },
            EntryKind::WaitStarted => Self::WaitStarted { step, length: why? },
            EntryKind::WaitEnded => Self::WaitEnded { step },
            EntryKind::Signalled => Self::Signalled { step, output: payload? },
            EntryKind::ChildOf => Self::ChildOf { parent: why? },
            EntryKind::Held => Self::Held,
            EntryKind::Committed => Self::Committed,
        })
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
            | Self::DidNotHappen { step, .. }
            | Self::Attempted { step, .. }
            | Self::WaitStarted { step, .. }
            | Self::WaitEnded { step }
            | Self::Signalled { step, .. } => *step,
            Self::Unwinding { .. }
            | Self::Completed
            | Self::Compensated
            | Self::ChildOf { .. }
            | Self::Held
            | Self::Committed => 0,
        }
    }

    /// Returns the encoded output, if the entry has one.
    #[must_use]
    pub const fn payload(&self) -> Option<&P> {
        match self {
            Self::ActionDone { output, .. }
            | Self::Happened { output, .. }
            | Self::Signalled { output, .. } => Some(output),
            _ => None,
        }
    }

    /// Returns the text of the entry, if it has one: its `why`, the length of a wait, or the parent of a child.
    #[must_use]
    pub fn note(&self) -> Option<&str> {
        match self {
            Self::WaitStarted { length, .. } => Some(length),
            Self::ChildOf { parent } => Some(parent),
            _ => with_why!(self, why => why.as_deref()),
        }
    }

    /// Returns the text for people, to be changed. A store may replace a text that it cannot hold. The
    /// length of a wait and the parent of a child are no such texts.
    pub fn note_mut(&mut self) -> Option<&mut Option<String>> {
        with_why!(self, why => Some(why))
    }
}

/// The status of a saga, which stores index.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Status {
    /// The saga runs steps.
    Running,
    /// The saga undoes steps.
    Unwinding,
    /// An operator must decide. No worker continues the saga before that.
    Stuck,
    /// The saga has ended: every step is done.
    Completed,
    /// The saga has ended: every effect is undone.
    Compensated,
    /// The saga only waits: for a time, a signal, or the decision of its parent. No worker runs it until then.
    Waiting,
}

impl Status {
    /// Returns the number under which stores keep the status. It never changes meaning.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8 + 1
    }

    /// Returns the status with this number; `None` if this version has no such status.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        let all = [
            Self::Running,
            Self::Unwinding,
            Self::Stuck,
            Self::Completed,
            Self::Compensated,
            Self::Waiting,
        ];
        all.get(usize::from(code.checked_sub(1)?)).copied()
    }

    /// Whether the saga has ended, so that nothing is added to its log any more.
    #[must_use]
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Compensated)
    }
}

words! {
    /// Returns the status in lower case, e.g. "running".
    Status {
        Running => "running", Unwinding => "unwinding", Stuck => "stuck", Completed => "completed",
        Compensated => "compensated", Waiting => "waiting",
    }
}

#[cfg(test)]
#[path = "entry/tests.rs"]
mod tests;
