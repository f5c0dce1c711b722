//! [`Outbox`]: the writing side of an outbox.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use buttress::context::Context;
use buttress::{Rng, StoreError};
use tokio::sync::Notify;

use super::message::{MessageId, NewMessage};
use super::stats::Counts;
use super::store::Write;
use crate::setters::setters;

/// The state that the writers and the relays of one outbox share in one process.
#[derive(Debug, Default)]
pub(super) struct Notifier {
    /// One entry per relay. It keeps a notification for a relay that does not wait at the moment. A
    /// writer does not know which relay owns the key, so it notifies all of them.
    relays: Mutex<Arc<[Weak<Notify>]>>,
    pub counts: Arc<Counts>,
}

impl Notifier {
    /// Registers a new relay. Returns the subscription to the notifier. It lasts as long as the relay keeps it.
    pub(super) fn subscribe(&self) -> Arc<Notify> {
        let notified = Arc::new(Notify::new());
        let mut relays = self.relays.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = relays.iter().filter(|relay| relay.strong_count() > 0).cloned();
        *relays = alive.chain([Arc::downgrade(&notified)]).collect();
        notified
    }

    fn notify(&self) {
        let relays = self.relays.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // A waker is foreign code, so no lock is held here.
        for relay in relays.iter().filter_map(Weak::upgrade) {
            relay.notify_one();
        }
    }
}

/// A writer of messages in the caller's transactions. Cheap to clone if the store is.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use buttress_durable::outbox::{Config, MemoryStore, Message, Outbox, Relay};
/// use tower::{BoxError, service_fn};
///
/// let store = MemoryStore::new(buttress::Clock::default());
/// let outbox = Outbox::new(store.clone());
/// let publish = service_fn(async |message: Message| {
///     assert_eq!(message.payload, b"paid");
///     Ok::<(), BoxError>(())
/// });
/// let relay = Relay::new(&outbox, publish, Config::new())?.spawn();
///
/// let mut tx = store.begin();
/// // ... the change that the message describes, in the same transaction ...
/// let written = outbox.write(&mut tx, outbox.message("order-7", "paid")).await?;
/// tx.commit();
/// written.committed();
/// while relay.stats().relayed == 0 {
///     tokio::task::yield_now().await;
/// }
/// # Ok(())
/// # }
/// ```
pub struct Outbox<St> {
    pub(super) store: St,
    pub(super) notifier: Arc<Notifier>,
    rng: Rng,
    strict_order: bool,
}

impl<St> Outbox<St> {
    /// Creates an outbox in `store`.
    pub fn new(store: St) -> Self {
        Self { store, notifier: Arc::default(), rng: Rng::default(), strict_order: false }
    }

    setters! {
        /// Sets the source of message ids. Default: a source with a different seed in every process.
        #[must_use]
        rng(rng: Rng);

        /// Sets whether a write locks the key of its message until the transaction ends. Default: off.
        ///
        /// With the lock, overlapping transactions on one key come in the order of their commits.
        /// Without it, only transactions that do not overlap are in order. The lock makes the writers
        /// of a key wait for each other.
        #[must_use]
        strict_order(strict: bool);
    }

    /// Creates a message with a new random id. The headers `x-correlation-id` and `traceparent` carry the current
    /// [context](buttress::context), if it has a correlation id and a trace. The `traceparent` has its own parent id.
    pub fn message(&self, key: impl Into<String>, payload: impl Into<Vec<u8>>) -> NewMessage {
        let mut message = NewMessage::new(MessageId::random(&self.rng), key, payload);
        Context::peek(|context| {
            let id = context.correlation().map(|id| ("x-correlation-id", id.to_string()));
            let trace = context.trace().map(|trace| ("traceparent", trace.child().to_string()));
            for (name, value) in id.into_iter().chain(trace) {
                message.headers.push((name.to_owned(), value));
            }
        });
        message
    }

    /// Returns the store.
    pub fn store(&self) -> &St {
        &self.store
    }

    /// Writes `message` in the transaction `tx`. A relay publishes the message if the transaction
    /// commits.
    ///
    /// # Errors
    /// Returns `Invalid` if the message is too large or its key is empty; nothing was done then.
    /// After any other error, roll the transaction back.
    pub async fn write<Tx>(&self, tx: &mut Tx, message: NewMessage) -> Result<Written, StoreError>
    where
        St: Write<Tx>,
    {
        if self.strict_order {
            self.store.lock_key(tx, &message.key).await?;
        }
        self.store.write(tx, &message).await?;
        Ok(Written { id: message.id, notifier: self.notifier.clone() })
    }
}

impl<St: Clone> Clone for Outbox<St> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            notifier: self.notifier.clone(),
            rng: self.rng.clone(),
            strict_order: self.strict_order,
        }
    }
}

impl<St: fmt::Debug> fmt::Debug for Outbox<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("store", &self.store)
            .field("strict_order", &self.strict_order)
            .finish_non_exhaustive()
    }
}

/// A message that exists once its transaction commits.
#[must_use = "call `committed` after the commit, so that the relay need not wait for its next poll"]
#[derive(Debug)]
pub struct Written {
    id: MessageId,
    notifier: Arc<Notifier>,
}

impl Written {
    /// Returns the id of the message.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// Reports that the transaction has committed. The relays of this [`Outbox`] value then poll
    /// immediately.
    ///
    /// A caller that does not call this delays the message until the next poll. No message is lost.
    pub fn committed(self) {
        self.notifier.counts.update(|stats| stats.written += 1);
        self.notifier.notify();
    }
}
