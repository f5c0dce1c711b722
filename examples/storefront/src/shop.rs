//! The shop: handles a purchase. Both shops run this code.

use std::net::SocketAddr;

use axum::extract::{Query, State};
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceExt};

pub(crate) type HttpRequest = Request<Full<Bytes>>;
pub(crate) type HttpClient = BoxCloneSyncService<HttpRequest, http::Response<Incoming>, BoxError>;
pub(crate) type Calls<Answer> = BoxCloneSyncService<u32, Answer, BoxError>;

/// A price: today's, or the one printed in the catalogue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Price {
    Current(u32),
    Listed(u32),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Payment {
    Charged,
    /// The order is accepted and charged later.
    Pending,
}

/// The clients that a purchase calls.
#[derive(Clone)]
pub(crate) struct Clients {
    pub catalogue: Calls<()>,
    pub pricing: Calls<Price>,
    pub payment: Calls<Payment>,
}

/// Requests a path from `client`. Every status except success is an error.
pub(crate) async fn fetch(client: HttpClient, request: HttpRequest) -> Result<Bytes, BoxError> {
    let response = client.oneshot(request).await?;
    if !response.status().is_success() {
        return Err(format!("answered {}", response.status()).into());
    }
    Ok(response.into_body().collect().await?.to_bytes())
}

#[derive(Deserialize)]
struct Purchase {
    item: u32,
}

async fn buy(
    State(clients): State<Clients>,
    Query(Purchase { item }): Query<Purchase>,
) -> Result<Response, (StatusCode, String)> {
    let failed = |error: BoxError| (StatusCode::BAD_GATEWAY, format!("{error}\n"));
    clients.catalogue.oneshot(item).await.map_err(failed)?;
    let price = clients.pricing.oneshot(item).await.map_err(failed)?;
    let payment = clients.payment.oneshot(item).await.map_err(failed)?;
    let degraded = payment == Payment::Pending || matches!(price, Price::Listed(_));
    let (Price::Current(cents) | Price::Listed(cents)) = price;
    let charged = payment == Payment::Charged;
    let body = Json(json!({ "item": item, "cents": cents, "charged": charged }));
    let quality = if degraded { "degraded" } else { "full" };
    Ok(([(header::HeaderName::from_static("x-answer"), quality)], body).into_response())
}

/// Serves a shop on its own port. `wrap` may put layers around its routes.
pub(crate) async fn start(
    clients: Clients,
    wrap: impl FnOnce(Router) -> Result<Router, BoxError>,
) -> Result<SocketAddr, BoxError> {
    let router = wrap(Router::new().route("/buy", get(buy)).with_state(clients))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(axum::serve(listener, router).into_future());
    Ok(address)
}
