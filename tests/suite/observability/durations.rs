//! The outcomes of a duration layer are those of the page.

use std::time::Duration;

use buttress::bulkhead;
use buttress::telemetry::DurationLayer;
use buttress::time_limit::TimeLimitLayer;
use buttress_http::{ByStatus, HttpLayerExt};
use http::{Request, Response, StatusCode};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

use super::recorder::Keeper;

type Asked = Request<()>;

/// Makes one call, and returns the outcomes that have a record.
async fn outcomes<S>(service: impl FnOnce() -> S) -> Vec<&'static str>
where
    S: Service<Asked>,
{
    let keeper = Keeper::default();
    let _recording = metrics::set_default_local_recorder(&keeper);
    let _result = service().oneshot(Request::new(())).await;
    let all = ["success", "failure", "ignored", "dropped"];
    let records = |outcome: &&str| {
        keeper.value("buttress.call.duration", &[("layer", "db"), ("outcome", outcome)])
    };
    all.into_iter().filter(|outcome| records(outcome) == Some(1.0)).collect()
}

/// Makes a service that answers with `status`.
fn answers(status: u16) -> impl Service<Asked, Response = Response<String>, Error = BoxError> {
    let status = StatusCode::from_u16(status).unwrap();
    service_fn(move |_| {
        let mut response = Response::new(String::new());
        *response.status_mut() = status;
        std::future::ready(Ok(response))
    })
}

async fn fails(_: Asked) -> Result<Response<String>, BoxError> {
    Err("broken".into())
}

async fn hangs(_: Asked) -> Result<Response<String>, BoxError> {
    std::future::pending().await
}

/// A layer whose only permit is taken.
fn full() -> bulkhead::BulkheadLayer {
    let layer = bulkhead::Config::new().max_concurrent(1).build().unwrap();
    std::mem::forget(layer.handle().try_acquire().unwrap());
    layer
}

fn limit() -> TimeLimitLayer {
    TimeLimitLayer::after(Duration::from_secs(1))
}

#[tokio::test(start_paused = true)]
async fn the_default_judges_errors() {
    let around = DurationLayer::new;
    for status in [200, 401, 500] {
        assert_eq!(outcomes(|| around("db").layer(answers(status))).await, ["success"]);
    }
    assert_eq!(outcomes(|| around("db").layer(service_fn(fails))).await, ["failure"]);
    let refused = || around("db").layer(full().layer(service_fn(fails)));
    assert_eq!(outcomes(refused).await, ["ignored"]);
    let refused = || around("db").layer(full().http().layer(answers(200)));
    assert_eq!(outcomes(refused).await, ["success"]);
    let late = || around("db").layer(limit().layer(service_fn(hangs)));
    assert_eq!(outcomes(late).await, ["failure"]);
    let late = || around("db").layer(limit().http().layer(service_fn(hangs)));
    assert_eq!(outcomes(late).await, ["success"]);
    let late = || limit().layer(around("db").layer(service_fn(hangs)));
    assert_eq!(outcomes(late).await, ["dropped"]);
    let refused = || full().layer(around("db").layer(service_fn(fails)));
    assert!(outcomes(refused).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_classifier_by_status_judges_responses() {
    let around = |layer| DurationLayer::new(layer).classify(ByStatus::route());
    let client = |layer| DurationLayer::new(layer).classify(ByStatus::client());
    for status in [200, 304, 401, 429, 501, 505] {
        assert_eq!(outcomes(|| around("db").layer(answers(status))).await, ["success"], "{status}");
    }
    for status in [500, 502, 503, 504] {
        assert_eq!(outcomes(|| around("db").layer(answers(status))).await, ["failure"], "{status}");
    }
    assert_eq!(outcomes(|| around("db").layer(service_fn(fails))).await, ["failure"]);
    let refused = || around("db").layer(full().layer(service_fn(fails)));
    assert_eq!(outcomes(refused).await, ["failure"]);
    let refused = || client("db").layer(full().layer(service_fn(fails)));
    assert_eq!(outcomes(refused).await, ["ignored"]);
    let refused = || around("db").layer(full().http().layer(answers(200)));
    assert_eq!(outcomes(refused).await, ["ignored"]);
    for late in [
        outcomes(|| around("db").layer(limit().layer(service_fn(hangs)))).await,
        outcomes(|| around("db").layer(limit().http().layer(service_fn(hangs)))).await,
    ] {
        assert_eq!(late, ["failure"]);
    }
    let late = || limit().layer(around("db").layer(service_fn(hangs)));
    assert_eq!(outcomes(late).await, ["dropped"]);
}
