//! A backend as the balancer sees it: a service that is always ready.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use buttress::balance::Tried;
use buttress::{Classify, Outcome};
use buttress_http::ByStatus;
use http::{Method, Response, Version};
use hyper::body::Incoming;
use tower::Service;

use super::{Attempt, Forwarder, Head, Outgoing, Retry};
use crate::answer::Failed;
use crate::numbers::{Counters, Ended, Tally};
use crate::upstream::Endpoint;

/// One backend.
#[derive(Clone, Debug)]
pub(crate) struct Backend(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `None` for an address that is no backend.
    endpoint: Option<Endpoint>,
    counters: Arc<Counters>,
}

/// A request on its way to a backend.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) forwarder: Arc<Forwarder>,
    pub(crate) head: Arc<Head>,
    pub(crate) body: Outgoing,
    pub(crate) http2: bool,
    /// The backends that the request has met.
    pub(crate) tried: Option<Tried>,
    /// The backend that could not be connected to.
    pub(crate) unsent: Option<Backend>,
}

/// What became of a call.
#[derive(Debug)]
pub(crate) enum Answer {
    Stream(Stream),
    /// The request failed because of its client.
    OfClient(Failed),
    /// The balancer had no other backend than the one that could not be connected to. It was not
    /// asked again.
    Skipped,
}

/// The body of a backend's answer.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) body: Incoming,
    /// The request, in the numbers of the backend.
    pub(crate) tally: Tally,
}

/// A call without an answer.
#[derive(Debug)]
pub(crate) enum Lost {
    /// The backend failed, and may have seen the request.
    Failed(Failed),
    /// Nothing was sent.
    Unsent { failed: Failed, backend: Backend },
    /// No backend takes the request.
    Refused(buttress::Error),
}

impl Lost {
    pub(super) fn failed(self) -> Failed {
        match self {
            Self::Failed(failed) | Self::Unsent { failed, .. } => failed,
            Self::Refused(error) => Failed::Refused(error),
        }
    }
}

impl From<buttress::Error> for Lost {
    fn from(error: buttress::Error) -> Self {
        tracing::debug!(%error, "no backend takes a request");
        Self::Refused(error)
    }
}

/// Returns the body of an answer, or the failure of its client. `None` if no backend was asked.
pub(super) fn opened(response: Response<Answer>) -> Option<Result<Response<Stream>, Failed>> {
    let (head, answer) = response.into_parts();
    match answer {
        Answer::Stream(stream) => Some(Ok(Response::from_parts(head, stream))),
        Answer::OfClient(failed) => Some(Err(failed)),
        Answer::Skipped => None,
    }
}

/// Judges what a call says about its backend. A failure of the client says nothing.
#[derive(Clone, Debug)]
pub(crate) struct Judge(ByStatus);

impl Default for Judge {
    fn default() -> Self {
        Self(ByStatus::new())
    }
}

impl Classify<Response<Answer>, Lost> for Judge {
    fn classify(&self, result: &Result<Response<Answer>, Lost>) -> Outcome {
        match result.as_ref().map(Response::body) {
            Ok(Answer::OfClient(_) | Answer::Skipped) | Err(Lost::Refused(_)) => Outcome::Ignored,
            Ok(Answer::Stream(_)) | Err(_) => self.0.classify(result),
        }
    }
}

impl Backend {
    pub(crate) fn new(endpoint: Option<Endpoint>, counters: Arc<Counters>) -> Self {
        Self(Arc::new(Inner { endpoint, counters }))
    }

    async fn run(self, call: Call) -> Result<Response<Answer>, Lost> {
        if call.unsent.is_some_and(|unsent| Arc::ptr_eq(&unsent.0, &self.0)) {
            return Ok(Response::new(Answer::Skipped));
        }
        let mut tally = Tally::begin(&self.0.counters);
        let (forwarder, head, body) = (&*call.forwarder, call.head, call.body);
        let uri = self.0.endpoint.as_ref().and_then(|endpoint| endpoint.uri(&head.target));
        let Some(uri) = uri else {
            tally.end(Ended::Failed);
            return Err(Lost::Failed(Failed::BadAnswer));
        };
        let (client, version) = if call.http2 {
            (&forwarder.http2, Version::HTTP_2)
        } else {
            (&forwarder.http1, Version::HTTP_11)
        };
        let is_safe = matches!(head.method, Method::GET | Method::HEAD) && body.is_empty();
        let spare = (is_safe && !call.http2).then(|| (uri.clone(), Arc::clone(&head)));
        let mut result = forwarder.attempt(client, uri, version, head, body.clone()).await;
        if let (Err(Attempt { retry: Retry::Stale, .. }), Some((uri, head))) = (&result, spare) {
            result = forwarder.attempt(&forwarder.fresh, uri, version, head, body).await;
        }
        let Attempt { failed, retry } = match result {
            Ok(response) => {
                return Ok(response.map(|body| Answer::Stream(Stream { body, tally })));
            }
            Err(attempt) => attempt,
        };
        let ended = failed.ended();
        tally.end(ended);
        if ended != Ended::Failed {
            return Ok(Response::new(Answer::OfClient(failed)));
        }
        Err(match retry {
            Retry::Unsent => Lost::Unsent { failed, backend: self },
            Retry::Stale | Retry::Never => Lost::Failed(failed),
        })
    }
}

impl Service<Call> for Backend {
    type Response = Response<Answer>;
    type Error = Lost;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, Lost>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        Box::pin(self.clone().run(call))
    }
}
