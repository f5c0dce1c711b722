//! [`Barrier`]: lets the action and the undo of a step happen once each, in either order.

use std::future::Future;

use super::store::SagaId;
use crate::answer::Answer;

/// Whether a participant should do the action or the undo of a saga's step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Passage {
    /// Do the work, in this transaction.
    Proceed,
    /// The work was done before. Answer as before.
    Repeated,
    /// The undo came before the action. An action that gets this must be refused. An undo that gets
    /// this has nothing to undo and must be answered with success. The store keeps a tombstone that
    /// keeps the action out.
    Overtaken,
}

/// A store that records the actions and undos that a participant of sagas does. Each record is one statement
/// inside the participant's own transaction `Tx`. An effect in the same transaction then happens
/// once.
///
/// An undo can come before its action: the action timed out and is still on its way. The barrier
/// remembers the undo, and keeps the action out.
///
/// Stores remove records after a configured time, 30 days by default. An action or an undo that is
/// called again after that time proceeds again. Configure a time longer than a stuck saga may wait
/// for an operator.
///
/// Every future is lazy: an operation whose future was never polled records nothing.
pub trait Barrier<Tx>: Send + Sync {
    /// Records that this participant does the action of step `step` of `saga`. The [`Passage`] says
    /// whether the participant must do the action.
    fn action(
        &self,
        tx: &mut Tx,
        saga: SagaId,
        step: &str,
    ) -> impl Future<Output = Answer<Passage>> + Send;

    /// Records that this participant undoes the action of step `step` of `saga`. The [`Passage`] says
    /// whether the participant must undo the action.
    fn undo(
        &self,
        tx: &mut Tx,
        saga: SagaId,
        step: &str,
    ) -> impl Future<Output = Answer<Passage>> + Send;
}
