//! [`Delivery`]: a message as the handler of a consumer sees it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use buttress::{Codec, Format, StoreError};

use super::content::Content;
use crate::event::{DecodeError, Decoded, DomainEvent, Event};
use crate::outbox::{Inbox, Message, Receipt};

/// A message on its way to the handler of a consumer. Cheap to clone.
#[derive(Clone)]
pub struct Delivery {
    pub(super) content: Arc<Content>,
    pub(super) attempt: u32,
    pub(super) replays: u32,
}

impl Delivery {
    /// Returns the key. Messages of one key are handled in order.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.content.key
    }

    /// Returns the destination that the publisher named.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.content.topic
    }

    /// Returns the content of the message.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.content.payload
    }

    /// Returns all headers, in their order. Attributes of an event have the names `ce-*`.
    #[must_use]
    pub fn headers(&self) -> &[(String, String)] {
        &self.content.headers
    }

    /// Returns the first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// Returns the number of this attempt. The first is 1. The count begins again in another process, and at a
    /// replay.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns how many times the message was replayed as a dead letter. 0 for a message that the transport delivered.
    #[must_use]
    pub const fn replays(&self) -> u32 {
        self.replays
    }

    /// Reads the envelope of the event. Leaves the data encoded.
    ///
    /// # Errors
    /// Returns [`DecodeError`] if the headers do not belong to an event. The consumer makes a dead letter of a
    /// handler's error that is, or is caused by, a [`DecodeError`], without another attempt.
    pub fn envelope(&self) -> Result<Event<Vec<u8>>, DecodeError> {
        Event::read(self.content.headers.clone(), self.content.payload.clone())
    }

    /// Decodes the event.
    ///
    /// # Errors
    /// Returns [`DecodeError`] if the headers or the data do not belong to an event.
    pub fn event<T, C>(&self, codec: &C) -> Result<Decoded<T>, DecodeError>
    where
        T: DomainEvent + Clone,
        C: Codec<T> + Format<Encoded = Vec<u8>>,
    {
        self.envelope()?.decode(codec)
    }

    /// Records in `inbox`, inside the handler's transaction, that `consumer` received the event. Do the work in the
    /// same transaction if the answer is [`Receipt::First`]. [`Event::first`] does the same for a decoded event.
    ///
    /// # Errors
    /// Returns `Invalid`, with the [`DecodeError`] as its source, if the message is not an event. A plain
    /// [`Outbox::message`](crate::outbox::Outbox::message) is none. Returns the errors of the inbox.
    pub fn first<'a, Tx, I>(
        &self,
        tx: &'a mut Tx,
        inbox: &'a I,
        consumer: &'a str,
    ) -> impl Future<Output = Result<Receipt, StoreError>> + Send + use<'a, Tx, I>
    where
        Tx: Send,
        I: Inbox<Tx>,
    {
        let event = Event::read(self.content.headers.clone(), Vec::new());
        async move {
            let event = event.map_err(|error| {
                StoreError::invalid("receiving a message that is not an event").with_source(error)
            })?;
            event.first(tx, inbox, consumer).await
        }
    }
}

/// The first attempt at a message, for tests of a handler.
impl From<Message> for Delivery {
    fn from(message: Message) -> Self {
        Self { content: Arc::new(message.into()), attempt: 1, replays: 0 }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("topic", &self.topic())
            .field("key", &self.key())
            .field("bytes", &self.payload().len())
            .field("attempt", &self.attempt)
            .field("replays", &self.replays)
            .finish_non_exhaustive()
    }
}
