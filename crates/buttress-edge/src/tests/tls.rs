//! TLS of the listener and of backends.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;
use tokio_rustls::client::TlsStream;

use super::support::{Edge, field, get, status};
use crate::serve::connection::Stage;
use crate::tls::Upstreams;
use crate::{Certificate, Config, Roots, Route, Upstream};

const CERTIFICATE: &[u8] = include_bytes!("../admit/jwt/tests/keys/id_example.pem");
const KEY: &[u8] = include_bytes!("../admit/jwt/tests/keys/id_example.key.pem");
const AUTHORITY: &[u8] = include_bytes!("../admit/jwt/tests/keys/authority.pem");

fn certificate() -> Certificate {
    Certificate::pem(CERTIFICATE, KEY).unwrap()
}

fn trusted() -> Config {
    Config::new().roots(Roots::pem(AUTHORITY).unwrap())
}

/// Reads a head, byte by byte.
async fn head(io: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Opens a connection to a listener with TLS, as a client that speaks HTTP/2 or HTTP/1.1.
async fn dial(
    edge: &Edge,
    stages: &watch::Receiver<Stage>,
    speaks_http2: bool,
) -> TlsStream<DuplexStream> {
    let (client, _task) = edge.connect_tls(stages, certificate());
    let tls = Upstreams::new(Some(Roots::pem(AUTHORITY).unwrap()));
    let tls = if speaks_http2 { tls.http2() } else { tls };
    tls.connect("id.example", client.into_io()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn edge_2_48_with_tls_the_client_chooses_the_protocol_in_the_handshake() {
    let (edge, mut backend) = Edge::simple();
    let (_stage, stages) = watch::channel(Stage::Running);
    let mut client = dial(&edge, &stages, false).await;
    client.write_all(get("/").as_bytes()).await.unwrap();
    let (connection, seen) = backend.serve_one().await;
    assert_eq!(field(&seen, "x-forwarded-proto"), Some("https"));
    assert_eq!(status(&head(&mut client).await), 200);
    drop(connection);

    let io = TokioIo::new(dial(&edge, &stages, true).await);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://shop.example/a").body(Empty::<Bytes>::new()).unwrap();
    let (response, (_connection, seen)) =
        tokio::join!(sender.send_request(request), backend.serve_one());
    assert_eq!(field(&seen, "via"), Some("2 buttress"));
    assert_eq!(field(&seen, "x-forwarded-proto"), Some("https"));
    let response = response.unwrap();
    assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_2));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
}

#[tokio::test(start_paused = true)]
async fn edge_2_52_a_certificate_is_renewed_while_the_listener_serves() {
    const RENEWED: &[u8] = include_bytes!("../admit/jwt/tests/keys/renewed.pem");
    const ITS_KEY: &[u8] = include_bytes!("../admit/jwt/tests/keys/renewed.key.pem");
    const ITS_AUTHORITY: &[u8] = include_bytes!("../admit/jwt/tests/keys/renewed_authority.pem");
    let (edge, mut backend) = Edge::simple();
    let (_stage, stages) = watch::channel(Stage::Running);
    let certificate = certificate();
    let dial = async |authority: &[u8]| {
        let (client, _task) = edge.connect_tls(&stages, certificate.clone());
        let tls = Upstreams::new(Some(Roots::pem(authority).unwrap()));
        tls.connect("id.example", client.into_io()).await
    };
    let mut early = dial(AUTHORITY).await.unwrap();
    assert!(dial(ITS_AUTHORITY).await.is_err());
    // A wrong pair changes nothing.
    assert_eq!(certificate.renew(RENEWED, KEY).unwrap_err().field(), "key");
    assert_eq!(certificate.renew(KEY, ITS_KEY).unwrap_err().field(), "certificate");
    assert!(dial(AUTHORITY).await.is_ok());
    certificate.renew(RENEWED, ITS_KEY).unwrap();
    assert!(dial(AUTHORITY).await.is_err());
    let mut late = dial(ITS_AUTHORITY).await.unwrap();
    // Connections of both certificates are served.
    for client in [&mut early, &mut late] {
        client.write_all(get("/").as_bytes()).await.unwrap();
        let (_connection, _) = backend.serve_one().await;
        assert_eq!(status(&head(client).await), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_47_a_slow_handshake_is_closed_after_ten_seconds() {
    let (edge, _backend) = Edge::simple();
    let (_stage, stages) = watch::channel(Stage::Running);
    let clock = buttress::Clock::default();
    let start = clock.now();
    let (mut client, task) = edge.connect_tls(&stages, certificate());
    // The beginning of a client hello.
    client.write([22, 3, 1]).await;
    client.bytes_to_end().await;
    assert_eq!(clock.now() - start, Duration::from_secs(10));
    assert!(task.await.unwrap());
}

fn secure(url: &str) -> Route {
    Route::new("all").to(Upstream::fixed([url]).unwrap()).public()
}

#[tokio::test(start_paused = true)]
async fn a_backend_of_https_is_believed_by_its_certificate_only() {
    let other = Config::new().roots(Roots::pem(CERTIFICATE).unwrap());
    for (config, url, is_believed) in [
        (trusted(), "https://id.example/v1", true),
        // The certificate is for another name.
        (trusted(), "https://other.example", false),
        // An authority that is not trusted.
        (other, "https://id.example", false),
    ] {
        let edge = Edge::new(config, [secure(url)]);
        let host = url.trim_start_matches("https://").trim_end_matches("/v1");
        let mut backend = edge.network.listen(host);
        let mut client = edge.open();
        client.write(get("/a")).await;
        let connection = backend.accept().await.into_io();
        let accepted = certificate().accept(connection).await;
        if let Ok((mut connection, is_http2)) = accepted {
            let seen = head(&mut connection).await;
            assert!(seen.starts_with("GET /v1/a HTTP/1.1\r\n") && !is_http2, "{seen}");
            assert_eq!(field(&seen, "host"), Some("id.example"));
            connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            connection.flush().await.unwrap();
            assert_eq!(status(&client.answer().await.0), 200);
        } else {
            let (head, body) = client.answer().await;
            assert_eq!(status(&head), 502);
            assert_eq!(field(&head, "proxy-status"), Some("buttress; error=connection_refused"));
            assert!(!body.contains("certificate"), "{body}");
        }
        assert_eq!(edge.proxy.stats()[0].1.answered, u64::from(is_believed), "{url}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_of_https_that_does_not_speak_http2_gets_no_request_of_http2() {
    let upstream = Upstream::fixed(["https://id.example"]).unwrap().http2();
    let edge = Edge::new(trusted(), [Route::new("all").to(upstream).public()]);
    let mut backend = edge.network.listen("id.example");
    let mut client = edge.open();
    client.write(get("/")).await;
    let connection = backend.accept().await.into_io();
    // It has a certificate, and negotiates no protocol.
    let accepted = certificate().without_protocols().accept(connection).await;
    let mut sent = Vec::new();
    // The proxy may close the connection before the end of the handshake, and without a farewell.
    if let Ok((mut connection, is_http2)) = accepted {
        assert!(!is_http2);
        let _ = connection.read_to_end(&mut sent).await;
    }
    assert_eq!(sent, b"");
    assert_eq!(status(&client.answer().await.0), 502);
}

#[test]
fn what_is_no_certificate_is_refused_without_its_text() {
    let field = |error: buttress::InvalidConfig| {
        assert!(!error.to_string().contains("BEGIN"), "{error}");
        error.field().to_owned()
    };
    for text in [&b""[..], b"secret", KEY] {
        assert_eq!(field(Roots::pem(text).unwrap_err()), "roots");
        assert_eq!(field(Certificate::pem(text, KEY).unwrap_err()), "certificate");
    }
    for key in [&b""[..], CERTIFICATE] {
        assert_eq!(field(Certificate::pem(CERTIFICATE, key).unwrap_err()), "key");
    }
    // A key of another certificate.
    let other = include_bytes!("../admit/jwt/tests/keys/rsa_a.pem");
    assert_eq!(field(Certificate::pem(CERTIFICATE, other).unwrap_err()), "key");
    assert!(!format!("{:?}", certificate()).contains("id.example"));
}
