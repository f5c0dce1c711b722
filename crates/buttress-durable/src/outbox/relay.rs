//! [`Relay`]: the publishing side of an outbox.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use buttress::{AnyError, Classify, InvalidConfig, Name};
use tokio::sync::Notify;
use tower::{BoxError, Service};

use super::config::Config;
use super::message::Message;
use super::running::Running;
use super::stats::Stats;
use super::store::{RelayId, Store};
use super::writer::{Notifier, Outbox};

/// A relay, which publishes the messages of an outbox through a tower service: at least once, and in order for
/// each key.
///
/// Several relays, in one process or in many, share the work. The [module](super) page has the
/// rules.
#[must_use = "a relay does nothing until it is run or spawned"]
pub struct Relay<St, P, C = AnyError> {
    pub(super) store: Arc<St>,
    pub(super) publisher: P,
    pub(super) classify: C,
    pub(super) config: Arc<Config>,
    pub(super) id: RelayId,
    pub(super) shared: Arc<Shared>,
    ends: Ends,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub layer: Name,
    pub notifier: Arc<Notifier>,
    /// Notified when there may be new messages. The notifier holds it weakly.
    pub notified: Arc<Notify>,
    pub shutting_down: AtomicBool,
    pub shut: Notify,
    has_ended: AtomicBool,
    ended: Notify,
}

/// Reports the end of the relay when dropped: after its run, or if the run is dropped, panics or
/// never begins.
struct Ends(Arc<Shared>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.has_ended.store(true, Ordering::Release);
        self.0.ended.notify_waiters();
    }
}

impl<St, P> Relay<St, P>
where
    St: Store + Clone,
    P: Service<Message>,
{
    /// Creates a relay of the messages in `outbox`. A response of the publisher means that it took
    /// the message.
    ///
    /// # Errors
    /// Returns [`InvalidConfig`] if a value is outside the bounds of its setter.
    ///
    /// Also returns it if the store keeps receipts for less than [`Config::longest_retry`]. A
    /// message that is delivered after its receipt was removed would run again.
    pub fn new(outbox: &Outbox<St>, publisher: P, config: Config) -> Result<Self, InvalidConfig> {
        config.common.named(config.check_with(outbox.store.receipts_kept()))?;
        config.common.check_clock(config.layer().as_str());
        let id = RelayId::random(&config.common.rng);
        let shared = Shared {
            layer: config.layer(),
            notifier: outbox.notifier.clone(),
            notified: outbox.notifier.subscribe(),
            shutting_down: AtomicBool::new(false),
            shut: Notify::new(),
            has_ended: AtomicBool::new(false),
            ended: Notify::new(),
        };
        let (store, shared) = (Arc::new(outbox.store.clone()), Arc::new(shared));
        let config = Arc::new(config);
        let ends = Ends(shared.clone());
        Ok(Self { store, publisher, classify: AnyError, config, id, shared, ends })
    }
}

impl<St, P, C> Relay<St, P, C> {
    /// Sets the classifier of the publisher's results. Default: every error is a failure.
    ///
    /// A failure uses up an attempt. An error that is [`Ignored`](buttress::Outcome::Ignored), such
    /// as a refusal by a layer, uses up none. In both cases the wait is at least the hint of the
    /// result.
    pub fn classify<D>(self, classify: D) -> Relay<St, P, D> {
        let Self { store, publisher, config, id, shared, ends, .. } = self;
        Relay { store, publisher, classify, config, id, shared, ends }
    }

    /// Returns the operator's handle of this relay.
    #[must_use]
    pub fn handle(&self) -> RelayHandle {
        RelayHandle { shared: self.shared.clone() }
    }
}

impl<St, P, C> Relay<St, P, C>
where
    St: Store,
    P: Service<Message> + Clone + Send + 'static,
    P::Error: Into<BoxError>,
    P::Future: Send + 'static,
    P::Response: Send,
    C: Classify<P::Response, P::Error> + Clone + Send + Sync + 'static,
{
    /// Spawns the relay on a separate task, and returns its handle.
    pub fn spawn(self) -> RelayHandle {
        let handle = self.handle();
        let spawner = self.config.common.spawner.clone();
        spawner.spawn(self.run());
        handle
    }

    /// Runs the relay until its handle [shuts it down](RelayHandle::shut_down).
    ///
    /// # Cancel safety
    /// If the future is dropped, messages in flight may be delivered again. The next owner of their
    /// partitions takes over when the lease has run out. It treats the fetched messages as suspect
    /// and publishes them one at a time.
    pub async fn run(self) {
        Running::new(self).run().await;
    }
}

impl<St, P, C> fmt::Debug for Relay<St, P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("id", &self.id)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// The operator's handle of a relay. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RelayHandle {
    shared: Arc<Shared>,
}

impl RelayHandle {
    /// Makes the relay poll for messages immediately.
    pub fn wake(&self) {
        self.shared.notified.notify_one();
    }

    /// Returns a snapshot of the counters. They count all relays of the same [`Outbox`] value.
    ///
    /// [`Store::backlog`] counts the messages that wait in the store.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.notifier.counts.snapshot()
    }

    pub(super) fn layer(&self) -> Name {
        self.shared.layer
    }

    /// Shuts the relay down, and waits for its end.
    ///
    /// The relay stops fetching, waits until the deliveries in flight have ended and are recorded,
    /// and releases its partitions. No message is suspect afterwards, unless the store fails to
    /// release the partitions. Also returns if the relay is dropped.
    pub async fn shut_down(&self) {
        let shared = &self.shared;
        shared.shutting_down.store(true, Ordering::Release);
        shared.shut.notify_one();
        loop {
            let ended = shared.ended.notified();
            if shared.has_ended.load(Ordering::Acquire) {
                return;
            }
            ended.await;
        }
    }
}
