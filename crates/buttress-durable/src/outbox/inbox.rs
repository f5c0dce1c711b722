//! [`Inbox`]: makes the effect of a message happen once, although its delivery repeats.

use std::future::Future;

use buttress::StoreError;

use super::message::MessageId;

/// Whether a delivery is the first delivery of its message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Receipt {
    /// The first delivery: do the work in this transaction.
    First,
    /// A repeated delivery: acknowledge the message and do nothing.
    Repeated,
}

/// Records received messages inside the consumer's own transaction `Tx`, with one statement each.
/// An effect in the same transaction then happens once.
///
/// Stores remove receipts after a configured time, 30 days by default. A message that is delivered
/// again after that time is [`First`](Receipt::First) again. Configure a time longer than the
/// [longest retry time](super::Config::longest_retry) of the relay that delivers, and longer than a
/// dead letter may wait for an operator.
///
/// Every future is lazy: an operation whose future was never polled records nothing.
///
/// A participant of sagas uses [`saga::Barrier`](crate::saga::Barrier).
pub trait Inbox<Tx>: Send + Sync {
    /// Records that `consumer` received `message`. Several consumers may receive the same message,
    /// each once.
    fn receive(
        &self,
        tx: &mut Tx,
        consumer: &str,
        message: MessageId,
    ) -> impl Future<Output = Result<Receipt, StoreError>> + Send;
}
