//! [`Serves`]: the services that a loop calls through clones.

use std::future::poll_fn;
use std::pin::pin;

use tower::{BoxError, Service};

/// The service that handles the messages of a consumer, or that takes the messages of a relay.
pub(crate) trait Serves<Req>:
    Service<Req, Response: Send, Error: Into<BoxError>, Future: Send + 'static> + Clone + Send + 'static
{
}

impl<Req, S> Serves<Req> for S where
    S: Service<Req, Response: Send, Error: Into<BoxError>, Future: Send + 'static>
        + Clone
        + Send
        + 'static
{
}

/// Calls `service` once it is ready, and passes the result to `judge`.
///
/// Drops the future of the call after the judgement. The drop is user code, and its panic must not replace the result.
pub(crate) async fn call<S: Service<Req>, Req>(
    service: &mut S,
    request: Req,
    judge: impl FnOnce(Result<S::Response, S::Error>),
) {
    if let Err(error) = poll_fn(|cx| service.poll_ready(cx)).await {
        return judge(Err(error));
    }
    let mut called = pin!(service.call(request));
    judge(called.as_mut().await);
}
