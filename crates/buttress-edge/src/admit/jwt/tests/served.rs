use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::oneshot;
use tower::BoxError;

use super::super::fetch::KeyUrl;
use super::super::server::LONGEST;
use super::*;
use crate::tests::{Backend, Network};

type Answer = Result<Vec<u8>, BoxError>;

/// A key server whose answers the test gives.
#[derive(Clone, Default)]
struct Server {
    fetches: Arc<AtomicUsize>,
    asked: Arc<Mutex<Vec<oneshot::Sender<Answer>>>>,
}

impl Server {
    fn jwt(&self) -> Jwt {
        let server = self.clone();
        let fetch = move || {
            server.fetches.fetch_add(1, Ordering::Relaxed);
            let (sender, receiver) = oneshot::channel();
            server.asked.lock().unwrap().push(sender);
            async move { receiver.await?.map(Bytes::from) }
        };
        ours(Jwt::jwks_with(fetch))
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::Relaxed)
    }

    /// Answers the fetch in flight.
    async fn answer(&self, answer: Answer) {
        settle().await;
        self.asked.lock().unwrap().pop().unwrap().send(answer).unwrap();
        settle().await;
    }

    async fn keys(&self, keys: &[(&str, &str)]) {
        let keys = keys.iter().map(|(kid, public)| rsa_jwk(kid, public));
        self.answer(Ok(document(keys))).await;
    }
}

/// Begins a request, and returns its answer when it is there.
fn begin(jwt: &Jwt, token: &str) -> tokio::task::JoinHandle<Seen> {
    let (jwt, token) = (jwt.clone(), token.to_owned());
    tokio::spawn(async move { seen(&jwt, &token).await })
}

