//! [`Inbox`]: effects that happen once, however often they are asked for.

use std::future::Future;

use buttress::StoreError;

use super::message::MessageId;
use crate::saga::SagaId;

/// Whether a delivery is the first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Receipt {
    /// It is: do the work, in this transaction.
    First,
    /// It was received before: acknowledge it and do nothing.
    Repeated,
}

/// Whether a saga's action or undo is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Passage {
    /// Do the work, in this transaction.
    Proceed,
    /// It was done before: answer as then.
    Repeated,
    /// For an action: its undo came first. Refuse it. For an undo: its action never came, so there is
    /// nothing to undo; a tombstone now keeps it out. Answer success.
    Overtaken,
}

/// Remembers, inside the consumer's own transaction `Tx`, what has been received, so that an effect in
/// the same transaction happens once. One statement each.
///
/// Stores remove what is older than a time that is configured there, 30 days by default. A message that is
/// delivered again later than that is [`First`](Receipt::First) again, and an action or an undo that is
/// called again later than that proceeds again. The time must be longer than the
/// [longest retry time](super::Config::longest_retry) of the relay that delivers, and than a dead letter may
/// wait for an operator.
///
/// Every future is lazy: an operation that was never polled remembers nothing.
pub trait Inbox<Tx>: Send + Sync {
    /// Receives `message` for `consumer`: several may receive the same one, each once.
    fn receive(
        &self,
        tx: &mut Tx,
        consumer: &str,
        message: MessageId,
    ) -> impl Future<Output = Result<Receipt, StoreError>> + Send;

    /// Before the action of step `step` of `saga` is done by this participant.
    fn action(
        &self,
        tx: &mut Tx,
        saga: SagaId,
        step: &str,
    ) -> impl Future<Output = Result<Passage, StoreError>> + Send;

    /// Before the action of step `step` of `saga` is undone by this participant.
    fn undo(
        &self,
        tx: &mut Tx,
        saga: SagaId,
        step: &str,
    ) -> impl Future<Output = Result<Passage, StoreError>> + Send;
}
