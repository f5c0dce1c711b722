//! [`SagaError`]: why a saga does not run to its end here.

use buttress::{CodecError, StoreError, StoreErrorKind};

use crate::saga::store::SagaId;

pub(super) use crate::causes::WithCauses;

/// The reason why a saga does not run to its end on this executor.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SagaError {
    /// The store failed, or refused the operation. After a transient error the saga continues all
    /// the same: see [`Config::patience`](crate::saga::Config::patience).
    ///
    /// A [`Conflict`](buttress::StoreErrorKind::Conflict) of a start means that a saga with other
    /// content was started before under this id. A repeated start fails in the same way.
    #[error("saga {saga}: {}", fault(error.kind()))]
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

/// Returns the mistake, and its remedy.
fn fault(kind: StoreErrorKind) -> &'static str {
    match kind {
        StoreErrorKind::Transient => "the store is unavailable; the call can be repeated",
        StoreErrorKind::Conflict => {
            "the store holds a saga with other content under this id; start a new saga under a new id"
        }
        StoreErrorKind::Fenced => "another worker owns the saga; leave it to that worker",
        StoreErrorKind::Corrupt => "the stored saga cannot be read; its row must be mended",
        StoreErrorKind::Invalid => "the store can never hold this saga; change what it holds",
        StoreErrorKind::Misconfigured => "the store must be mended; then repeat the call",
        _ => "the store failed",
    }
}
