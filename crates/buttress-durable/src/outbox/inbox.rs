//! [`Inbox`]: makes the effect of a message happen once, although its delivery repeats.

use std::future::Future;

use buttress::StoreError;

use super::message::MessageId;
use crate::answer::Answer;

/// Whether a delivery is the first delivery of its message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Receipt {
    /// The first delivery: do the work in this transaction.
    First,
    /// A repeated delivery: acknowledge the message and do nothing.
    Repeated,
}

/// A store that records received messages inside the consumer's own transaction `Tx`, with one statement each.
/// An effect in the same transaction then happens once.
///
/// Stores remove receipts after a configured time, 30 days by default. A message that is delivered
/// again after that time is [`First`](Receipt::First) again. Configure a time longer than the
/// [longest retry time](super::Config::longest_retry) of the relay that delivers, and longer than a
/// dead letter may wait for an operator.
///
/// A consumer that runs as the publisher of a relay, with a transaction on the SQLite file of the relay, keeps the relay
/// from renewing its lease. Its transactions must be shorter than the [lease](super::Config::lease): the relay drops a
/// delivery whose lease has ended, and repeats it. A dropped transaction is rolled back with its receipt.
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
    ) -> impl Future<Output = Answer<Receipt>> + Send;

    /// Records that `consumer` received the message `id` of another system, `source`. The id stays an opaque text:
    /// the same id of two sources is two messages.
    ///
    /// The default implementation keeps `consumer`, `source` and `id` together as the consumer of message 0, so a
    /// store needs no further table.
    ///
    /// # Errors
    /// Returns `Invalid` if `id` is empty, if a text has U+0000 in it, or if the three texts together are longer than
    /// [`LONGEST_FOREIGN`] bytes. Also returns the errors of [`receive`](Self::receive).
    fn receive_from(
        &self,
        tx: &mut Tx,
        consumer: &str,
        source: &str,
        id: &str,
    ) -> impl Future<Output = Answer<Receipt>> + Send
    where
        Tx: Send,
    {
        let key = foreign_key(consumer, source, id);
        async move { self.receive(tx, &key?, MessageId::new(0)).await }
    }
}

/// The most bytes of consumer, source and id together in [`Inbox::receive_from`]. With separators they fit into
/// the 512 bytes that stores allow for a name.
pub const LONGEST_FOREIGN: usize = 500;

/// Returns a text that is different for different arguments. The length of `source` marks the end of `source`.
fn foreign_key(consumer: &str, source: &str, id: &str) -> Answer<String> {
    let length = consumer.len() + source.len() + id.len();
    let refused = |what| Err(StoreError::invalid(format!("receiving a message: {what}")));
    if id.is_empty() {
        return refused("the id is empty".to_owned());
    }
    if length > LONGEST_FOREIGN {
        return refused(format!(
            "consumer, source and id of {length} bytes, at most {LONGEST_FOREIGN} are allowed"
        ));
    }
    if [consumer, source, id].iter().any(|text| text.contains('\0')) {
        return refused("a text with U+0000 in it".to_owned());
    }
    let source_length = source.len();
    Ok(format!("{consumer}\u{1f}{source_length}\u{1f}{source}\u{1f}{id}"))
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_longest_texts_fit_into_a_name_and_longer_ones_are_refused() {
        let key = |length| foreign_key("billing", &"s".repeat(length), "7");
        assert!(key(LONGEST_FOREIGN - 8).unwrap().len() <= 512);
        let error = key(LONGEST_FOREIGN - 7).unwrap_err().to_string();
        assert!(error.contains("501 bytes, at most 500"), "{error}");
        for (consumer, source, id) in [("a", "b", ""), ("a", "b\0", "c"), ("a\0", "b", "c")] {
            let error = foreign_key(consumer, source, id).unwrap_err();
            assert_eq!(error.kind(), buttress::StoreErrorKind::Invalid);
        }
    }

    #[test]
    fn different_texts_have_different_keys() {
        let key = |consumer, source, id| foreign_key(consumer, source, id).unwrap();
        assert_ne!(key("a", "b\u{1f}c", "d"), key("a", "b", "c\u{1f}d"));
        assert_ne!(key("a", "", "b"), key("a", "b", "b"));
    }
}
