//! What the participant of a saga's step does with a call.

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Way {
    Fine,
    /// A definite refusal, if it has no effect yet.
    Refuse,
    /// It does its work, and its answer is lost.
    LoseAnswer,
    /// It does nothing, and does not say so.
    Stumble,
}

#[derive(Debug, thiserror::Error)]
#[error("{0:?}")]
pub(super) struct Failed(pub(super) Way);