async fn after(seconds: u64) {
    Clock::default().sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn edge_2_33_a_thousand_requests_make_one_fetch() {
    let server = Server::default();
    let jwt = server.jwt();
    let valid = claims(&Clock::default());
    let (known, unknown) = (rs256("a", RSA_A, &valid), rs256("b", RSA_B, &valid));
    let requests: Vec<_> = (0..1_000)
        .map(|number| begin(&jwt, if number % 2 == 0 { &known } else { &unknown }))
        .collect();
    server.keys(&[("a", RSA_A_PUBLIC)]).await;
    for (number, request) in requests.into_iter().enumerate() {
        let expected = match number % 2 {
            0 => Seen::customer(),
            _ => Seen::refused("the key of the token is unknown"),
        };
        assert_eq!(request.await.unwrap(), expected);
    }
    assert_eq!(server.fetches(), 1);

    // A new key: one fetch, for which known keys do not wait.
    after(10).await;
    let requests: Vec<_> = (0..1_000).map(|_| begin(&jwt, &unknown)).collect();
    settle().await;
    assert_eq!(seen(&jwt, &known).await, Seen::customer());
    server.keys(&[("b", RSA_B_PUBLIC)]).await;
    for request in requests {
        assert_eq!(request.await.unwrap(), Seen::customer());
    }
    assert_eq!(server.fetches(), 2);
    // Edge 2.35: the key left, and its tokens with it.
    assert_eq!(seen(&jwt, &known).await, Seen::refused("the key of the token is unknown"));

    // A flood of names makes no fetch within 10 seconds.
    for number in 0..1_000 {
        let header = json!({ "alg": "RS256", "kid": number.to_string() }).to_string();
        let token = format!("{}.{}.{}", base64(header), base64("{}"), base64("a"));
        assert!(matches!(seen(&jwt, &token).await, Seen::Refused(401, _)));
    }
    assert_eq!(server.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn edge_2_33_a_first_fetch_that_fails_is_503_and_never_401() {
    let valid = claims(&Clock::default());
    let token = rs256("a", RSA_A, &valid);
    let answers: [Answer; 4] = [
        Err("away".into()),
        Ok(b"<html>".to_vec()),
        Ok(document((0..101).map(Value::from))),
        Ok(vec![b' '; LONGEST + 1]),
    ];
    for answer in answers {
        let server = Server::default();
        let jwt = server.jwt();
        let waiting = begin(&jwt, &token);
        server.answer(answer).await;
        assert_eq!(waiting.await.unwrap(), Seen::unavailable(10));
        assert_eq!(seen(&jwt, &token).await, Seen::unavailable(10));
        // Neither is a token that is refused anyway.
        assert_eq!(seen(&jwt, "a.b.c").await, Seen::unavailable(10));
        assert_eq!(server.fetches(), 1);
        after(10).await;
        let waiting = begin(&jwt, &token);
        server.keys(&[("a", RSA_A_PUBLIC)]).await;
        assert_eq!(waiting.await.unwrap(), Seen::customer());
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_37_a_fetch_takes_at_most_5_seconds() {
    let server = Server::default();
    let jwt = server.jwt();
    let token = rs256("a", RSA_A, &claims(&Clock::default()));
    let start = Clock::default().now();
    assert_eq!(seen(&jwt, &token).await, Seen::unavailable(5));
    assert_eq!(Clock::default().now() - start, Duration::from_secs(5));
    // The fetch was dropped.
    assert!(server.asked.lock().unwrap().pop().unwrap().is_closed());
}

#[tokio::test(start_paused = true)]
async fn edge_2_33_clients_that_leave_and_fetchers_that_panic_stop_no_other_request() {
    let server = Server::default();
    let jwt = server.jwt();
    let token = rs256("a", RSA_A, &claims(&Clock::default()));
    let leaves = begin(&jwt, &token);
    settle().await;
    let stays = begin(&jwt, &token);
    settle().await;
    leaves.abort();
    server.keys(&[("a", RSA_A_PUBLIC)]).await;
    assert_eq!(stays.await.unwrap(), Seen::customer());
    assert_eq!(server.fetches(), 1);

    let panics = ours(Jwt::jwks_with(|| async { panic!("a fetcher with a bug") }));
    assert_eq!(seen(&panics, &token).await, Seen::unavailable(10));
    let panics = ours(Jwt::jwks_with(|| -> std::future::Ready<_> { panic!("at once") }));
    assert_eq!(seen(&panics, &token).await, Seen::unavailable(10));
}

#[tokio::test(start_paused = true)]
async fn edge_2_33_stale_keys_serve_while_the_key_server_is_away() {
    let server = Server::default();
    let jwt = server.jwt();
    let mut valid = claims(&Clock::default());
    valid["exp"] = json!(Clock::default().unix().as_secs() + 100 * 3600);
    let token = rs256("a", RSA_A, &valid);
    let first = begin(&jwt, &token);
    server.keys(&[("a", RSA_A_PUBLIC)]).await;
    assert_eq!(first.await.unwrap(), Seen::customer());
    for hour in 1..24 {
        after(3_600).await;
        // It waits 5 seconds for the key server, then the old keys serve.
        assert_eq!(seen(&jwt, &token).await, Seen::customer(), "{hour}");
        assert_eq!(server.fetches(), 1 + hour);
    }
    after(3_600).await;
    // The token is in the cache, and the keys are too old to believe it.
    assert_eq!(seen(&jwt, &token).await, Seen::unavailable(5));
    assert_eq!(seen(&jwt, &token).await, Seen::unavailable(5));
}

/// A `Jwt` whose key server is in memory.
fn over_http() -> (Jwt, Backend) {
    let network = Network::default();
    let backend = network.listen("id.example");
    let url = KeyUrl::in_memory("http://id.example/keys?v=1", network).unwrap();
    (ours(Jwt::of_url(url).insecure()), backend)
}

#[tokio::test(start_paused = true)]
async fn edge_2_37_keys_come_over_http_without_redirects_up_to_256_kib() {
    let token = rs256("a", RSA_A, &claims(&Clock::default()));
    let keys = String::from_utf8(document([rsa_jwk("a", RSA_A_PUBLIC)])).unwrap();
    let full =
        |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let chunked = |body: &str| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
    };
    let most = keys.clone() + &" ".repeat(LONGEST - keys.len());
    let redirect = |status: &str| {
        let location = "Location: http://id.example/other";
        format!("HTTP/1.1 {status}\r\n{location}\r\nContent-Length: {}\r\n\r\n{keys}", keys.len())
    };
    for (answer, expected) in [
        (full(&keys), Seen::customer()),
        (chunked(&most), Seen::customer()),
        (full(&(most.clone() + " ")), Seen::unavailable(10)),
        (chunked(&(most + " ")), Seen::unavailable(10)),
        (redirect("301 Moved Permanently"), Seen::unavailable(10)),
        (redirect("307 Temporary Redirect"), Seen::unavailable(10)),
        (redirect("203 Non-Authoritative Information"), Seen::unavailable(10)),
        (redirect("500 Internal Server Error"), Seen::unavailable(10)),
        // It ends before its length.
        (full(&keys).replace("Content-Length: ", "Content-Length: 9"), Seen::unavailable(10)),
        (String::from("garbage\r\n\r\n"), Seen::unavailable(10)),
    ] {
        let (jwt, mut backend) = over_http();
        let request = begin(&jwt, &token);
        let (mut connection, head) = backend.accept_request().await;
        assert!(head.starts_with("GET /keys?v=1 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("host: id.example\r\n"), "{head}");
        connection.try_write(&answer).await;
        drop(connection);
        assert_eq!(request.await.unwrap(), expected, "{answer:.80}");
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_37_a_key_server_that_sends_a_byte_a_second_is_given_up_after_5_seconds() {
    let (jwt, mut backend) = over_http();
    let token = rs256("a", RSA_A, &claims(&Clock::default()));
    let start = Clock::default().now();
    let request = begin(&jwt, &token);
    let (mut connection, _) = backend.accept_request().await;
    connection.write("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n").await;
    while connection.try_write(" ").await {
        after(1).await;
    }
    assert_eq!(request.await.unwrap(), Seen::unavailable(5));
    assert!(Clock::default().now() - start < Duration::from_secs(8));
    // A key server that cannot be reached.
    let url = KeyUrl::in_memory("http://elsewhere.example/", Network::default()).unwrap();
    let jwt = ours(Jwt::of_url(url).insecure());
    assert_eq!(seen(&jwt, &token).await, Seen::unavailable(10));
}

#[test]
fn edge_2_37_a_key_server_has_https_unless_insecure_is_said() {
    let jwt = Jwt::jwks("http://id.example/keys").unwrap().issuer("a").audience("a");
    let error = jwt.check().unwrap_err().to_string();
    assert_eq!(error, "jwks: a URL of http is not https, unless `.insecure()` is called");
    jwt.insecure().check().unwrap();
    for (url, bound) in [
        ("", "a URL"),
        ("http://", "a URL"),
        ("/keys", "a URL with a host"),
        ("id.example", "a URL of http or https"),
        ("ftp://id.example/keys", "a URL of http or https"),
        ("file:///etc/passwd", "a URL"),
        ("https://user:secret@id.example/keys", "a URL with a host, without a user name"),
    ] {
        let error = Jwt::jwks(url).unwrap_err();
        assert_eq!((error.field(), error.bound()), ("jwks", bound), "{url}");
        assert!(!error.to_string().contains("secret"));
    }
    #[cfg(not(feature = "tls"))]
    {
        let error = Jwt::jwks("https://id.example/keys").unwrap_err();
        assert_eq!(error.bound(), "possible: buttress-edge is built without its feature `tls`");
    }
}

#[cfg(feature = "tls")]
mod over_tls {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::{Certificate, Roots};

    const CERTIFICATE: &[u8] = include_bytes!("keys/id_example.pem");

    #[tokio::test(start_paused = true)]
    async fn edge_2_37_keys_come_over_https_from_a_server_with_a_valid_certificate_only() {
        let token = rs256("a", RSA_A, &claims(&Clock::default()));
        let keys = String::from_utf8(document([rsa_jwk("a", RSA_A_PUBLIC)])).unwrap();
        let certificate =
            Certificate::pem(CERTIFICATE, include_bytes!("keys/id_example.key.pem")).unwrap();
        let ours_alone = Roots::pem(include_bytes!("keys/authority.pem")).unwrap();
        for (host, roots, expected) in [
            ("id.example", ours_alone.clone(), Seen::customer()),
            // The certificate is for another name.
            ("other.example", ours_alone, Seen::unavailable(10)),
            // An authority that is not trusted.
            ("id.example", Roots::pem(CERTIFICATE).unwrap(), Seen::unavailable(10)),
        ] {
            let network = Network::default();
            let mut backend = network.listen(host);
            let url =
                KeyUrl::in_memory_with(&format!("https://{host}/keys"), network, roots).unwrap();
            let jwt = ours(Jwt::of_url(url));
            let request = begin(&jwt, &token);
            let connection = backend.accept().await.into_io();
            if let Ok((mut connection, _)) = certificate.accept(connection).await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && connection.read_buf(&mut head).await.is_ok() {
                }
                assert!(head.starts_with(b"GET /keys HTTP/1.1\r\n"));
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", keys.len());
                connection.write_all((head + &keys).as_bytes()).await.unwrap();
                connection.flush().await.unwrap();
                assert_eq!(request.await.unwrap(), expected);
            } else {
                assert_eq!(request.await.unwrap(), expected);
                assert_ne!(expected, Seen::customer());
            }
        }
    }

    #[test]
    fn edge_2_37_a_url_of_https_needs_no_insecure() {
        let jwt = Jwt::jwks("https://id.example/keys").unwrap().issuer("a").audience("a");
        assert_eq!(jwt.check(), Ok(()));
    }
}
