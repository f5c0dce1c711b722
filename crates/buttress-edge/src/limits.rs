//! The limits of a route: what a request passes before it goes to a backend.

use std::fmt;
use std::time::Duration;

use buttress::rate_limit::KeyedHandle;
use buttress::{Classify, Outcome, bulkhead, circuit_breaker, rate_limit};
use buttress_http::ByStatus;
use buttress_http::client_key::{AddressKey, AddressKeys};
use http::{Request, Response, request};

use crate::answer::Failed;
use crate::forward::Stream;
use crate::numbers::Ended;

/// The limits of a route. All are optional.
#[derive(Clone, Default)]
pub(crate) struct Limits {
    pub(crate) per_client: Option<(KeyedHandle<AddressKey>, AddressKeys)>,
    pub(crate) rate: Option<rate_limit::Handle>,
    pub(crate) concurrent: Option<bulkhead::Handle>,
    pub(crate) circuit: Option<circuit_breaker::Handle>,
    pub(crate) time: Option<Duration>,
}

/// What a request that passed the limits holds.
#[derive(Debug)]
pub(crate) struct Passed {
    /// Until the end of the answer's body.
    permit: Option<bulkhead::Permit>,
    /// Until the head of the answer. Dropped without a verdict if the client leaves before.
    admission: Option<circuit_breaker::Admission>,
}

impl Limits {
    /// Passes a request, or refuses it. Tokens come first, so that a request that waits for a permit is
    /// within its rate. The circuit comes last, so that its probe does not wait.
    pub(crate) async fn pass(&self, head: &mut request::Parts) -> Result<Passed, Failed> {
        if let Some((limiter, keys)) = &self.per_client {
            limiter.try_acquire(&client(keys, head), 1).map_err(Failed::Refused)?;
        }
        if let Some(limiter) = &self.rate {
            limiter.acquire(1).await.map_err(Failed::Refused)?;
        }
        let permit = match &self.concurrent {
            Some(bulkhead) => Some(bulkhead.acquire().await.map_err(Failed::Refused)?),
            None => None,
        };
        let admission = self.circuit.as_ref().map(circuit_breaker::Handle::try_acquire);
        Ok(Passed { permit, admission: admission.transpose().map_err(Failed::Refused)? })
    }
}

impl Passed {
    /// Judges the backends by their answer, and returns the permit.
    pub(crate) fn judge(
        self,
        result: &Result<Response<Stream>, Failed>,
    ) -> Option<bulkhead::Permit> {
        if let Some(admission) = self.admission {
            let judge = ByStatus::new().errors(OfBackends);
            admission.settle(judge.classify(result), || judge.retry_after(result));
        }
        self.permit
    }
}

/// Judges a request without an answer. A failure of the client and a refusal say nothing about the backends.
struct OfBackends;

impl Classify<Response<Stream>, Failed> for OfBackends {
    fn classify(&self, result: &Result<Response<Stream>, Failed>) -> Outcome {
        match result {
            Ok(_) => Outcome::Success,
            Err(failed) if failed.ended() == Ended::Failed => Outcome::Failure,
            Err(_) => Outcome::Ignored,
        }
    }
}

/// Returns the key of the client. `AddressKeys` reads requests, so the head becomes one for the call.
fn client(keys: &AddressKeys, head: &mut request::Parts) -> AddressKey {
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
