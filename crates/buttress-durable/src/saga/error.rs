//! [`SagaError`]: why a saga is not run to its end here.

use std::error::Error as _;
use std::fmt;

use buttress::{CodecError, StoreError};

use crate::saga::store::SagaId;

/// Why a saga is not run to its end here.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SagaError {
    /// The store refuses. After a transient error the saga still goes on: see
    /// [`Config::patience`](crate::saga::Config::patience).
    #[error("saga {saga}: the store failed")]
    Store {
        /// Which saga.
        saga: SagaId,
        /// What the store said.
        #[source]
        error: StoreError,
    },
    /// A saga with this id was started before with the same definition, version and input. It is not started
    /// again: [`start_or_attach`](crate::saga::Executor::start_or_attach) waits for its end.
    #[error("saga {saga}: started before, with the same input")]
    AlreadyStarted {
        /// Which saga.
        saga: SagaId,
    },
    /// Another worker has taken the saga over.
    #[error("saga {saga}: another worker has taken it over")]
    Fenced {
        /// Which saga.
        saga: SagaId,
    },
    /// The executor is shutting down. A saga that was running is resumed by whoever recovers next.
    #[error("saga {saga}: the executor is shutting down")]
    ShutDown {
        /// Which saga.
        saga: SagaId,
    },
    /// The task of the saga panicked, outside of an attempt of a step. The next
    /// [`recover`](crate::saga::Executor::recover) of this executor resumes the saga.
    #[error("saga {saga}: its task {why}")]
    Panicked {
        /// Which saga.
        saga: SagaId,
        /// What the panic said.
        why: String,
    },
    /// The log cannot be read.
    #[error("saga {saga}: its log cannot be read: {why}")]
    Corrupt {
        /// Which saga.
        saga: SagaId,
        /// What is wrong with it.
        why: String,
    },
    /// The saga was started with other steps, under the same version or another.
    #[error("saga {saga}: started with {recorded}, which is not {known}")]
    DefinitionChanged {
        /// Which saga.
        saga: SagaId,
        /// What its log was started with.
        recorded: String,
        /// What this executor knows.
        known: String,
    },
    /// There is no such saga, or it is not in a state in which this can be asked for.
    #[error("saga {saga}: {why}")]
    NotPossible {
        /// Which saga.
        saga: SagaId,
        /// Why not.
        why: String,
    },
    /// The input cannot be encoded.
    #[error("saga {saga}: its input cannot be encoded")]
    Input {
        /// Which saga.
        saga: SagaId,
        /// What the codec said.
        #[source]
        error: CodecError,
    },
}

/// An error with all its causes, for log lines: each says what its cause does not.
pub(super) struct WithCauses<'a>(pub(super) &'a SagaError);

impl fmt::Display for WithCauses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
