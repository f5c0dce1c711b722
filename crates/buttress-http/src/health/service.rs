//! [`HealthService`]: the endpoints for platforms and anonymous clients.

use buttress::health::{Group, Health};
use http::Response;
use http::request::Parts;

use super::answer::answer;
use super::body;
use crate::at_once::answers_at_once;

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

answers_at_once!(HealthService);

impl HealthService {
    fn answer_to(&self, head: &Parts) -> Response<String> {
        let health = &self.health;
        answer(head, |path| {
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
        })
    }
}
