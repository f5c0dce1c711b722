//! HTTP over loopback: posting, serving, and the meaning of answers.

use std::future::IntoFuture;
use std::net::SocketAddr;

use axum::Router;
use buttress::AsRefusal;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tower::BoxError;

pub(crate) type Client = legacy::Client<HttpConnector, Full<Bytes>>;

/// The header of a message's id.
pub(crate) const MESSAGE_ID: &str = "message-id";

pub(crate) fn client() -> Client {
    legacy::Client::builder(TokioExecutor::new()).build_http()
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The service refused the request, and had no effect.
    #[error("{0}")]
    Refused(String),
    /// The effect of the service is in doubt.
    #[error("answered {0}")]
    Broken(http::StatusCode),
    #[error("no answer: {0}")]
    NoAnswer(#[source] BoxError),
    /// A layer around the call refused it or timed out.
    #[error(transparent)]
    Layer(#[from] buttress::Error),
}

impl CallError {
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

impl AsRefusal for CallError {
    fn as_refusal(&self) -> Option<&buttress::Error> {
        match self {
            Self::Layer(error) => Some(error),
            _ => None,
        }
    }
}

/// Posts `body`, and returns the body of the answer.
pub(crate) async fn post(
    client: &Client,
    uri: String,
    body: Vec<u8>,
    message: Option<String>,
) -> Result<Bytes, CallError> {
    let no_answer = |error: BoxError| CallError::NoAnswer(error);
    let mut request = Request::post(uri).header(header::CONTENT_TYPE, "application/json");
    if let Some(message) = message {
        request = request.header(MESSAGE_ID, message);
    }
    let request = request.body(Full::from(body)).map_err(|error| no_answer(error.into()))?;
    let response = client.request(request).await.map_err(|error| no_answer(error.into()))?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|error| no_answer(error.into()))?;
    let body = body.to_bytes();
    if status.is_client_error() {
        return Err(CallError::Refused(String::from_utf8_lossy(&body).into_owned()));
    }
    if !status.is_success() {
        return Err(CallError::Broken(status));
    }
    Ok(body)
}

/// Serves `router` on its own loopback port, until the process ends.
pub(crate) async fn serve(router: Router) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(axum::serve(listener, router).into_future());
    Ok(address)
}
