//! Keys without an effect, and the key that an error names.

use super::*;

/// The error of a document with these lines, and the path that the error names.
fn error(text: &str) -> (String, String) {
    let document =
        toml::from_str::<Document>(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let edge = Edge::new(Config::new(), []);
    let error = edge.proxy.handle().apply(&document).unwrap_err();
    (error.field().to_owned(), error.to_string())
}

/// Regression: these keys were accepted, and did nothing.
#[tokio::test]
async fn edge_2_52_a_key_that_has_no_effect_beside_the_others_is_refused() {
    let one = "[routes.a]\npublic = true\nupstream = { urls = [\"http://b\"] }\n";
    let side = "upstream = { urls = [\"http://c\"] }";
    for (keys, path) in [
        ("replay-buffer = 1000".into(), "replay-buffer"),
        ("replay-buffer = 1000\nretry = { attempts = 1 }".into(), "replay-buffer"),
        ("retry = { attempts = 1, base-delay = \"1s\" }".into(), "retry.base-delay"),
        ("backend-honours-idempotency-keys = true".into(), "backend-honours-idempotency-keys"),
        (
            "backend-honours-idempotency-keys = true\nretry = { attempts = 1 }".into(),
            "backend-honours-idempotency-keys",
        ),
        (format!("split = {{ {side}, salt = \"2026\" }}"), "split.salt"),
        ("rate-limiter = { claim-within = \"1s\" }".into(), "rate-limiter.claim-within"),
        ("per-client = { rate-limiter = { queue = 7 } }".into(), "per-client.rate-limiter.queue"),
        (
            "per-client = { rate-limiter = { max-wait = \"1s\" } }".into(),
            "per-client.rate-limiter.max-wait",
        ),
    ] {
        let (field, text) = error(&format!("{one}{keys}"));
        assert_eq!(field, format!("routes.a.{path}"), "{text}");
        assert!(text.contains("a key without an effect here"), "{text}");
    }
    // One attempt alone says what it means.
    let edge = Edge::new(Config::new(), []);
    edge.proxy.handle().apply(&toml(&format!("{one}retry = {{ attempts = 1 }}"))).unwrap();
    // Beside what they need they are accepted.
    let retrying = "replay-buffer = 1000\nretry = {}\n";
    let both = format!(
        "split = {{ {side}, salt = \"a\", stick-by-header = \"x\" }}\nshadow = {{ {side}, forward-credentials = true }}"
    );
    let edge = Edge::new(Config::new(), []);
    edge.proxy.handle().apply(&toml(&format!("{one}{retrying}{both}"))).unwrap();
}

/// Regression: the first ones had no effect, an empty list meant all, and the last ones complained about another key or
/// listed nothing.
#[tokio::test]
async fn edge_2_52_an_empty_list_and_a_missing_name_are_refused_with_what_there_is() {
    let route = |keys: &str| format!("[routes.a]\n{keys}");
    let one = "public = true\nupstream = { urls = [\"http://b\"] }\n";
    let side = "upstream = { urls = [\"http://c\"] }";
    let sources = "exactly one of `urls`, `file`, `dns`, `dns-srv` and `registry`";
    let srv = "public = true\nupstream = { dns-srv = \"_a._tcp.b\", servers = [] }";
    for (keys, path, value, bound) in [
        (
            format!("{one}methods = [\"POST\"]\nshadow = {{ {side} }}"),
            "shadow",
            "set on a route with POST",
            "set on a route with GET, HEAD or OPTIONS: no other request is copied",
        ),
        (
            format!("{one}shadow = {{ {side}, max-compared-body = 1073741825 }}"),
            "shadow.max-compared-body",
            "1073741825",
            "from 0 to 1073741824 bytes",
        ),
        (
            format!("{one}shadow = {{ {side}, compare-fields = [\"etag\", \"date\"] }}"),
            "shadow.compare-fields",
            "\"date\"",
            "fields of an answer, without those of one connection, `via`, `date`, and request ids",
        ),
        (
            format!("{one}methods = []"),
            "methods",
            "no method",
            "at least one method, or unset for every method",
        ),
        (
            srv.into(),
            "upstream.servers",
            "no address",
            "at least one address, or unset for the servers of the operating system",
        ),
        ("public = true\nupstream = { every = \"10s\" }".into(), "upstream", "nothing", sources),
        ("public = true\nupstream = { servers = [] }".into(), "upstream", "nothing", sources),
        (
            format!("{one}split = {{ upstream = {{ every = 5 }} }}"),
            "split.upstream",
            "nothing",
            sources,
        ),
        (
            "public = true\nservice = \"page\"".into(),
            "service",
            "\"page\"",
            "a service that the program binds; there is none",
        ),
        (
            "admit = \"staff\"\nupstream = { urls = [\"http://b\"] }".into(),
            "admit",
            "\"staff\"",
            "an admission of the document, or one that the program binds; there is none",
        ),
    ] {
        let document = toml(&route(&keys));
        let edge = Edge::new(Config::new(), []);
        let error = edge.proxy.handle().apply(&document).unwrap_err();
        assert_eq!(error.field(), format!("routes.a.{path}"), "{keys}");
        assert_eq!((error.value(), error.bound()), (value, bound), "{keys}");
    }
    for (keys, expected) in [
        ("max-compared-body = -1", "routes.a.shadow"),
        ("max-compared-body = \"1MiB\"", "routes.a.shadow"),
        ("compare-fields = \"etag\"", "routes.a.shadow"),
        ("compare-body = true", "unknown field `compare-body`"),
    ] {
        let text = route(&format!("{one}shadow = {{ {side}, {keys} }}"));
        let error = refused(&text);
        assert!(error.contains(expected), "{keys}: {error}");
    }
}

/// A number is a duration in seconds, everywhere in a document.
#[tokio::test]
async fn edge_2_52_a_duration_is_a_text_or_a_number_of_seconds() {
    for (every, is_fine) in [("5", true), ("1", true), ("1.5", true), ("0.5", false), ("-5", false)]
    {
        let text = format!(
            "[routes.a]\npublic = true\ntime-limiter = {{ limit = 2 }}\n\
             upstream = {{ dns = \"127.0.0.1:1\", every = {every} }}\n"
        );
        let applied = toml::from_str::<Document>(&text)
            .map(|document| Edge::new(Config::new(), []).proxy.handle().apply(&document).map(drop));
        assert_eq!(matches!(applied, Ok(Ok(()))), is_fine, "{every}");
    }
}

/// Regression: these errors named a key that the document does not have, or the section around the key.
#[tokio::test]
async fn edge_2_52_an_error_names_the_key_that_the_operator_has_written() {
    let route = |keys: &str| format!("[routes.a]\n{keys}");
    let one = "upstream = { urls = [\"http://b\"] }\n";
    for (text, path) in [
        (route("public = true"), "routes.a.upstream"),
        (route(one), "routes.a.admit"),
        (route("public = true\nupstream = { urls = [\"ftp://b\"] }"), "routes.a.upstream.urls"),
        (
            route(&format!(
                "{one}public = true\nper-client = {{ rate-limiter = {{}}, trust = [\"x\"] }}"
            )),
            "routes.a.per-client.trust",
        ),
        (
            route(&format!(
                "{one}public = true\nper-client = {{ rate-limiter = {{}}, max-clients = 0 }}"
            )),
            "routes.a.per-client.max-clients",
        ),
        (
            route(&format!(
                "{one}public = true\nshadow = {{ upstream = {{ urls = [\"http://c\"], http2 = true }} }}"
            )),
            "routes.a.shadow.upstream.http2",
        ),
        ("[admissions.a]".into(), "admissions.a"),
    ] {
        let (field, text) = error(&text);
        assert_eq!(field, path, "{text}");
        // A method of Rust is not a key of a document.
        assert!(!text.contains("(..)") && !text.contains("()"), "{text}");
    }
}

#[cfg(all(feature = "jwt", feature = "api-keys"))]
#[test]
fn edge_2_52_an_error_of_an_admission_names_the_key_that_the_operator_has_written() {
    let file = std::env::temp_dir().join(format!("buttress-edge-weak-{}", std::process::id()));
    std::fs::write(&file, "short").unwrap();
    let weak = format!("{{ file = {file:?} }}");
    let hash = "ab".repeat(32);
    let keys = |keys: &str| format!("[admissions.a.api-keys]\nheader = \"x\"\nkeys = [{keys}]");
    let strong = std::env::temp_dir().join(format!("buttress-edge-strong-{}", std::process::id()));
    std::fs::write(&strong, "0123456789abcdef0123456789abcdef").unwrap();
    let jwt = format!("[admissions.a.jwt]\nhs256 = {{ file = {strong:?} }}\n");
    for (text, path) in [
        (keys(&format!("{{ subject = \"s\", key = {weak} }}")), "api-keys.keys[0].key"),
        (keys("{ subject = \"s\", sha256 = \"7\" }"), "api-keys.keys[0].sha256"),
        (keys(&format!("{{ subject = \" \", sha256 = {hash:?} }}")), "api-keys.keys[0].subject"),
        (
            keys(&format!(
                "{{ subject = \"s\", sha256 = {hash:?} }}, {{ subject = \"t\", sha256 = {hash:?} }}"
            )),
            "api-keys.keys",
        ),
        (format!("{jwt}any-audience = true"), "jwt.issuers"),
        (format!("{jwt}issuers = [\"a\"]"), "jwt.audiences"),
        (format!("{jwt}issuers = [\"\"]\naudiences = [\"a\"]"), "jwt.issuers"),
        (format!("{jwt}issuers = [\"a\"]\naudiences = [\"a\"]\nscopes = [\"\"]"), "jwt.scopes"),
        (
            format!("{jwt}any-issuer = true\nissuers = [\"a\"]\naudiences = [\"a\"]"),
            "jwt.any-issuer",
        ),
        ("[admissions.a.jwt]\nhs256 = { env = \"A\" }\ninsecure = true".into(), "jwt.insecure"),
        (
            "[admissions.a.jwt]\njwks = \"http://a\"\nany-issuer = true\nany-audience = true"
                .into(),
            "jwt.jwks",
        ),
    ] {
        let (field, text) = error(&text);
        assert_eq!(field, format!("admissions.a.{path}"), "{text}");
        assert!(!text.contains("(..)") && !text.contains("()"), "{text}");
    }
    // Beyond the numbers of TOML.
    let text = format!(
        r#"{{"admissions": {{"a": {{"api-keys": {{"header": "x", "keys":
        [{{"subject": "s", "sha256": "{hash}", "until": {}}}]}}}}}}}}"#,
        u64::MAX
    );
    let document: Document = serde_json::from_str(&text).unwrap();
    let error = Edge::new(Config::new(), []).proxy.handle().apply(&document).unwrap_err();
    assert_eq!(error.field(), "admissions.a.api-keys.keys[0].until");
    std::fs::remove_file(&file).unwrap();
    std::fs::remove_file(&strong).unwrap();
}
