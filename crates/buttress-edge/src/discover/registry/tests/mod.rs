//! The registry as callers see it, under a paused clock.

mod clients;
mod requests;

use std::net::IpAddr;

use buttress::Clock;
use buttress_http::client_key::PeerAddr;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use std::time::Duration;
use tower::ServiceExt;

use super::wire::Page;
use super::{Registry, RegistryService};
use crate::Body;

const SECRET: &str = "secret-of-the-registry";
const PEER: [u8; 4] = [10, 0, 0, 7];

fn registry() -> RegistryService {
    Registry::new().admit(SECRET).into_service().unwrap()
}

async fn sleep(seconds: u64) {
    Clock::default().sleep(Duration::from_secs(seconds)).await;
}

/// A registry that knows its instances.
async fn known() -> RegistryService {
    let registry = registry();
    sleep(30).await;
    registry
}

/// A request to a registry.
struct Ask {
    method: Method,
    path: String,
    body: Body,
    authorization: Vec<String>,
    peer: Option<IpAddr>,
}

fn ask(method: Method, path: &str) -> Ask {
    let authorization = vec![format!("Bearer {SECRET}")];
    Ask { method, path: path.into(), body: Body::empty(), authorization, peer: Some(PEER.into()) }
}

fn get(path: &str) -> Ask {
    Ask { authorization: Vec::new(), ..ask(Method::GET, path) }
}

/// A heartbeat of an instance at this address.
fn beat(path: &str, address: &str) -> Ask {
    let body = format!(r#"{{"address":"{address}"}}"#);
    Ask { body: body.into(), ..ask(Method::PUT, path) }
}

impl Ask {
    async fn of(self, registry: &RegistryService) -> Response<String> {
        let (head, body) = self.send(registry).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Response::from_parts(head, String::from_utf8(body.into()).unwrap())
    }

    /// Returns the body as the registry holds it.
    async fn bytes(self, registry: &RegistryService) -> bytes::Bytes {
        self.send(registry).await.into_body().collect().await.unwrap().to_bytes()
    }

    async fn send(self, registry: &RegistryService) -> Response<Body> {
        let mut request = Request::builder().method(self.method).uri(self.path);
        for value in &self.authorization {
            request = request.header("authorization", value);
        }
        let mut request = request.body(self.body).unwrap();
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(PeerAddr(peer));
        }
        registry.clone().oneshot(request).await.unwrap()
    }

    async fn status(self, registry: &RegistryService) -> StatusCode {
        self.of(registry).await.status()
    }
}

/// Returns the version and the ids of a set.
async fn set(registry: &RegistryService, path: &str) -> (String, Vec<String>) {
    let answer = get(path).of(registry).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let page: Page = serde_json::from_str(answer.body()).unwrap();
    (page.version, page.instances.into_iter().map(|listed| listed.id).collect())
}
