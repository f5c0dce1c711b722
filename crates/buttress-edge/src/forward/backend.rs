//! A backend as the balancer sees it: a service that is always ready.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use buttress::balance::Tried;
use buttress::{Classify, Outcome};
use buttress_http::ByStatus;
use http::Response;
use tower::Service;

use super::attempt::{Attempt, Retry, Via};
use super::digest::Observer;
use super::lanes::{Lane, Streams};
use super::outgoing::Phase;
use super::round::Round;
use super::source::Sent;
use crate::Body;
use crate::answer::Failed;
use crate::numbers::{Counters, Ended, Tally};
use crate::upstream::Endpoint;

/// One backend.
#[derive(Clone, Debug)]
pub(crate) struct Backend(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `None` for an address that is not a backend.
    endpoint: Option<Endpoint>,
    counters: Arc<Counters>,
    /// Of HTTP/2.
    streams: Streams,
}

/// A request on its way to a backend.
#[derive(Debug)]
pub(crate) struct Call {
    pub(super) round: Round,
    pub(super) body: Sent,
    /// The backend that could not be connected to.
    pub(super) unsent: Option<Backend>,
}

impl Call {
    /// Returns the backends that the request has met.
    pub(crate) fn tried(&self) -> Option<&Tried> {
        self.round.tried()
    }
}

/// The result of a call.
#[derive(Debug)]
pub(crate) enum Answer {
    Stream(Stream),
    /// The request failed, and the failure says nothing about the backend: the client or the deadline of the request
    /// ended it.
    Unjudged(Failed),
    /// The balancer had no other backend than the one that could not be connected to. It was not
    /// asked again.
    Skipped,
}

/// The body of an answer.
#[derive(Debug)]
pub(crate) struct Stream {
    pub body: Body,
    /// The request, in the numbers of the backend. `None` if a service of this process answered.
    pub tally: Option<Tally>,
    /// The stream of HTTP/2.
    pub lane: Option<Lane>,
    /// Set if the answer is compared with the answer of a mirror.
    pub observer: OnceLock<Observer>,
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

/// Returns the body of an answer, or the failure of its request. `None` if no backend was asked.
pub(super) fn opened(response: Response<Answer>) -> Option<Result<Response<Stream>, Failed>> {
    let (head, answer) = response.into_parts();
    match answer {
        Answer::Stream(stream) => Some(Ok(Response::from_parts(head, stream))),
        Answer::Unjudged(failed) => Some(Err(failed)),
        Answer::Skipped => None,
    }
}

/// Judges what a call says about its backend.
#[derive(Clone, Debug)]
pub(crate) struct Judge(ByStatus);

impl Default for Judge {
    fn default() -> Self {
        Self(ByStatus::route())
    }
}

impl Classify<Response<Answer>, Lost> for Judge {
    fn classify(&self, result: &Result<Response<Answer>, Lost>) -> Outcome {
        match result.as_ref().map(Response::body) {
            Ok(Answer::Unjudged(_) | Answer::Skipped) | Err(Lost::Refused(_)) => Outcome::Ignored,
            Ok(Answer::Stream(_)) | Err(_) => self.0.classify(result),
        }
    }

    fn is_refusal(&self, result: &Result<Response<Answer>, Lost>) -> bool {
        let body = result.as_ref().map(Response::body);
        !matches!(body, Ok(Answer::Unjudged(_) | Answer::Skipped)) && self.0.is_refusal(result)
    }
}

impl Backend {
    pub(crate) fn new(endpoint: Option<Endpoint>, counters: Arc<Counters>) -> Self {
        Self(Arc::new(Inner { endpoint, counters, streams: Streams::default() }))
    }

    async fn run(self, call: Call) -> Result<Response<Answer>, Lost> {
        let Call { round, body, unsent } = call;
        if unsent.is_some_and(|unsent| Arc::ptr_eq(&unsent.0, &self.0)) {
            return Ok(Response::new(Answer::Skipped));
        }
        let _received = Received(&round);
        let mut tally = Tally::begin(&self.0.counters);
        let (forwarder, progress) = (round.forwarder(), round.progress());
        let lane = round.streams().map(|limit| self.0.streams.take(limit));
        let mut via = lane.as_ref().map_or(Via::Pool, |lane| Via::Lane(lane.number));
        let mut body = Some(body);
        let result = loop {
            // A request that is sent on a new connection has no body.
            let body = body.take().unwrap_or_else(|| Sent::Left(progress.clone()));
            let begin = |endpoint| forwarder.begin(endpoint, round.head()?, body, via);
            let Some(in_flight) = self.0.endpoint.as_ref().and_then(begin) else {
                tally.end(Ended::Failed);
                return Err(Lost::Failed(Failed::BadAnswer));
            };
            match forwarder.answer(in_flight, progress).await {
                Err(Attempt { retry: Retry::Stale, .. }) if round.is_safe() && via == Via::Pool => {
                    via = Via::Fresh;
                }
                ended => break ended,
            }
        };
        let Attempt { failed, retry } = match result {
            Ok(response) => {
                // The proxy drops an answer only to send the request again.
                tally.drops_as(Ended::Failed);
                return Ok(response.map(|body| {
                    let (body, tally) = (Body::new(body), Some(tally));
                    Answer::Stream(Stream { body, tally, lane, observer: OnceLock::new() })
                }));
            }
            Err(attempt) => attempt,
        };
        // A backend may refuse a body, and close before the proxy has read why.
        let is_cut = matches!(failed, Failed::Terminated) && progress.phase() != Phase::Ended;
        let ended = match retry {
            Retry::Overdue => Ended::Abandoned,
            _ => failed.ended(),
        };
        tally.end(ended);
        if ended != Ended::Failed || is_cut {
            return Ok(Response::new(Answer::Unjudged(failed)));
        }
        Err(match retry {
            Retry::Unsent => Lost::Unsent { failed, backend: self },
            Retry::Stale | Retry::Overdue | Retry::Never => Lost::Failed(failed),
        })
    }
}

/// Reports the end of an attempt to the balancer, with the time at which the backend got the request, also if the
/// client leaves. The time of the client's upload must not make the backend look slow.
struct Received<'r>(&'r Round);

impl Drop for Received<'_> {
    fn drop(&mut self) {
        let Self(round) = self;
        if let (Some(tried), Some(at)) = (round.tried(), round.progress().received()) {
            tried.begun_at(at);
        }
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
