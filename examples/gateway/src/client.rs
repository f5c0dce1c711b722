//! The clients of the shop, on real sockets.

use std::net::SocketAddr;

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tower::BoxError;

use crate::admission::FIELD;

/// A client with a pool of connections.
#[derive(Clone)]
pub(crate) struct Client(hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>);

/// A request: its path and perhaps a key and a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    pub path: &'a str,
    pub key: Option<&'a str>,
    /// A request with a body is a POST.
    pub body: Option<&'static str>,
}

impl<'a> Ask<'a> {
    pub(crate) fn get(path: &'a str) -> Self {
        Self { path, key: None, body: None }
    }

    pub(crate) fn with_key(self, key: &'a str) -> Self {
        Self { key: Some(key), ..self }
    }
}

impl Client {
    pub(crate) fn new() -> Self {
        Self(hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http())
    }

    /// Sends a request, and returns the status once the whole answer is there.
    pub(crate) async fn ask(&self, at: SocketAddr, ask: Ask<'_>) -> Result<StatusCode, BoxError> {
        Ok(self.text(at, ask).await?.0)
    }

    /// Sends a request, and returns the status and the text of the answer.
    pub(crate) async fn text(
        &self,
        at: SocketAddr,
        ask: Ask<'_>,
    ) -> Result<(StatusCode, String), BoxError> {
        let method = if ask.body.is_some() { Method::POST } else { Method::GET };
        let request = Request::builder().method(method).uri(format!("http://{at}{}", ask.path));
        let request = match ask.key {
            Some(key) => request.header(FIELD, key),
            None => request,
        };
        let request = request.body(Full::from(ask.body.unwrap_or_default()))?;
        let response = self.0.request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// Sends the same request `count` times, one after the other, and returns how many answers had each of `wanted`.
    pub(crate) async fn ask_times<const N: usize>(
        &self,
        at: SocketAddr,
        count: u64,
        ask: Ask<'_>,
        wanted: [StatusCode; N],
    ) -> Result<[u64; N], BoxError> {
        let mut found = [0; N];
        for _ in 0..count {
            let status = self.ask(at, ask).await?;
            for (found, wanted) in found.iter_mut().zip(wanted) {
                *found += u64::from(status == wanted);
            }
        }
        Ok(found)
    }
}
