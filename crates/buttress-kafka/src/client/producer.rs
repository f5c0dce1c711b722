//! [`Producer`]: sends messages, and returns the answers of the brokers.

use std::borrow::Cow;

use rdkafka::ClientContext;
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use super::error::Error;
use super::{Properties, config, message};

/// A client that sends messages, with its thread. `None` only while it is dropped.
pub(crate) struct Producer(Option<ThreadedProducer<Confirmations>>);

/// A message to send.
pub(crate) struct Outgoing<'a> {
    pub topic: &'a str,
    /// `None` for any partition.
    pub key: Option<&'a [u8]>,
    pub payload: &'a [u8],
    pub headers: &'a [(Cow<'a, str>, Cow<'a, str>)],
}

/// The partition and the offset of a confirmed message.
pub(crate) type Confirmation = Result<(i32, i64), Error>;

impl Producer {
    pub(crate) fn new(properties: &Properties) -> Result<Self, Error> {
        Ok(Self(Some(config(properties).create_with_context(Confirmations)?)))
    }

    /// Puts a copy of the message into the queue of the client, without waiting.
    ///
    /// The receiver gets the answer of the brokers, or the error of the client. It is closed without an answer only if the
    /// client ends.
    pub(crate) fn send(
        &self,
        message: &Outgoing<'_>,
    ) -> Result<oneshot::Receiver<Confirmation>, Error> {
        let Some(producer) = &self.0 else { return Err(Error::ended()) };
        let (confirm, confirmed) = oneshot::channel();
        let record = BaseRecord::with_opaque_to(message.topic, Box::new(confirm));
        let headers = message::owned(message.headers);
        let mut record = record.payload(message.payload).headers(headers);
        record.key = message.key;
        producer.send(record).map_err(|(error, _)| Error::from(error))?;
        Ok(confirmed)
    }

    /// Returns `true` if the client has failed for good.
    pub(crate) fn has_failed(&self) -> bool {
        self.0.as_ref().is_some_and(|producer| producer.client().fatal_error().is_some())
    }
}

impl Drop for Producer {
    /// Ends the client on a thread, because it waits for its own threads.
    fn drop(&mut self) {
        let producer = self.0.take();
        let ending = std::thread::Builder::new().name("kafka-end".to_owned());
        // Without a thread the client ends here.
        let _ended = ending.spawn(move || drop(producer));
    }
}

/// Passes the confirmations on.
struct Confirmations;

impl ClientContext for Confirmations {}

impl ProducerContext for Confirmations {
    type DeliveryOpaque = Box<oneshot::Sender<Confirmation>>;

    fn delivery(&self, result: &DeliveryResult<'_>, confirm: Self::DeliveryOpaque) {
        let answer = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.clone().into()),
        };
        // The caller may have dropped its future.
        let _gone = confirm.send(answer);
    }
}
