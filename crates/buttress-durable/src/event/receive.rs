//! An event as the receipt of a consumer's inbox.

use std::future::Future;

use buttress::StoreError;

use super::envelope::Event;
use crate::outbox::{Inbox, Receipt};

impl<T> Event<T> {
    /// Records in `inbox`, inside the consumer's transaction, that `consumer` received this event. Do the work in the
    /// same transaction if the answer is [`Receipt::First`].
    ///
    /// The id is recorded together with the event's source, by [`Inbox::receive_from`]: two sources can use the same id.
    ///
    /// # Errors
    /// Returns the errors of the inbox.
    pub fn first<'a, Tx, I>(
        &self,
        tx: &'a mut Tx,
        inbox: &'a I,
        consumer: &'a str,
    ) -> impl Future<Output = Result<Receipt, StoreError>> + Send + use<'a, Tx, I, T>
    where
        Tx: Send,
        I: Inbox<Tx>,
    {
        let (source, id) = (self.source.to_string(), self.id.clone());
        async move { inbox.receive_from(tx, consumer, &source, &id.to_string()).await }
    }
}
