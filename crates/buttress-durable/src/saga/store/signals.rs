//! Signals to sagas, as a [`Store`](super::Store) keeps them.

use std::any::Any;
use std::future::Future;

use buttress::__ids as ids;
use buttress::StoreError;

use crate::answer::Answer;
use crate::saga::model::entry::Status;
use crate::saga::model::id::SagaId;

ids! {
    /// The id of a signal, which its sender generates. A repetition with the same id has no effect.
    SignalId;
}

/// The most bytes of the payload of a signal: 1 MiB. The log of the saga keeps the payload again, as the output
/// of a step.
pub const LARGEST_SIGNAL: usize = 1 << 20;

/// A signal that a caller sends to a saga.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewSignal<P> {
    /// The id of the saga.
    pub saga: SagaId,
    /// The name of the definition that the sender knows.
    pub definition: String,
    /// The version of the definition that the sender knows.
    pub version: u32,
    /// The name of the signal: the name of the step that waits for it.
    pub name: String,
    /// The id of the signal.
    pub id: SignalId,
    /// The encoded payload.
    pub payload: P,
}

impl<P> NewSignal<P> {
    /// Creates a signal called `name` to a saga of a version of a definition.
    #[must_use]
    pub fn new(
        saga: SagaId,
        (definition, version): (impl Into<String>, u32),
        name: impl Into<String>,
        id: SignalId,
        payload: P,
    ) -> Self {
        Self { saga, definition: definition.into(), version, name: name.into(), id, payload }
    }
}

/// A signal that a store keeps.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signal<P> {
    /// The name of the signal.
    pub name: String,
    /// The id of the signal.
    pub id: SignalId,
    /// The encoded payload.
    pub payload: P,
}

impl<P> Signal<P> {
    /// Creates a signal.
    #[must_use]
    pub fn new(name: impl Into<String>, id: SignalId, payload: P) -> Self {
        Self { name: name.into(), id, payload }
    }
}

/// The answer of a store to a signal. The store keeps the signal only if the answer is
/// [`Delivered`](Self::Delivered).
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SignalAnswer {
    /// The store has recorded the signal.
    Delivered,
    /// The store has recorded a signal with this name and this id before.
    Duplicate,
    /// The store has recorded a signal with this name and another id before. It keeps the first one.
    Later,
    /// There is no such saga.
    Unknown,
    /// The saga is of another definition or version.
    OtherDefinition {
        /// The name of the definition of the saga.
        definition: String,
        /// The version of the definition of the saga.
        version: u32,
    },
    /// The saga takes no signal any more: it has ended, or it [unwinds](Status::Unwinding).
    TooLate(Status),
}

impl SignalAnswer {
    /// Returns the answer of a store to a `signal` that is not recorded yet, from the definition, the version and
    /// the status of its saga. Returns `None` if the store shall record the signal.
    #[must_use]
    pub fn refusal<P>(
        signal: &NewSignal<P>,
        (definition, version): (&str, u32),
        status: Status,
    ) -> Option<Self> {
        if (definition, version) != (signal.definition.as_str(), signal.version) {
            return Some(Self::OtherDefinition { definition: definition.to_owned(), version });
        }
        (status.is_ended() || status == Status::Unwinding).then_some(Self::TooLate(status))
    }
}

/// A store that records signals to sagas in the caller's own transaction `Tx`. The saga has a signal if the transaction
/// commits.
///
/// Every future is lazy: a signal whose future was never polled is not sent.
pub trait SignalIn<Tx, P>: Send + Sync {
    /// Records a signal like [`Store::signal`](super::Store::signal), in the transaction.
    ///
    /// # Errors
    /// Returns `Invalid` if the signal is too large; nothing was done then. After any other error, roll the
    /// transaction back.
    fn signal_in(
        &self,
        tx: &mut Tx,
        signal: NewSignal<P>,
    ) -> impl Future<Output = Answer<SignalAnswer>> + Send;
}

/// Refuses the payload of a signal that is too large. Only bytes have a size.
///
/// # Errors
/// Returns `Invalid` with the bytes and the bound.
pub(in crate::saga) fn check_payload_of_signal<P: 'static>(signal: &NewSignal<P>) -> Answer<()> {
    match bytes_of(&signal.payload) {
        Some(bytes) if bytes > LARGEST_SIGNAL => {
            let (saga, name) = (signal.saga, &signal.name);
            Err(StoreError::invalid(format!(
                "saga {saga}: the signal \"{name}\" has {bytes} bytes, at most {LARGEST_SIGNAL} are allowed"
            )))
        }
        _ => Ok(()),
    }
}

/// Returns the size of a payload; `None` if its codec makes no bytes.
pub(in crate::saga) fn bytes_of<P: 'static>(payload: &P) -> Option<usize> {
    let payload: &dyn Any = payload;
    payload.downcast_ref::<Vec<u8>>().map(Vec::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_refused_by_the_definition_first_and_then_by_the_status() {
        let (saga, id) = (SagaId::new(1), SignalId::new(2));
        let signal = NewSignal::new(saga, ("order", 3), "approved", id, ());
        let refusal =
            |name, version, status| SignalAnswer::refusal(&signal, (name, version), status);
        let other = |definition: &str, version| {
            let definition = definition.to_owned();
            Some(SignalAnswer::OtherDefinition { definition, version })
        };
        for status in [Status::Running, Status::Waiting, Status::Stuck] {
            assert_eq!(refusal("order", 3, status), None, "{status:?}");
        }
        for status in [Status::Unwinding, Status::Completed, Status::Compensated] {
            assert_eq!(refusal("order", 3, status), Some(SignalAnswer::TooLate(status)));
            assert_eq!(refusal("order", 4, status), other("order", 4));
        }
        assert_eq!(refusal("refund", 3, Status::Waiting), other("refund", 3));
    }
}
