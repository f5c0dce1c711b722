//! Fetches the document of a key server.

use std::future::poll_fn;
use std::pin::Pin;

use buttress::{Clock, InvalidConfig};
use bytes::{Bytes, BytesMut};
use http::header::ACCEPT;
use http::uri::Scheme;
use http::{Request, StatusCode, Uri};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tower::BoxError;

use super::server::{FetchKeys, Fetching, LIMIT, LONGEST};
use crate::Body;
use crate::forward::Connector;

/// Where a key server has its document.
pub(super) struct KeyUrl {
    url: Uri,
    client: Client<Connector, Body>,
}

impl KeyUrl {
    pub(super) fn parse(url: &str) -> Result<Self, InvalidConfig> {
        Self::over(url, Connector::new(LIMIT, Clock::default()), secure)
    }

    #[cfg(test)]
    pub(super) fn in_memory(
        url: &str,
        network: crate::tests::Network,
    ) -> Result<Self, InvalidConfig> {
        Self::over(url, Connector::new(LIMIT, Clock::default()).memory(network), secure)
    }

    /// A key server in memory over https that `roots` vouch for.
    #[cfg(all(test, feature = "tls"))]
    pub(super) fn in_memory_with(
        url: &str,
        network: crate::tests::Network,
        roots: crate::Roots,
    ) -> Result<Self, InvalidConfig> {
        let connector = Connector::new(LIMIT, Clock::default()).memory(network);
        Self::over(url, connector, |connector| {
            Ok(connector.tls(crate::tls::Upstreams::new(Some(roots))))
        })
    }

    /// `secure` makes the connector one of https.
    fn over(
        url: &str,
        connector: Connector,
        secure: impl FnOnce(Connector) -> Result<Connector, InvalidConfig>,
    ) -> Result<Self, InvalidConfig> {
        // The text may have a password.
        let refused = |bound: &str| InvalidConfig::new("jwks", "a text of another form", bound);
        let parsed: Uri = url.parse().map_err(|_| refused("a URL"))?;
        let authority = parsed.authority().ok_or_else(|| refused("a URL with a host"))?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(refused("a URL with a host, without a user name"));
        }
        let connector = match parsed.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => connector,
            Some(scheme) if *scheme == Scheme::HTTPS => secure(connector)?,
            _ => return Err(refused("a URL of http or https")),
        };
        // No connection is kept: the next fetch is in 5 minutes.
        let client =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self { url: parsed, client })
    }

    pub(super) fn is_secure(&self) -> bool {
        self.url.scheme() == Some(&Scheme::HTTPS)
    }
}

/// Believes key servers that the authorities of the operating system vouch for.
#[cfg(feature = "tls")]
fn secure(connector: Connector) -> Result<Connector, InvalidConfig> {
    let roots = crate::Roots::system().map_err(|error| {
        InvalidConfig::new("jwks", error, "usable without root certificates of the system")
    })?;
    Ok(connector.tls(crate::tls::Upstreams::new(Some(roots))))
}

#[cfg(not(feature = "tls"))]
fn secure(_: Connector) -> Result<Connector, InvalidConfig> {
    let bound = "possible: buttress-edge is built without its feature `tls`";
    Err(InvalidConfig::new("jwks", "a URL of https", bound))
}

impl FetchKeys for KeyUrl {
    fn fetch(&self) -> Fetching {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = self.url.clone();
        let accepted = http::HeaderValue::from_static("application/jwk-set+json, application/json");
        request.headers_mut().insert(ACCEPT, accepted);
        let answer = self.client.request(request);
        Box::pin(async move {
            let (head, body) = answer.await?.into_parts();
            // A redirect is an error too: its target is not what the operator trusts.
            if head.status != StatusCode::OK {
                return Err(BoxError::from(format!("the status is {}", head.status)));
            }
            read(body).await
        })
    }
}

/// Reads a body up to the longest document, and one frame more.
async fn read(mut body: Incoming) -> Result<Bytes, BoxError> {
    let mut document = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(data) = frame?.into_data() {
            document.extend_from_slice(&data);
        }
        if document.len() > LONGEST {
            break;
        }
    }
    Ok(document.freeze())
}
