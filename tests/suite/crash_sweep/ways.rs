//! The behaviour of the participant of a saga's step.

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Way {
    Fine,
    /// A definite refusal, if it has no effect yet.
    Refuse,
    /// The participant executes the request, and its answer is lost.
    LoseAnswer,
    /// The participant has no effect and returns an indefinite error.
    Stumble,
}

#[derive(Debug, thiserror::Error)]
#[error("{0:?}")]
pub(super) struct Failed(pub(super) Way);
