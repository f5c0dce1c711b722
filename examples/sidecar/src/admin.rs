//! Health and metrics, on a separate listener.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::time::Duration;

use buttress::InvalidConfig;
use buttress::health::{Config, Finding, Health, Importance};
use buttress::telemetry::Sampler;
use buttress_edge::serve;
use buttress_http::health_service;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tower::{Service as _, service_fn};

use crate::front::Front;
use crate::gate::Gate;
use crate::standing::{Service, Standing};

/// How often the checks run. They look at memory only.
const EVERY: Duration = Duration::from_millis(500);

/// The health of the service: whether it runs, and its circuit.
pub(crate) fn health(front: &Front, standing: &Standing) -> Result<Health, InvalidConfig> {
    let config = Config::new().interval(EVERY).limit(EVERY);
    let standing = standing.clone();
    let service = move || {
        ready(match standing.service() {
            Service::Serving { .. } => Finding::up(),
            Service::Starting { .. } => Finding::down("the command has not accepted a connection"),
            Service::Down { .. } => Finding::down("the command does not run"),
            Service::Stopping => Finding::down("the sidecar stops"),
        })
    };
    Health::with("sidecar", env!("CARGO_PKG_VERSION"), config)?
        .check("service", Importance::Critical, service)?
        .watch("circuit", Importance::High, front.circuit.clone())
}

/// The numbers for Prometheus.
#[derive(Clone)]
pub(crate) struct Metrics {
    exporter: PrometheusHandle,
    sampler: Sampler,
    front: Front,
    gate: Gate,
    standing: Standing,
}

impl Metrics {
    /// Installs the exporter.
    pub(crate) fn install(
        front: &Front,
        gate: &Gate,
        standing: &Standing,
        health: &Health,
    ) -> Result<Self, BuildError> {
        let exporter = PrometheusBuilder::new().install_recorder()?;
        let sampler = Sampler::new();
        front.watch(&sampler);
        sampler.watch(health.clone());
        let (front, gate, standing) = (front.clone(), gate.clone(), standing.clone());
        Ok(Self { exporter, sampler, front, gate, standing })
    }

    fn text(&self) -> String {
        self.sampler.record();
        metrics::counter!("sidecar.starts").absolute(self.standing.starts());
        metrics::counter!("sidecar.failures").absolute(self.standing.failures());
        let stats = self.front.stats();
        for (end, count) in [
            ("answered", stats.answered),
            ("failed", stats.failed),
            ("refused", stats.refused.total()),
            ("abandoned", stats.abandoned),
            ("down", self.gate.refused()),
        ] {
            metrics::counter!("sidecar.requests", "end" => end).absolute(count);
        }
        // A number of requests is far below 2^53.
        metrics::gauge!("sidecar.requests.open").set(stats.in_flight as f64);
        self.exporter.run_upkeep();
        self.exporter.render()
    }
}

/// Serves both until `stop` completes.
pub(crate) async fn run(
    listener: TcpListener,
    health: Health,
    metrics: Metrics,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        if request.uri().path() == "/metrics" {
            let text = HeaderValue::from_static("text/plain; version=0.0.4");
            let mut response = Response::new(metrics.text());
            response.headers_mut().insert(CONTENT_TYPE, text);
            ready(Ok::<_, Infallible>(response))
        } else {
            health_service(health.clone()).call(request)
        }
    });
    serve(listener, service).until(stop).drain(Duration::from_secs(1)).await;
}
