//! [`Relay`]: the side that publishes.

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

/// Publishes the messages of an outbox through a tower service, in order for each key, at least once.
///
/// Several relays, in one process or many, share the work. See the [module](super) for everything else.
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
    pub(super) layer: Name,
    pub(super) notifier: Arc<Notifier>,
    /// There is something to look for. The notifier knows it.
    pub(super) notified: Arc<Notify>,
    pub(super) shutting_down: AtomicBool,
    pub(super) shut: Notify,
    has_ended: AtomicBool,
    ended: Notify,
}

/// The end of a relay: that of its run, also where that is dropped, panics, or never begins.
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
    /// A relay of the messages in `outbox`. The publisher's response means that it took the message.
    ///
    /// # Errors
    /// A batch of 0 or above 10 000, a duration of zero or beyond 365 days, no attempts, an idle poll
    /// below the poll. A store that keeps receipts for less than [`Config::longest_retry`]: a message that
    /// comes again after its receipt was removed would run again.
    pub fn new(outbox: &Outbox<St>, publisher: P, config: Config) -> Result<Self, InvalidConfig> {
        config.check()?;
        let (kept, needed) = (outbox.store.receipts_kept(), config.longest_retry());
        if let Some(kept) = kept.filter(|kept| *kept < needed) {
            let bound = format!(
                "at least {needed:?}, the longest retry time of the relay (attempts, backoff, max-hint and \
                 publish-timeout)"
            );
            return Err(InvalidConfig::new("keep-receipts", format!("{kept:?}"), bound));
        }
        let id = RelayId::random(&config.rng);
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
    /// Judges the publisher's results by `classify`: a failure uses up an attempt, a result that is
    /// [`Ignored`](buttress::Outcome::Ignored) (the refusal of a layer on the way) does not, and both wait
    /// at least as long as their hint says. Defaults to every error being a failure.
    pub fn classify<D>(self, classify: D) -> Relay<St, P, D> {
        let Self { store, publisher, config, id, shared, ends, .. } = self;
        Relay { store, publisher, classify, config, id, shared, ends }
    }

    /// The operator's view.
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
    /// Runs the relay on a task of its own.
    pub fn spawn(self) -> RelayHandle {
        let handle = self.handle();
        let spawner = self.config.spawner.clone();
        spawner.spawn(self.run());
        handle
    }

    /// Runs the relay until its handle [shuts it down](RelayHandle::shut_down).
    ///
    /// # Cancel safety
    /// When dropped, messages under way may be delivered again, by whoever owns their partitions when
    /// the lease has run out; they are then suspect, and published one at a time.
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

/// The operator's view of a relay. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RelayHandle {
    shared: Arc<Shared>,
}

impl RelayHandle {
    /// Lets the relay look for messages at once.
    pub fn wake(&self) {
        self.shared.notified.notify_one();
    }

    /// The numbers as they are now; what was [`written`](Stats::written) and the counts are those of
    /// all relays of the same [`Outbox`] value. What waits in the store is told by
    /// [`Store::backlog`].
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.notifier.counts.snapshot()
    }

    pub(super) fn layer(&self) -> Name {
        self.shared.layer
    }

    /// Stops fetching, waits until what is under way has ended and is written down, and gives the
    /// partitions up, so that nothing of theirs is suspect. Ends also when the relay is dropped.
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
