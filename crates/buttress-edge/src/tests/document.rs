//! Routes of documents.

mod compare;
mod found;
mod keys;
mod sides;

use std::sync::Arc;

use http::Request;

use super::support::{Backend, Edge, get, status};
use crate::{Admission, Admit, Body, Config, Document, Replaced, RouteStats, Secret, Subject};

const ORDERS: &str = r#"
[routes.orders]
host = "shop.example"
prefix = "/api/orders"
methods = ["GET", "POST"]
strip = "/api"
admit = "staff"
forward-identity = "x-user"
upstream = { urls = ["http://b"], balance = { policy = "round-robin" } }
time-limiter = { limit = "10s" }
retry = { attempts = 2 }
rate-limiter = { max-tokens = 2, refill-tokens = 1, refill-period = "1m", queue = 0 }
bulkhead = { max-concurrent = 64 }
circuit-breaker = { consecutive-failures = 5 }
max-request-body = 1000
backend-honours-idempotency-keys = true

[routes.orders.per-client]
trust = ["10.0.0.0/8"]
rate-limiter = { max-tokens = 100 }
"#;

fn toml(text: &str) -> Document {
    toml::from_str(text).unwrap()
}

/// Why a document is refused, whenever that is found out.
fn refused(text: &str) -> String {
    match toml::from_str::<Document>(text) {
        Err(error) => error.to_string(),
        Ok(document) => {
            let edge = Edge::new(Config::new(), []);
            edge.proxy.handle().apply(&document).unwrap_err().to_string()
        }
    }
}

fn staff() -> Arc<dyn Admit> {
    Arc::new(|mut request: Request<Body>| {
        request.extensions_mut().insert(Subject::new("me").unwrap());
        Admission::Now(Ok(request))
    })
}

/// Sends a request that the backend answers with 200, and returns what the backend got.
async fn pass(edge: &Edge, backend: &mut Backend, target: &str) -> String {
    let mut client = edge.open();
    client.write(get(target)).await;
    let (_connection, head) = backend.serve_one().await;
    assert_eq!(status(&client.answer().await.0), 200, "{target}");
    head
}

async fn ask(edge: &Edge, target: &str) -> u16 {
    status(&edge.open().exchange(get(target)).await.0)
}

