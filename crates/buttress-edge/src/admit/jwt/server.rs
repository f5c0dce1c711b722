//! The keys of a key server: the shell around [`State`].

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buttress::{Clock, Spawner};
use bytes::Bytes;
use tokio::sync::watch;
use tower::BoxError;

use super::keys::KeySet;
use super::state::{Decision, State, Step};
use crate::race::first;

/// The longest time of a fetch.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

/// The longest document in bytes.
pub(super) const LONGEST: usize = 256 * 1024;

/// A function that fetches the JWKS document of a key server. A closure that returns a future implements it.
///
/// [`Jwt`](super::Jwt) limits a fetch to 5 seconds, begins at most one every 10 seconds, and refuses a document above
/// 256 KiB. So an implementation needs no limit, except for the bytes that it reads into memory.
pub trait FetchKeys: Send + Sync {
    /// Returns the document. An error is logged: it must have no secret.
    ///
    /// # Cancel safety
    /// The future is dropped after 5 seconds.
    fn fetch(&self) -> Fetching;
}

/// The future of [`FetchKeys::fetch`].
pub type Fetching = Pin<Box<dyn Future<Output = Result<Bytes, BoxError>> + Send>>;

impl<F, Fut> FetchKeys for F
where
    F: Fn() -> Fut + Send + Sync,
    Fut: Future<Output = Result<Bytes, BoxError>> + Send + 'static,
{
    fn fetch(&self) -> Fetching {
        Box::pin(self())
    }
}

/// The keys of a key server, shared by all policies that trust it.
pub(super) struct KeyServer {
    state: Mutex<State>,
    /// How many fetches have ended.
    ended: watch::Sender<u64>,
    fetch: Box<dyn FetchKeys>,
}

impl fmt::Debug for KeyServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyServer").finish_non_exhaustive()
    }
}

/// The keys for a request, or what it does without them.
pub(super) enum Answer {
    Keys(Arc<KeySet>),
    Wait(Waiting),
    Unavailable(Duration),
    Unknown,
}

/// Waits for the end of a fetch.
pub(super) struct Waiting(watch::Receiver<u64>);

impl Waiting {
    pub(super) async fn ended(mut self) {
        // An error means that the key server is gone: nothing is left to wait for.
        drop(self.0.changed().await);
    }
}

impl KeyServer {
    pub(super) fn new(fetch: impl FetchKeys + 'static) -> Self {
        Self { state: Mutex::default(), ended: watch::Sender::new(0), fetch: Box::new(fetch) }
    }

    /// Returns the keys for a request.
    pub(super) fn ask(self: &Arc<Self>, clock: &Clock, has_waited: bool) -> Answer {
        self.decide(clock, |state| state.ask(clock.now(), has_waited))
    }

    /// Returns the step of a request whose key is not among the keys.
    pub(super) fn unknown_key(self: &Arc<Self>, clock: &Clock, has_waited: bool) -> Answer {
        self.decide(clock, |state| state.unknown_key(clock.now(), has_waited))
    }

    fn decide(
        self: &Arc<Self>,
        clock: &Clock,
        decide: impl FnOnce(&mut State) -> Decision,
    ) -> Answer {
        let mut state = self.lock();
        let Decision { step, fetch } = decide(&mut state);
        // Under the lock, so that the end of the fetch in flight is not missed.
        let ended = self.ended.subscribe();
        drop(state);
        if fetch {
            let attempt = Attempt { server: Arc::clone(self), clock: clock.clone(), keys: None };
            Spawner::default().spawn(attempt.run());
        }
        match step {
            Step::Use(keys) => Answer::Keys(keys),
            Step::Wait => Answer::Wait(Waiting(ended)),
            Step::Unavailable(wait) => Answer::Unavailable(wait),
            Step::Unknown => Answer::Unknown,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fetch in flight. It ends also if its task is dropped or panics.
struct Attempt {
    server: Arc<KeyServer>,
    clock: Clock,
    keys: Option<KeySet>,
}

impl Attempt {
    async fn run(mut self) {
        let fetch = pin!(self.server.fetch.fetch());
        let limit = pin!(self.clock.sleep(LIMIT));
        let fetched = match first(fetch, limit).await {
            None => Err(BoxError::from("it did not answer within 5 seconds")),
            Some(Ok(document)) if document.len() > LONGEST => {
                Err("the document is longer than 256 KiB".into())
            }
            Some(Ok(document)) => KeySet::parse(&document).map_err(BoxError::from),
            Some(Err(error)) => Err(error),
        };
        match fetched {
            Ok(keys) => {
                tracing::debug!(keys = keys.len(), "the keys of tokens were fetched");
                self.keys = Some(keys);
            }
            Err(error) => tracing::warn!(error, "the keys of tokens cannot be fetched"),
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.server.lock().ended(self.clock.now(), self.keys.take());
        self.server.ended.send_modify(|ended| *ended = ended.wrapping_add(1));
    }
}
