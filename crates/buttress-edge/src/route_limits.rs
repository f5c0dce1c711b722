//! The limits of a route, which a request passes before it goes to a backend.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use buttress::context::Context;
use buttress::rate_limit::KeyedHandle;
use buttress::{
    CircuitState, Classify, Clock, ErrorKind, Outcome, bulkhead, circuit_breaker, rate_limit,
};
use buttress_http::ByStatus;
use buttress_http::client_key::{AddressKey, AddressKeys};
use http::{Request, Response, request};

use crate::answer::Failed;
use crate::caller::{ClientKey, Subject};
use crate::forward::{Outgoing, Stream};
use crate::numbers::Ended;
use crate::race::first;

/// The limits of a route. All are optional.
#[derive(Clone, Default)]
pub(crate) struct Limits {
    pub per_client: Option<(KeyedHandle<ClientKey>, AddressKeys)>,
    pub rate: Option<rate_limit::Handle>,
    pub concurrent: Option<bulkhead::Handle>,
    pub circuit: Option<circuit_breaker::Handle>,
    pub time: Option<Duration>,
}

/// The guards of a request that passed the limits.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    /// Until the end of the answer's body.
    permit: Option<bulkhead::Permit>,
    /// Until the head of the answer. Dropped without a verdict if the client leaves before.
    admission: Option<(circuit_breaker::Admission, Start)>,
}

/// When a request went to the backends, and how long they may take at the least.
#[derive(Clone, Copy, Debug)]
struct Start {
    at: Instant,
    fair: Duration,
    /// Whether the circuit was half-open, so that the request is its probe.
    is_probe: bool,
}

/// How long a probe may wait for the client's upload before another one takes its place.
const UPLOAD_OF_PROBE: Duration = Duration::from_secs(1);

impl Limits {
    /// Whether no limit can refuse a request. The time limit refuses none.
    pub(crate) fn refuse_none(&self) -> bool {
        let Self { per_client, rate, concurrent, circuit, time: _ } = self;
        per_client.is_none() && rate.is_none() && concurrent.is_none() && circuit.is_none()
    }

    /// Returns `context` with the deadline of the time limit. An earlier one counts.
    pub(crate) fn within(&self, clock: &Clock, context: Context) -> Context {
        let limit = self.time.and_then(|limit| clock.now().checked_add(limit));
        limit.into_iter().fold(context, Context::with_deadline)
    }

    /// Passes a request, or refuses it. Tokens come first, so that a request that waits for a permit is
    /// within its rate. The circuit comes last, so that its probe does not wait.
    pub(crate) async fn pass(
        &self,
        (clock, head_limit): (&Clock, Duration),
        head: &mut request::Parts,
        subject: Option<&Subject>,
    ) -> Result<Passed, Failed> {
        if let Some((limiter, keys)) = &self.per_client {
            let client = match subject {
                Some(subject) => ClientKey::Subject(subject.clone()),
                None => ClientKey::Address(address(keys, head)),
            };
            limiter.try_acquire(&client, 1).map_err(Failed::Refused)?;
        }
        if let Some(limiter) = &self.rate {
            limiter.acquire(1).await.map_err(Failed::Refused)?;
        }
        let permit = match &self.concurrent {
            Some(bulkhead) => Some(bulkhead.acquire().await.map_err(Failed::Refused)?),
            None => None,
        };
        let fair = self.time.map_or(head_limit, |time| head_limit.min(time / 2));
        Ok(Passed { permit, ..Passed::at_circuit(self.circuit.as_ref(), clock, fair)? })
    }
}

impl Passed {
    /// Passes a request at a circuit, if there is one. The backends may take `fair` at the least.
    pub(crate) fn at_circuit(
        circuit: Option<&circuit_breaker::Handle>,
        clock: &Clock,
        fair: Duration,
    ) -> Result<Self, Failed> {
        let Some(circuit) = circuit else { return Ok(Self::default()) };
        let admission = circuit.try_acquire().map_err(Failed::Refused)?;
        let is_probe = circuit.state() == CircuitState::HalfOpen;
        let start = Start { at: clock.now(), fair, is_probe };
        Ok(Self { permit: None, admission: Some((admission, start)) })
    }

