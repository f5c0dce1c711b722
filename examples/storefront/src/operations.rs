//! The pages for operators: `/status` shows the live numbers, `/ops` has buttons as well, and `/metrics` is for
//! Prometheus, with feature `metrics`.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use buttress_http::status::{StatusBoard, StatusButtons, StatusPage};

use crate::partners::Partners;
use crate::protection::{Fallbacks, Protection};

/// What a browser sends for the user `operator` with the password `storefront`. A real service has a login.
const CREDENTIALS: &str = "Basic b3BlcmF0b3I6c3RvcmVmcm9udA==";

/// The name of an operator, which the login leaves in a request.
#[derive(Clone)]
struct Operator(String);

/// The pages of a shop.
pub(crate) fn routes(protection: &Protection, fallbacks: Fallbacks, partners: &Partners) -> Router {
    let mut status = StatusBoard::new("Storefront").registry(protection.registry.clone());
    for (name, handle) in fallbacks {
        status = status.fallback(name, handle);
    }
    let status = Arc::new(partners.show(status));
    let buttons = StatusButtons::new(status.clone(), |head| {
        head.extensions.get::<Operator>().map(|operator| operator.0.clone())
    });
    Router::new()
        .nest_service("/ops", buttons)
        .layer(from_fn(log_in))
        .nest_service("/status", StatusPage::new(status))
}

/// Lets operators pass, and asks every other caller for a password.
async fn log_in(mut request: Request, next: Next) -> Response {
    if request.headers().get(header::AUTHORIZATION).is_some_and(|it| it == CREDENTIALS) {
        request.extensions_mut().insert(Operator(String::from("operator")));
        return next.run(request).await;
    }
    let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"storefront\"")];
    (StatusCode::UNAUTHORIZED, challenge, "Log in as an operator.\n").into_response()
}

#[cfg(feature = "metrics")]
pub(crate) mod metrics {
    use axum::Router;
    use axum::routing::get;
    use buttress::registry::{Pattern, Registry, UnknownName};
    use buttress::telemetry::Sampler;
    use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

    /// In seconds. Without buckets the exporter writes summaries, which cannot be aggregated.
    const BUCKETS: [f64; 10] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 1.0, 3.0, 10.0];

    /// Installs the exporter. Layers that are made later register their counters with it.
    pub(crate) fn install() -> Result<PrometheusHandle, BuildError> {
        PrometheusBuilder::new().set_buckets(&BUCKETS)?.install_recorder()
    }

    /// `/metrics`: reads every handle when Prometheus asks.
    pub(crate) fn route(exporter: PrometheusHandle, sampler: Sampler) -> Router {
        let scrape = move || {
            sampler.record();
            exporter.run_upkeep();
            std::future::ready(exporter.render())
        };
        Router::new().route("/metrics", get(scrape))
    }

    /// Gives every instance of a registry to the sampler.
    pub(crate) fn watch(registry: &Registry, sampler: &Sampler) -> Result<(), UnknownName> {
        for name in registry.names(Pattern::CircuitBreaker) {
            sampler.watch(registry.circuit_breaker(name.as_str())?.handle());
        }
        for name in registry.names(Pattern::Bulkhead) {
            sampler.watch(registry.bulkhead(name.as_str())?.handle());
        }
        for name in registry.names(Pattern::RateLimiter) {
            sampler.watch(registry.rate_limiter(name.as_str())?.handle());
        }
        for name in registry.names(Pattern::Retry) {
            sampler.watch(registry.retry(name.as_str())?.handle());
        }
        for name in registry.names(Pattern::TimeLimiter) {
            sampler.watch(registry.time_limiter(name.as_str())?.handle());
        }
        Ok(())
    }
}
