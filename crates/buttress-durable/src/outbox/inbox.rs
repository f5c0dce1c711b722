//! [`Inbox`]: makes effects happen once, although requests for them repeat.

use std::future::Future;

use buttress::StoreError;

use super::message::MessageId;
use crate::saga::SagaId;

/// Whether a delivery is the first delivery of its message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Receipt {
    /// The first delivery: do the work in this transaction.
    First,
    /// A repeated delivery: acknowledge the message and do nothing.
    Repeated,
}

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

/// Records received messages and requests inside the consumer's own transaction `Tx`, with one
/// statement each. An effect in the same transaction then happens once.
///
/// Stores remove records after a configured time, 30 days by default. A message that is delivered
/// again after that time is [`First`](Receipt::First) again. An action or an undo that is called
/// again after that time proceeds again. Configure a time longer than the [longest retry
/// time](super::Config::longest_retry) of the relay that delivers, and longer than a dead letter
/// may wait for an operator.
///
/// Every future is lazy: an operation whose future was never polled records nothing.
pub trait Inbox<Tx>: Send + Sync {
    /// Records that `consumer` received `message`. Several consumers may receive the same message,
    /// each once.
    fn receive(
        &self,
        tx: &mut Tx,
        consumer: &str,
        message: MessageId,
    ) -> impl Future<Output = Result<Receipt, StoreError>> + Send;

    /// Records that this participant does the action of step `step` of `saga`. Returns whether to
    /// do it.
    fn action(
        &self,
        tx: &mut Tx,
        saga: SagaId,
        step: &str,
    ) -> impl Future<Output = Result<Passage, StoreError>> + Send;

    /// Records that this participant undoes the action of step `step` of `saga`. Returns whether to
    /// undo it.
    fn undo(
        &self,
        tx: &mut Tx,
        saga: SagaId,
        step: &str,
    ) -> impl Future<Output = Result<Passage, StoreError>> + Send;
}