    /// Waits for the answer to a request. A probe of the circuit whose client is slow to send its body gives its place
    /// to another one, and is judged nevertheless.
    pub(crate) async fn watch<F: Future>(
        &mut self,
        mut sent: Pin<&mut F>,
        body: Option<&Outgoing>,
        clock: &Clock,
    ) -> F::Output {
        if let (Some((admission, Start { is_probe: true, .. })), Some(body)) =
            (&mut self.admission, body)
        {
            // On the heap: most requests are not probes.
            let mut second = Box::pin(clock.sleep(UPLOAD_OF_PROBE));
            while !body.has_ended() {
                if let Some(output) = first(sent.as_mut(), second.as_mut()).await {
                    return output;
                }
                if body.waits_for_client() {
                    admission.step_aside();
                    break;
                }
                second = Box::pin(clock.sleep(UPLOAD_OF_PROBE));
            }
        }
        sent.await
    }

    /// Judges the backends by their answer, and returns the permit.
    pub(crate) fn judge(
        self,
        result: &Result<Response<Stream>, Failed>,
        body: Option<&Outgoing>,
        clock: &Clock,
    ) -> Option<bulkhead::Permit> {
        self.judge_by(OfBackends, result, body, clock)
    }

    /// Judges the backends by their answer, with a judge of requests without an answer, and returns the permit.
    ///
    /// They are not blamed for a request that left them less than half of its time, nor for one that broke off in its
    /// upload: an answer that refuses the body may be lost then. Their time begins when the client has sent the body.
    pub(crate) fn judge_by(
        self,
        unanswered: impl Classify<Response<Stream>, Failed>,
        result: &Result<Response<Stream>, Failed>,
        body: Option<&Outgoing>,
        clock: &Clock,
    ) -> Option<bulkhead::Permit> {
        if let Some((mut admission, Start { at, fair, is_probe: _ })) = self.admission {
            let judge = ByStatus::route().errors(unanswered);
            // The client's time is not the backends'.
            let begun = body.and_then(Outgoing::last).map_or(at, |last| last.max(at));
            admission.begun_at(begun);
            let is_unfair = match result {
                Err(Failed::HeadTimedOut) => clock.now().saturating_duration_since(begun) < fair,
                Err(Failed::Terminated) => body.is_some_and(|body| !body.has_ended()),
                _ => false,
            };
            let outcome = if is_unfair { Outcome::Ignored } else { judge.classify(result) };
            admission.settle(outcome, || judge.retry_after(result));
        }
        self.permit
    }
}

/// Judges a request without an answer, for the circuit and the retry. A failure of the client and a refusal say nothing about the backends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfBackends;

impl Classify<Response<Stream>, Failed> for OfBackends {
    fn classify(&self, result: &Result<Response<Stream>, Failed>) -> Outcome {
        match result {
            Ok(_) => Outcome::Success,
            Err(failed) if failed.ended() == Ended::Failed => Outcome::Failure,
            Err(_) => Outcome::Ignored,
        }
    }
}

/// Judges a request without an answer, for the circuit of one side of a route. A side without a backend that takes the
/// request has failed: the other side can answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfSide;

impl Classify<Response<Stream>, Failed> for OfSide {
    fn classify(&self, result: &Result<Response<Stream>, Failed>) -> Outcome {
        match result {
            Err(Failed::Refused(error)) if error.kind() == ErrorKind::NoEndpoint => {
                Outcome::Failure
            }
            _ => OfBackends.classify(result),
        }
    }
}

/// Returns the address of the client. `AddressKeys` reads requests, so the head becomes one for the call.
fn address(keys: &AddressKeys, head: &mut request::Parts) -> AddressKey {
    let (empty, ()) = Request::new(()).into_parts();
    let request = Request::from_parts(std::mem::replace(head, empty), ());
    let key = keys.of(&request);
    *head = request.into_parts().0;
    key
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits")
            .field("per_client", &self.per_client.is_some())
            .field("rate", &self.rate)
            .field("concurrent", &self.concurrent)
            .field("circuit", &self.circuit)
            .field("time", &self.time)
            .finish()
    }
}
