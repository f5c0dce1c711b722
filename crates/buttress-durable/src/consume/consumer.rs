//! [`Consumer`]: runs a handler over a source.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use buttress::{AnyError, Classify, InvalidConfig, Name, StoreError};
use tokio::sync::{oneshot, watch};
use tower::{BoxError, Service};

use super::config::Config;
use super::dead_letters::DeadLetters;
use super::delivery::Delivery;
use super::handle::ConsumerHandle;
use super::letter::Select;
use super::running::Running;
use super::source::Source;
use super::stats::Stats;
use crate::alive::Alive;

/// A consumer, which runs a handler over the messages of a [`Source`]: at least once, and in order for each key. The
/// [module](super) page has the rules.
///
/// A consumer runs only with dead letters, because a message that cannot be handled must be kept.
#[must_use = "a consumer does nothing until it is run or spawned"]
pub struct Consumer<Src, H, C = AnyError, D = ()> {
    pub(super) source: Arc<Src>,
    pub(super) handler: H,
    pub(super) classify: C,
    pub(super) letters: Arc<D>,
    pub(super) config: Arc<Config>,
    pub(super) shared: Arc<Shared>,
    /// Dropped with the consumer, which the handles see.
    pub(super) alive: watch::Sender<()>,
}

/// The state that a consumer and its handles share.
#[derive(Debug)]
pub(super) struct Shared {
    pub layer: Name,
    control: Mutex<Control>,
}

/// The commands of operators, and the numbers that they can read.
#[derive(Debug, Default)]
pub(super) struct Control {
    pub paused: bool,
    pub shutting_down: bool,
    pub replays: VecDeque<ReplayRequest>,
    pub stats: Stats,
    /// The operations that fail now, and their last errors.
    pub troubles: Vec<(&'static str, String)>,
    pub waker: Option<Waker>,
}

/// A request to replay dead letters.
#[derive(Debug)]
pub(super) struct ReplayRequest {
    pub select: Select,
    pub answer: oneshot::Sender<Result<usize, StoreError>>,
}

impl Shared {
    pub(super) fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the wishes, and wakes the consumer.
    pub(super) fn ask(&self, change: impl FnOnce(&mut Control)) {
        let mut control = self.control();
        change(&mut control);
        let waker = control.waker.take();
        drop(control);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<Src: Source, H> Consumer<Src, H> {
    /// Creates a consumer of `source`. A response of the handler means that the message is handled.
    ///
    /// # Errors
    /// Returns [`InvalidConfig`] if a value is outside the bounds of its setter.
    pub fn new(source: Src, handler: H, config: Config) -> Result<Self, InvalidConfig> {
        config.common.named(config.check())?;
        config.common.check_clock(config.layer().as_str());
        let shared = Shared { layer: config.layer(), control: Mutex::default() };
        Ok(Self {
            source: Arc::new(source),
            handler,
            classify: AnyError,
            letters: Arc::new(()),
            config: Arc::new(config),
            shared: Arc::new(shared),
            alive: watch::Sender::new(()),
        })
    }
}

impl<Src, H, C, D> Consumer<Src, H, C, D> {
    /// Sets the classifier of the handler's results. Default: every error is a failure.
    ///
    /// A failure uses up an attempt. An error that is [`Ignored`](buttress::Outcome::Ignored), such as a refusal by a
    /// layer, uses up none. In both cases the wait is at least the hint of the result. An error that is a success
    /// means that the message is handled.
    pub fn classify<D2>(self, classify: D2) -> Consumer<Src, H, D2, D> {
        let Self { source, handler, letters, config, shared, alive, .. } = self;
        Consumer { source, handler, classify, letters, config, shared, alive }
    }

    /// Sets where dead letters are kept.
    pub fn dead_letters<L: DeadLetters>(self, letters: L) -> Consumer<Src, H, C, L> {
        let Self { source, handler, classify, config, shared, alive, .. } = self;
        Consumer { source, handler, classify, letters: Arc::new(letters), config, shared, alive }
    }

    /// Returns the operator's handle of this consumer.
    #[must_use]
    pub fn handle(&self) -> ConsumerHandle {
        ConsumerHandle::new(self.shared.clone(), Alive::of(&self.alive))
    }
}

impl<Src, H, C, D> Consumer<Src, H, C, D>
where
    Src: Source,
    H: Service<Delivery, Response: Send, Error: Into<BoxError>, Future: Send + 'static>
        + Clone
        + Send
        + 'static,
    C: Classify<H::Response, H::Error> + Clone + Send + Sync + 'static,
    D: DeadLetters,
{
    /// Spawns the consumer on a separate task, and returns its handle.
    pub fn spawn(self) -> ConsumerHandle {
        let handle = self.handle();
        let spawner = self.config.common.spawner.clone();
        spawner.spawn(self.run());
        handle
    }

    /// Runs the consumer until its handle [shuts it down](ConsumerHandle::shut_down).
    ///
    /// # Cancel safety
    /// If the future is dropped, handlers are dropped too, and nothing is settled. The transport delivers the held
    /// messages again when it sees that the consumer is gone.
    pub async fn run(self) {
        Running::new(self).run().await;
    }
}

impl<Src, H, C, D> fmt::Debug for Consumer<Src, H, C, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("config", &self.config).finish_non_exhaustive()
    }
}