#[tokio::test(start_paused = true)]
async fn edge_2_52_a_document_is_applied_and_an_untouched_route_keeps_its_tokens_and_numbers() {
    let edge = Edge::new(Config::new(), []);
    let mut backend = edge.network.listen("b");
    let (handle, staff) = (edge.proxy.handle(), staff());
    // No backend is connected to: this one does not exist.
    let other = "[routes.other]\nprefix = \"/other\"\npublic = true\nupstream = { urls = [\"http://off\"] }\n";
    let document = toml(&format!("{other}{ORDERS}")).bind("staff", Arc::clone(&staff));
    let applied = handle.apply(&document).unwrap();
    let names = |names: &[&str]| names.iter().map(|name| String::from(*name)).collect();
    assert_eq!(applied, Replaced { added: names(&["orders", "other"]), ..Replaced::default() });
    let head = pass(&edge, &mut backend, "/api/orders/7").await;
    assert!(head.starts_with("GET /orders/7 ") && head.contains("x-user: me\r\n"), "{head}");
    assert_eq!(ask(&edge, "/other").await, 502);

    // The same text in another format, without the other route.
    let value: toml::Value = toml::from_str(ORDERS).unwrap();
    let yaml = serde_norway::to_string(&value).unwrap();
    let document: Document = serde_norway::from_str(&yaml).unwrap();
    let applied = handle.apply(&document.bind("staff", Arc::clone(&staff))).unwrap();
    let expected = Replaced {
        continued: names(&["orders"]),
        removed: names(&["other"]),
        ..Replaced::default()
    };
    assert_eq!(applied, expected);
    pass(&edge, &mut backend, "/api/orders").await;
    assert_eq!(ask(&edge, "/api/orders").await, 429);
    let stats = edge.proxy.stats();
    assert_eq!((stats[0].1.begun, stats[0].1.answered), (3, 2));

    // A changed section is a new route, which continues the numbers.
    let changed = ORDERS.replace("max-tokens = 2", "max-tokens = 1");
    handle.apply(&toml(&changed).bind("staff", staff)).unwrap();
    pass(&edge, &mut backend, "/api/orders").await;
    assert_eq!(ask(&edge, "/api/orders").await, 429);
    assert_eq!(edge.proxy.stats()[0].1.answered, 3);
    assert_eq!(edge.proxy.stats().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn edge_2_52_a_wrong_document_changes_nothing_and_its_error_has_the_path() {
    let route = |keys: &str| format!("[routes.a]\nupstream = {{ urls = [\"http://b\"] }}\n{keys}");
    for (text, expected) in [
        ("[route.a]\n".into(), "unknown field `route`"),
        (route("public = true\nprefx = \"/a\""), "unknown field `prefx`"),
        (route("public = true\nretry = { atempts = 2 }"), "routes.a.retry"),
        (route("public = true\nretry = { attempts = 0 }"), "routes.a.retry.attempts"),
        (
            route("public = true\nbulkhead = { max-concurrent = 0 }"),
            "routes.a.bulkhead.max-concurrent",
        ),
        (route("public = true\nmax-request-body = -1"), "routes.a.max-request-body"),
        (route("public = true\nmethods = [\"G T\"]"), "routes.a.methods"),
        (route("public = true\nprefix = \"/a/../b\""), "routes.a.prefix"),
        (route(""), "routes.a.admit"),
        (route("admit = \"staff\""), "routes.a.admit"),
        ("[routes.a]\npublic = true".into(), "routes.a.upstream: nothing"),
        (
            "[routes.a]\npublic = true\nupstream = { urls = [\"ftp://b\"] }".into(),
            "routes.a.upstream",
        ),
        (
            format!(
                "{}\n[routes.b]\npublic = true\nupstream = {{ urls = [\"http://b\"] }}",
                route("public = true")
            ),
            "routes",
        ),
    ] {
        let error = refused(&text);
        assert!(error.contains(expected), "{text}: {error}");
    }
    let twice = r#"{"routes": {"a": {"public": true}, "a": {"public": true}}}"#;
    let error = serde_json::from_str::<Document>(twice).unwrap_err().to_string();
    assert!(error.contains("routes.a: the name is used twice"), "{error}");

    let edge = Edge::new(Config::new(), []);
    let mut backend = edge.network.listen("b");
    let handle = edge.proxy.handle();
    handle.apply(&toml(&route("public = true"))).unwrap();
    handle.apply(&toml(&route("public = true\nmethods = [\"TRACE\"]"))).unwrap_err();
    pass(&edge, &mut backend, "/").await;
    let expected = RouteStats { begun: 1, answered: 1, ..RouteStats::default() };
    assert_eq!(edge.proxy.stats()[0].1, expected);
}

/// Regression: the last of two equal keys won, and a key without a number had no effect.
#[test]
fn edge_2_52_a_key_that_stands_twice_or_has_no_value_is_an_error_with_its_path() {
    let json = |text: &str| serde_json::from_str::<Document>(text).unwrap_err().to_string();
    let yaml = |text: &str| serde_norway::from_str::<Document>(text).unwrap_err().to_string();
    let of_toml = |keys: &str| refused(&format!("[routes.a]\npublic = true\n{keys}"));
    for (error, expected) in [
        (
            json(r#"{"routes": {"a": {"admit": "staff", "host": "a", "admit": "partners"}}}"#),
            "routes.a.admit: the key is used twice",
        ),
        (
            json(r#"{"routes": {"a": {"split": {"share": 0.1, "share": 1}}}}"#),
            "routes.a.split.share: the key is used twice",
        ),
        (
            json(r#"{"admissions": {"a": {"api-keys": {"keys": [{"until": null}]}}}}"#),
            "admissions.a.api-keys.keys[0].until: the key has no value",
        ),
        (
            yaml("routes:\n  a:\n    public: true\n    rate-limiter:\n"),
            "routes.a.rate-limiter: the key has no value",
        ),
        (yaml("routes:\n  a:\n    host: x\n    host: y\n"), "host"),
        (
            of_toml("max-request-body = inf"),
            "routes.a.max-request-body: inf is not a finite number",
        ),
        (of_toml("split = { share = nan }"), "routes.a.split.share: NaN is not a finite number"),
    ] {
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn edge_2_52_a_secret_is_named_and_never_stands_in_the_document() {
    #[derive(serde::Deserialize, Debug)]
    struct Section {
        key: Secret,
    }
    let read = |text: &str| toml::from_str::<Section>(text);
    for text in ["key = \"hunter2\"", "key = { value = \"hunter2\" }", "key = {}", "key = 7"] {
        let error = read(text).unwrap_err();
        // The parser shows the line; the message itself has no credential.
        assert!(!error.message().contains("hunter2"), "{}", error.message());
    }
    assert!(read("key = { env = \"A\", file = \"b\" }").is_err());

    let missing = read("key = { env = \"BUTTRESS_EDGE_NO_SUCH_SECRET\" }").unwrap().key;
    let error = missing.read().unwrap_err().to_string();
    assert!(error.contains("BUTTRESS_EDGE_NO_SUCH_SECRET"), "{error}");
    assert!(read("key = { env = \"PATH\" }").unwrap().key.read().is_ok());

    let path = std::env::temp_dir().join(format!("buttress-edge-secret-{}", std::process::id()));
    std::fs::write(&path, "hunter2\n").unwrap();
    let secret = read(&format!("key = {{ file = {path:?} }}")).unwrap().key;
    assert_eq!(secret.read().unwrap(), b"hunter2");
    std::fs::remove_file(&path).unwrap();
    let error = secret.read().unwrap_err();
    assert!(std::error::Error::source(&error).is_some());
}

const KEYS: &str = r#"
[admissions.partners.api-keys]
header = "x-api-key"
keys = [{ subject = "ann", key = { file = "FILE" } }]

[routes.all]
admit = "partners"
forward-identity = "x-user"
upstream = { urls = ["http://b"] }
rate-limiter = { max-tokens = 2, refill-tokens = 1, refill-period = "1h", queue = 0 }
"#;

#[cfg(feature = "api-keys")]
#[tokio::test(start_paused = true)]
async fn edge_2_52_a_document_has_api_keys_in_files_and_new_ones_change_no_route() {
    let file = std::env::temp_dir().join(format!("buttress-edge-key-{}", std::process::id()));
    let document = || toml(&KEYS.replace("FILE", file.to_str().unwrap()));
    let edge = Edge::new(Config::new(), []);
    let mut backend = edge.network.listen("b");
    let handle = edge.proxy.handle();
    let error = handle.apply(&document()).unwrap_err();
    assert_eq!(error.field(), "admissions.partners.api-keys.keys[0].key");

    let with = |key: &str| format!("GET / HTTP/1.1\r\nHost: a\r\nX-Api-Key: {key}\r\n\r\n");
    let (old, new) = ("key-of-ann-0123456789", "key-of-ann-9876543210");
    for (key, other) in [(old, new), (new, old)] {
        std::fs::write(&file, format!("{key}\n")).unwrap();
        handle.apply(&document()).unwrap();
        assert_eq!(status(&edge.open().exchange(with(other)).await.0), 401);
        let mut client = edge.open();
        client.write(with(key)).await;
        let (_connection, head) = backend.serve_one().await;
        assert!(head.contains("x-user: ann\r\n") && !head.contains("x-api-key"), "{head}");
        assert_eq!(status(&client.answer().await.0), 200);
    }
    // Two tokens are spent: the limiter is the one from before the new key.
    assert_eq!(status(&edge.open().exchange(with(new)).await.0), 429);
    std::fs::write(&file, "short").unwrap();
    handle.apply(&document()).unwrap_err();
    assert_eq!(status(&edge.open().exchange(with(new)).await.0), 429);
    std::fs::remove_file(&file).unwrap();
}

#[cfg(feature = "jwt")]
#[tokio::test(start_paused = true)]
async fn edge_2_52_a_document_has_the_keys_of_tokens_in_files() {
    let name = format!("buttress-edge-secret-of-tokens-{}", std::process::id());
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, "0123456789abcdef0123456789abcdef").unwrap();
    let text = format!(
        "[admissions.staff.jwt]\nhs256 = {{ file = {file:?} }}\nissuers = [\"https://id.example\"]\n\
         audiences = [\"shop\"]\n[routes.all]\nadmit = \"staff\"\nupstream = {{ urls = [\"http://b\"] }}\n\
         rate-limiter = {{ max-tokens = 1, refill-tokens = 1, refill-period = \"1h\", queue = 0 }}\n"
    );
    let edge = Edge::new(Config::new(), []);
    let mut backend = edge.network.listen("b");
    let handle = edge.proxy.handle();
    let claims = serde_json::json!({
        "iss": "https://id.example", "aud": "shop", "sub": "ann",
        "exp": buttress::Clock::default().unix().as_secs() + 60,
    });
    let ask = |secret: &[u8]| {
        let key = jsonwebtoken::EncodingKey::from_secret(secret);
        let signer = jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER.signer_factory;
        let signer = signer(&jsonwebtoken::Algorithm::HS256, &key).unwrap();
        let text = |bytes: &[u8]| {
            base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes)
        };
        let signed =
            format!("{}.{}", text(br#"{"alg":"HS256"}"#), text(claims.to_string().as_bytes()));
        let signature = text(&signer.sign(signed.as_bytes()));
        format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {signed}.{signature}\r\n\r\n")
    };
    let secret = b"0123456789abcdef0123456789abcdef";
    handle.apply(&toml(&text)).unwrap();
    let mut client = edge.open();
    client.write(ask(secret)).await;
    let (_connection, _) = backend.serve_one().await;
    assert_eq!(status(&client.answer().await.0), 200);
    // Nothing has changed, so the route keeps its limiter.
    handle.apply(&toml(&text)).unwrap();
    assert_eq!(status(&edge.open().exchange(ask(secret)).await.0), 429);
    // Another secret in the same file is another admission.
    std::fs::write(&file, "fedcba9876543210fedcba9876543210").unwrap();
    handle.apply(&toml(&text)).unwrap();
    assert_eq!(status(&edge.open().exchange(ask(secret)).await.0), 401);
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn edge_2_52_a_wrong_admission_is_refused_with_its_path() {
    for (text, expected) in [
        ("[admissions.a]\nkey = 1", "admissions.a"),
        (
            "[admissions.a.api-keys]\nheader = \"x\"\nkeys = [{ subject = \"s\", key = \"literal\" }]",
            "admissions.a.api-keys",
        ),
        ("[admissions.a]", "admissions.a: nothing"),
        #[cfg(feature = "api-keys")]
        ("[admissions.a.api-keys]\nheader = \"x y\"\nkeys = []", "admissions.a.api-keys.header:"),
        #[cfg(feature = "api-keys")]
        (
            "[admissions.a.api-keys]\nheader = \"x\"\nkeys = [{ subject = \"s\" }]",
            "admissions.a.api-keys.keys[0]",
        ),
        #[cfg(feature = "jwt")]
        ("[admissions.a.jwt]\nissuers = []", "admissions.a.jwt"),
        #[cfg(feature = "jwt")]
        (
            "[admissions.a.jwt]\njwks = \"http://a/keys\"\nany-issuer = true\nany-audience = true",
            "admissions.a.jwt.jwks",
        ),
        #[cfg(not(feature = "jwt"))]
        ("[admissions.a.jwt]\nissuers = []", "without its feature `jwt`"),
    ] {
        let error = refused(text);
        assert!(error.contains(expected), "{text}: {error}");
        assert!(!error.contains("literal") || error.contains("keys = "), "{error}");
    }
    let edge = Edge::new(Config::new(), []);
    let twice = toml(KEYS).bind("partners", staff());
    let error = edge.proxy.handle().apply(&twice).unwrap_err();
    assert_eq!(error.field(), "admissions.partners");
}
