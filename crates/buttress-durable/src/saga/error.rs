//! [`SagaError`]: why a saga does not run to its end here.

use std::error::Error as _;
use std::fmt;

use buttress::{CodecError, StoreError};

use crate::saga::store::SagaId;

/// The reason why a saga does not run to its end on this executor.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SagaError {
    /// The store failed, or refused the operation. After a transient error the saga continues all
    /// the same: see [`Config::patience`](crate::saga::Config::patience).
    ///
    /// A [`Conflict`](buttress::StoreErrorKind::Conflict) of a start means that a saga with other
    /// content was started before under this id. A repeated start fails in the same way.
    #[error("saga {saga}: the store failed")]
    Store {
        /// The id of the saga.
        saga: SagaId,
        /// The error of the store.
        #[source]
        error: StoreError,
    },
    /// A saga with this id was started before, with the same definition, version and input. It is
    /// not started again: [`start_or_attach`](crate::saga::Executor::start_or_attach) waits for its
    /// end.
    #[error("saga {saga}: started before with the same input; start_or_attach waits for its end")]
    AlreadyStarted {
        /// The id of the saga.
        saga: SagaId,
    },
    /// Another worker has taken the saga over.
    #[error("saga {saga}: another worker has taken the saga over")]
    Fenced {
        /// The id of the saga.
        saga: SagaId,
    },
    /// The executor is shutting down. The next recovery, of any worker, resumes a saga that was
    /// running.
    #[error("saga {saga}: the executor is shutting down")]
    ShutDown {
        /// The id of the saga.
        saga: SagaId,
    },
    /// The task of the saga panicked, outside an attempt of a step. The next
    /// [`recover`](crate::saga::Executor::recover) of this executor resumes the saga.
    #[error("saga {saga}: the task {why}")]
    Panicked {
        /// The id of the saga.
        saga: SagaId,
        /// The message of the panic.
        why: String,
    },
    /// The log cannot be read.
    #[error("saga {saga}: the log cannot be read: {why}")]
    Corrupt {
        /// The id of the saga.
        saga: SagaId,
        /// The reason why the log cannot be read.
        why: String,
    },
    /// The saga was started with another definition, version, codec or steps.
    #[error("saga {saga}: started with {recorded}, but this executor runs {known}")]
    DefinitionChanged {
        /// The id of the saga.
        saga: SagaId,
        /// The definition that the saga was started with.
        recorded: String,
        /// The definition that this executor runs.
        known: String,
    },
    /// There is no such saga, or its state does not allow the operation.
    #[error("saga {saga}: {why}")]
    NotPossible {
        /// The id of the saga.
        saga: SagaId,
        /// The reason why the operation is not possible.
        why: String,
    },
    /// The input cannot be encoded.
    #[error("saga {saga}: the input cannot be encoded")]
    Input {
        /// The id of the saga.
        saga: SagaId,
        /// The error of the codec.
        #[source]
        error: CodecError,
    },
}

/// An error with all its causes, for log lines. An error does not repeat the text of its cause.
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
