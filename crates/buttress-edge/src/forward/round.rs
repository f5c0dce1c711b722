//! A round of attempts: one, and another one if nothing was sent. The retry of a route makes rounds.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use buttress::InvalidConfig;
use buttress::balance::Tried;
use buttress::retry::{Budget, CloneRequest, Config, RetryLayer};
use buttress_http::RetryableStatus;
use buttress_http::idempotency_key::IDEMPOTENCY_KEY;
use http::{HeaderMap, Method, Response};
use tower::Service;

use super::backend::opened;
use super::outgoing::Outgoing;
use super::source::Source;
use super::spare::Spare;
use super::{Call, Forwarder, Head, Lost, Sending, Stream};
use crate::answer::Failed;
use crate::route_limits::OfBackends;
use crate::upstream::Upstream;

/// The retry of a route.
pub(crate) type Again = RetryLayer<RetryableStatus<OfBackends>, Repeats>;

/// Returns the retry of a route. Without a budget in its configuration it may repeat a fifth of the requests, and 3 a
/// second.
pub(crate) fn again(config: Config) -> Result<Again, InvalidConfig> {
    let mut layer = RetryLayer::new(config.clone())?;
    if layer.handle().balance().is_none() {
        layer = RetryLayer::new(config.budget(Budget::new(0.2, 3)?))?;
    }
    let judge = RetryableStatus::route().errors(OfBackends);
    Ok(layer.classify(judge).clone_with(Repeats))
}

/// A request that one or more rounds send. Clones are the same request.
#[derive(Clone, Debug)]
pub(crate) struct Round(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    forwarder: Arc<Forwarder>,
    upstream: Arc<Upstream>,
    /// `None` once an attempt has it.
    head: Mutex<Option<Head>>,
    /// The head of further attempts. `None` if there can be none.
    spare: Option<Spare>,
    /// Whether the request may be sent once more if it met a stale connection.
    is_safe: bool,
    body: Source,
    /// The backends that the request has met. `None` if there is one backend.
    tried: Option<Tried>,
    /// Whether another round may follow although a backend can have seen the request.
    repeats_seen: bool,
    contact: Arc<Contact>,
}

/// Whether a backend can have seen a request.
#[derive(Debug, Default)]
pub(crate) struct Contact(AtomicBool);

impl Contact {
    pub(crate) fn was_made(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Round {
    /// Creates the first round of a request. Without a retry it is the only one.
    pub(super) fn new(
        forwarder: &Arc<Forwarder>,
        sending: &Sending,
        head: Head,
        body: Outgoing,
        contact: Option<Arc<Contact>>,
    ) -> Self {
        let Sending { upstream, again, replay_buffer, honours_keys } = sending;
        let is_safe = matches!(head.method, Method::GET | Method::HEAD)
            && body.is_empty()
            && !upstream.is_http2();
        let tried = upstream.has_others().then(Tried::new);
        let has_attempts = is_safe || again.is_some() || tried.is_some();
        Self(Arc::new(Shared {
            forwarder: Arc::clone(forwarder),
            upstream: Arc::clone(upstream),
            spare: has_attempts.then(|| Spare::of(&head)),
            is_safe,
            body: match again {
                None => Source::once(body),
                Some(_) => Source::recorded(body, *replay_buffer),
            },
            tried,
            repeats_seen: may_repeat(&head.method, &head.headers, *honours_keys),
            contact: contact.unwrap_or_default(),
            head: Mutex::new(Some(head)),
        }))
    }

    pub(super) fn forwarder(&self) -> &Forwarder {
        &self.0.forwarder
    }

    /// Returns how many requests a connection of HTTP/2 carries. `None` for HTTP/1.1.
    pub(super) fn streams(&self) -> Option<u32> {
        self.0.upstream.streams()
    }

    pub(super) fn is_safe(&self) -> bool {
        self.0.is_safe
    }

    /// Returns the state of the body, whichever attempt sends it.
    pub(super) fn progress(&self) -> &Outgoing {
        self.0.body.progress()
    }

    pub(super) fn tried(&self) -> Option<&Tried> {
        self.0.tried.as_ref()
    }

    /// Returns the head of the next attempt.
    pub(super) fn head(&self) -> Option<Head> {
        let first = self.0.head.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.or_else(|| self.0.spare.as_ref().map(Spare::head))
    }

    pub(super) async fn run(self) -> Result<Response<Stream>, Failed> {
        let result = self.attempts().await;
        if may_be_seen(&result) {
            // The flag orders no other memory: the round ends before anything reads it.
            self.0.contact.0.store(true, Ordering::Relaxed);
        }
        result
    }

    async fn attempts(&self) -> Result<Response<Stream>, Failed> {
        // The first failure, and the backend that could not be connected to.
        let mut before = None;
        loop {
            let (failed, unsent) = match before.take() {
                Some((failed, backend)) => (Some(failed), Some(backend)),
                None => (None, None),
            };
            let Some(body) = self.0.body.take() else {
                return Err(failed.unwrap_or(Failed::BodyBroken));
            };
            let call = Call { round: self.clone(), body, unsent };
            let lost = match self.0.upstream.call(call).await {
                Ok(response) => {
                    let opened = opened(response);
                    return opened.ok_or_else(|| failed.unwrap_or(Failed::Unreachable))?;
                }
                Err(lost) => lost,
            };
            match (failed, lost) {
                (None, Lost::Unsent { failed, backend })
                    if self.0.tried.is_some() && self.progress().is_unread() =>
                {
                    before = Some((failed, backend));
                }
                (Some(failed), Lost::Refused(_)) => return Err(failed),
                (_, lost) => return Err(lost.failed()),
            }
        }
    }
}

/// Whether a backend may see a request twice. A backend can ignore the key of a client, so a route has to say that
/// its backends honour it.
pub(super) fn may_repeat(method: &Method, headers: &HeaderMap, honours_keys: bool) -> bool {
    let has_key = || headers.get(IDEMPOTENCY_KEY).is_some_and(|key| !key.is_empty());
    method.is_idempotent() || (honours_keys && has_key())
}

/// Repeats a round while its body can be sent, and its request may be seen twice or was not seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Repeats;

impl CloneRequest<Round> for Repeats {
    fn clone_request(&self, round: &Round) -> Option<Round> {
        Some(round.clone())
    }

    fn is_repeatable(&self, copy: &Round) -> bool {
        // The round has ended, and its end happens before this call.
        let may_repeat = copy.0.repeats_seen || !copy.0.contact.was_made();
        may_repeat && copy.0.body.can_repeat()
    }

    fn commit(&self, copy: &Round) -> bool {
        copy.0.body.reserve()
    }
}

/// Makes rounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds;

/// Whether a backend can have seen the request of a round.
fn may_be_seen(result: &Result<Response<Stream>, Failed>) -> bool {
    !result.as_ref().is_err_and(is_unseen)
}

/// Whether no backend has seen the request that failed.
pub(super) fn is_unseen(failed: &Failed) -> bool {
    matches!(
        failed,
        Failed::Unreachable
            | Failed::Exhausted
            | Failed::ConnectTimedOut
            | Failed::Declined
            | Failed::Refused(_)
    )
}

impl Service<Round> for Rounds {
    type Response = Response<Stream>;
    type Error = Failed;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Stream>, Failed>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, round: Round) -> Self::Future {
        Box::pin(round.run())
    }
}
