//! [`HealthDetailsService`]: every check with its text, for operators.

use buttress::health::Health;
use http::Response;
use http::request::Parts;

use super::answer::answer;
use super::body;
use crate::at_once::answers_at_once;

/// Returns a service that answers `/health/details` with every check of `health`.
///
/// The answer has the texts of errors, which may name hosts, users and tables. Serve it where only
/// operators come: on a separate port, or behind authorization.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use buttress::health::{Health, Importance};
/// use http::Request;
/// use tower::ServiceExt;
///
/// let ping = async || Ok::<(), String>(());
/// let health = Health::new("orders", "1.4.0").check("db", Importance::Critical, ping)?;
/// let service = buttress_http::health_details_service(health);
/// let answer = service.oneshot(Request::get("/health/details").body(())?).await?;
/// assert!(answer.body().contains(r#""status":"UNKNOWN","text":"not checked yet""#));
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn health_details_service(health: Health) -> HealthDetailsService {
    HealthDetailsService { health }
}

/// A service that shows every check to operators. Made by [`health_details_service`].
///
/// It never fails and asks no check. It answers with the same code as `/health`. Another path is
/// answered with 404, methods other than `GET` and `HEAD` with 405.
#[derive(Clone, Debug)]
pub struct HealthDetailsService {
    health: Health,
}

answers_at_once!(HealthDetailsService);

impl HealthDetailsService {
    fn answer_to(&self, head: &Parts) -> Response<String> {
        answer(head, |path| {
            let report = (path == "/health/details").then(|| self.health.report())?;
            Some((report.status, body::of_report(&report)))
        })
    }
}
