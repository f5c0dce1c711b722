//! [`SagaError`]: why a saga does not run to its end here.

use buttress::{CodecError, StoreError, StoreErrorKind};

use crate::saga::model::entry::Status;
use crate::saga::store::{LARGEST_SIGNAL, SagaId};

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
    /// The saga is of a version of the definition that this executor does not run.
    #[error(
        "saga {saga}: has version {version} of \"{definition}\", and the executor runs {}; register that version with \
         also_run, or migrate the saga",
        listed(known)
    )]
    OtherVersion {
        /// The id of the saga.
        saga: SagaId,
        /// The name of the definition.
        definition: String,
        /// The version of the saga.
        version: u32,
        /// The versions that the executor runs.
        known: Vec<u32>,
    },
    /// The saga was started with another definition, codec or steps.
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
    /// There is no saga with this id in the store.
    #[error("saga {saga}: there is no such saga in the store of this executor; check the id")]
    Unknown {
        /// The id of the saga.
        saga: SagaId,
    },
    /// No step of the definition waits for a signal with this name.
    #[error("saga {saga}: no step waits for the signal \"{signal}\"; the definition has {known}")]
    UnknownSignal {
        /// The id of the saga.
        saga: SagaId,
        /// The name of the signal.
        signal: String,
        /// The names of the signals of the definition.
        known: String,
    },
    /// The payload of a signal has another type than the step that waits for it.
    #[error("saga {saga}: the payload of the signal \"{signal}\" is a {wanted}, not a {given}")]
    SignalType {
        /// The id of the saga.
        saga: SagaId,
        /// The name of the signal.
        signal: String,
        /// The type of the step.
        wanted: &'static str,
        /// The type of the payload.
        given: &'static str,
    },
    /// The encoded payload of a signal is too large.
    #[error(
        "saga {saga}: the signal \"{signal}\" has {bytes} bytes, at most {LARGEST_SIGNAL} are allowed; keep the \
         data elsewhere and send its key"
    )]
    SignalTooLarge {
        /// The id of the saga.
        saga: SagaId,
        /// The name of the signal.
        signal: String,
        /// The bytes of the payload.
        bytes: usize,
    },
    /// The saga takes no signal any more: it has ended, or it unwinds.
    #[error("saga {saga}: the saga is {} and takes no signal \"{signal}\" any more", status.as_str())]
    SignalTooLate {
        /// The id of the saga.
        saga: SagaId,
        /// The name of the signal.
        signal: String,
        /// The status of the saga.
        status: Status,
    },
    /// The payload of a signal cannot be encoded.
    #[error("saga {saga}: the payload of the signal \"{signal}\" cannot be encoded")]
    SignalPayload {
        /// The id of the saga.
        saga: SagaId,
        /// The name of the signal.
        signal: String,
        /// The error of the codec.
        #[source]
        error: CodecError,
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

/// Returns versions as a text.
fn listed(versions: &[u32]) -> String {
    let text: Vec<String> = versions.iter().map(u32::to_string).collect();
    let word = if text.len() == 1 { "version" } else { "versions" };
    format!("{word} {}", text.join(", "))
}

/// Returns the mistake, and its remedy.
fn fault(kind: StoreErrorKind) -> &'static str {
    match kind {
        StoreErrorKind::Transient => "the store is unavailable; the call can be repeated",
        StoreErrorKind::Conflict => {
            "the store holds a saga with other content under this id; start a new saga under a new id"
        }
        StoreErrorKind::Fenced => "another worker owns the saga; leave it to that worker",
        StoreErrorKind::Corrupt => "the stored saga cannot be read; its row must be fixed",
        StoreErrorKind::Invalid => "the store can never hold this saga; change what it holds",
        StoreErrorKind::Misconfigured => "the store must be fixed; then repeat the call",
        _ => "the store failed",
    }
}
