//! Upgrades: after a 101 the bytes of both sides pass unread.

mod copy;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use buttress::Clock;
use http::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use http::{Extensions, Method, Version, request};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::watch;

use crate::body::{End, Watch};
use crate::exchange::Exchange;
use crate::headers::hop;
use crate::race::first;
use crate::serve::connection::{Stage, reached};
use crate::serve::places::Place;

/// The part of the client's connection that a tunnel keeps, so that the listener knows the tunnel.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub stages: watch::Receiver<Stage>,
    pub hold: Arc<Hold>,
}

/// The place of a connection, and the number of connections that the drain has cut off.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    _place: Option<Place>,
    cut: Arc<AtomicU64>,
}

impl Hold {
    pub(crate) fn new(place: Place, cut: Arc<AtomicU64>) -> Self {
        Self { _place: Some(place), cut }
    }

    /// Counts a connection that the drain has cut off.
    pub(crate) fn count_cut(&self) {
        self.cut.fetch_add(1, Ordering::Relaxed);
    }
}

/// The upgrade that a client asks for.
#[derive(Debug)]
pub(crate) struct Upgrade {
    protocol: HeaderValue,
    client: OnUpgrade,
    line: Option<Line>,
}

impl Upgrade {
    /// Returns the upgrade that a request asks for. `protocol` was in its `Upgrade` field, which `Connection` named.
    ///
    /// Another version of HTTP, and TLS, are not tunnels: requests in them would bypass the routes.
    pub(crate) fn of(head: &mut request::Parts, protocol: Option<HeaderValue>) -> Option<Self> {
        let client = head.extensions.remove::<OnUpgrade>();
        let line = head.extensions.remove::<Line>();
        let is_asked = head.method == Method::GET && head.version == Version::HTTP_11;
        let protocol = protocol.filter(|protocol| is_asked && hop::tokens(protocol).all(is_tunnel));
        Some(Self { protocol: protocol?, client: client?, line })
    }

    /// Whether the client asked for every protocol that the backend has switched to.
    pub(crate) fn allows(&self, answer: &HeaderMap) -> bool {
        let is_asked = |protocol: &[u8]| {
            hop::tokens(&self.protocol).any(|asked| asked.eq_ignore_ascii_case(protocol))
        };
        answer.get_all(UPGRADE).iter().flat_map(hop::tokens).all(is_asked)
    }

    /// Writes the fields that ask the backend for the upgrade.
    pub(crate) fn ask(&self, headers: &mut HeaderMap) {
        write(headers, self.protocol.clone());
    }
}

/// Writes the fields of an upgrade to `protocol`.
pub(crate) fn write(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

fn is_tunnel(protocol: &[u8]) -> bool {
    let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
    !["h2c", "h2", "http", "tls"].iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
}

/// How a tunnel ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ended {
    /// Both sides have closed.
    Closed,
    ClientFailed,
    BackendFailed,
    /// Neither side has sent anything for too long.
    Idle,
    /// The drain of the listener was over.
    Cut,
}

/// Joins a client and a backend until both have closed. Everything that `exchange` holds is held until then.
pub(crate) fn join(
    upgrade: Upgrade,
    answer: &mut Extensions,
    mut exchange: Exchange,
    (idle, clock): (Duration, Clock),
) {
    let Some(backend) = answer.remove::<OnUpgrade>() else { return };
    let Upgrade { client, line, protocol: _ } = upgrade;
    tokio::spawn(async move {
        let tunnel = std::pin::pin!(run(client, backend, idle, &clock));
        let ended = match &line {
            None => tunnel.await,
            Some(line) => {
                let over = std::pin::pin!(reached(&line.stages, Stage::Over));
                first(tunnel, over).await.unwrap_or_else(|| {
                    line.hold.count_cut();
                    Ended::Cut
                })
            }
        };
        tracing::debug!(?ended, "a tunnel ended");
        exchange.ended(match ended {
            Ended::Closed => End::Whole,
            Ended::BackendFailed => End::Failed,
            Ended::ClientFailed | Ended::Idle | Ended::Cut => End::Dropped,
        });
        // The listener waits for its lines, so all numbers are right by then.
        drop(exchange);
        drop(line);
    });
}

async fn run(client: OnUpgrade, backend: OnUpgrade, idle: Duration, clock: &Clock) -> Ended {
    // The client has its upgrade once it has the head of the answer.
    let Ok(client) = client.await else { return Ended::ClientFailed };
    let Ok(backend) = backend.await else { return Ended::BackendFailed };
    copy::both(TokioIo::new(client), TokioIo::new(backend), idle, clock).await
}

#[cfg(test)]
mod tests {
    use super::is_tunnel;

    #[test]
    fn edge_2_27_another_http_is_no_tunnel() {
        for protocol in ["websocket", "WebSocket", "spdy/3.1", "tcp", "connect-udp"] {
            assert!(is_tunnel(protocol.as_bytes()), "{protocol}");
        }
        for protocol in ["h2c", "H2C", "HTTP/2.0", "TLS/1.0", "h2"] {
            assert!(!is_tunnel(protocol.as_bytes()), "{protocol}");
        }
    }
}
