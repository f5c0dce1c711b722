//! [`HealthService`]: the endpoints for platforms and strangers.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use buttress::health::{Group, Health};
use http::{Request, Response};
use tower::Service;

use super::answer::answer;
use super::body;

/// Returns a service that answers `/health`, `/live`, `/ready` and `/startup` from the last results of
/// `health`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use buttress::health::Health;
/// use http::Request;
/// use tower::ServiceExt;
///
/// let service = buttress_http::health_service(Health::new("orders", "1.4.0"));
/// let answer = service.oneshot(Request::get("/health").body(())?).await?;
/// assert_eq!(answer.body(), r#"{"status":"UP","name":"orders","version":"1.4.0"}"#);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn health_service(health: Health) -> HealthService {
    HealthService { health }
}

/// A service that answers the probes of a platform. Made by [`health_service`].
///
/// It never fails, asks no check, and shows neither checks nor texts of errors. A path that it does not
/// know is answered with 404, also `/health/details`. Methods other than `GET` and `HEAD` are answered
/// with 405.
#[derive(Clone, Debug)]
pub struct HealthService {
    health: Health,
}

impl<B> Service<Request<B>> for HealthService {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let health = &self.health;
        ready(Ok(answer(&request, |path| {
            let group = match path {
                "/health" => {
                    let status = health.status();
                    let (name, version) = (health.name().as_str(), health.version());
                    return Some((status, body::of_service(status, name, version)));
                }
                "/live" => Group::Live,
                "/ready" => Group::Ready,
                "/startup" => Group::Startup,
                _ => return None,
            };
            let status = health.group(group);
            Some((status, body::of_status(status)))
        })))
    }
}
