//! Splits, shadows, services and found backends of documents.

use buttress::Clock;
use tower::service_fn;

use super::*;
use crate::{LocalService, Upstream};

const SHIFTED: &str = r#"
[routes.orders]
public = true
upstream = { urls = ["http://old"] }
rate-limiter = { max-tokens = 4, refill-tokens = 1, refill-period = "1h", queue = 0 }

[routes.orders.split]
upstream = { urls = ["http://new"] }
share = 0.0
salt = "2026"
stick-by-header = "x-customer"
force-by-header = "x-backend"
fall-back = true
circuit-breaker = { consecutive-failures = 5 }

[routes.orders.shadow]
upstream = { urls = ["http://mirror"] }
share = 0.0
max-running = 7
keep-one-in = 1
max-compared-body = 0
"#;

/// Answers every request at `authority` with the authority.
pub(super) fn answers(edge: &Edge, authority: &'static str) {
    let mut backend = edge.network.listen(authority);
    tokio::spawn(async move {
        loop {
            let mut connection = backend.accept().await;
            tokio::spawn(async move {
                while connection.try_read_head().await {
                    let length = authority.len();
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                    connection.write(head + authority).await;
                }
            });
        }
    });
}

/// An edge without routes, whose backends answer with their names.
fn with_both_sides() -> Edge {
    let edge = Edge::new(Config::new(), []);
    for authority in ["old", "new", "mirror"] {
        answers(&edge, authority);
    }
    edge
}

pub(super) async fn side(edge: &Edge) -> (u16, String) {
    let (head, body) = edge.open().exchange(get("/")).await;
    (status(&head), body)
}

#[tokio::test(start_paused = true)]
async fn edge_3_3_a_document_changes_a_share_and_the_route_keeps_its_state() {
    let edge = with_both_sides();
    let handle = edge.proxy.handle();
    handle.apply(&toml(SHIFTED)).unwrap();
    let (split, shadow) = (handle.split("orders").unwrap(), handle.shadow("orders").unwrap());
    assert_eq!((split.stats().share, shadow.stats().share), (0.0, 0.0));
    assert_eq!(side(&edge).await, (200, "old".into()));

    let shares = SHIFTED.replace("share = 0.0", "share = 1.0");
    let value: toml::Value = toml::from_str(&shares).unwrap();
    let yaml: Document = serde_norway::from_str(&serde_norway::to_string(&value).unwrap()).unwrap();
    handle.apply(&yaml).unwrap();
    assert_eq!(side(&edge).await, (200, "new".into()));
    while shadow.stats().running > 0 {
        // The clock moves only while all tasks wait.
        Clock::default().sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!((shadow.stats().mirrored, shadow.stats().same), (1, 1));

    // An operator takes everything back. A document with the same shares does not undo that.
    split.share(0.0).unwrap();
    handle.apply(&toml(&shares)).unwrap();
    assert_eq!(side(&edge).await, (200, "old".into()));
    // A wrong share changes nothing, not even the other one.
    let wrong =
        shares.replacen("share = 1.0", "share = 0.5", 1).replacen("share = 1.0", "share = 7", 1);
    assert_eq!(handle.apply(&toml(&wrong)).unwrap_err().field(), "routes.orders.shadow.share");
    assert_eq!((split.stats().share, shadow.stats().share), (0.0, 1.0));

    // Four tokens: it is the limiter of the first document.
    assert_eq!(side(&edge).await.0, 200);
    assert_eq!(side(&edge).await.0, 429);
    // Another salt chooses other requests, so its share begins with the share of the document.
    let salted = shares.replace("2026", "2027").replace("max-tokens = 4", "max-tokens = 5");
    handle.apply(&toml(&salted)).unwrap();
    assert_eq!(side(&edge).await, (200, "new".into()));
    assert_eq!(split.stats().share, 0.0);
    assert!(handle.split("other").is_none());
}

/// Regression: a new route began with the share of the document, and the handle of the operator changed nothing.
#[tokio::test(start_paused = true)]
async fn edge_3_2_another_key_of_a_route_leaves_the_shares_as_an_operator_has_set_them() {
    let edge = with_both_sides();
    let handle = edge.proxy.handle();
    let shares = SHIFTED.replace("share = 0.0", "share = 1.0");
    handle.apply(&toml(&shares)).unwrap();
    let (split, shadow) = (handle.split("orders").unwrap(), handle.shadow("orders").unwrap());
    split.share(0.0).unwrap();
    shadow.share(0.5).unwrap();
    let keys = "public = true\ntime-limiter = { limit = \"9s\" }";
    let other = shares.replace("public = true", keys);
    handle.apply(&toml(&other)).unwrap();
    assert_eq!(side(&edge).await, (200, "old".into()));
    assert_eq!(handle.shadow("orders").unwrap().stats().share, 0.5);
    split.share(1.0).unwrap();
    shadow.share(0.25).unwrap();
    assert_eq!(side(&edge).await, (200, "new".into()));
    assert_eq!(handle.shadow("orders").unwrap().stats().share, 0.25);
    // The handle of the mirror is new, and the share is the operator's.
    let other = other.replace("max-running = 7", "max-running = 8");
    handle.apply(&toml(&other)).unwrap();
    assert_eq!(handle.shadow("orders").unwrap().stats().share, 0.25);
    // A share that the document changes counts, with another key beside it.
    let shares = other.replace("share = 1.0", "share = 0.0").replace("9s", "8s");
    handle.apply(&toml(&shares)).unwrap();
    assert_eq!(side(&edge).await, (200, "old".into()));
    assert_eq!((split.stats().share, handle.shadow("orders").unwrap().stats().share), (0.0, 0.0));
}

/// Regression: another key of a route gave each of its parts a new state.
#[tokio::test(start_paused = true)]
async fn edge_2_44_a_part_of_a_route_keeps_its_state_while_its_own_section_stays() {
    let edge = Edge::new(Config::new(), []);
    let handle = edge.proxy.handle();
    let text = "[routes.a]\npublic = true\nupstream = { urls = [\"http://b\", \"http://c\"] }\n\
                rate-limiter = { max-tokens = 2, refill-tokens = 1, refill-period = \"1h\", queue = 0 }\n\
                circuit-breaker = { consecutive-failures = 1, open-for = \"1h\" }\n\
                split = { upstream = { urls = [\"http://d\"] } }\n\
                shadow = { upstream = { urls = [\"http://e\"] } }\n";
    handle.apply(&toml(text)).unwrap();
    let (old, new) = (handle.upstream("a").unwrap(), handle.new_side("a").unwrap());
    let mirror = handle.mirror("a").unwrap();
    assert!(old.handle().mark_down("http://b"));
    assert!(new.handle().mark_down("http://d") && mirror.handle().mark_down("http://e"));
    let down = |upstream: Option<Upstream>| {
        let stats = upstream.unwrap().handle().stats();
        stats.endpoints - stats.endpoints_in
    };
    assert_eq!(side(&edge).await.0, 502);
    assert_eq!(side(&edge).await.0, 503, "the circuit is open");
    let other = format!("{text}max-request-body = 7\n");
    handle.apply(&toml(&other)).unwrap();
    let downs = [handle.upstream("a"), handle.new_side("a"), handle.mirror("a")].map(down);
    assert_eq!(downs, [1, 1, 1]);
    assert_eq!(side(&edge).await.0, 429, "both tokens are spent");
    // Another limiter has tokens, and the circuit stays open until its backends change.
    let other = other.replace("max-tokens = 2", "max-tokens = 3");
    handle.apply(&toml(&other)).unwrap();
    assert_eq!(side(&edge).await.0, 503);
    handle.apply(&toml(&other.replace("http://c", "http://f"))).unwrap();
    assert_eq!(side(&edge).await.0, 502);
    assert_eq!(down(handle.upstream("a")), 0);
    assert!(handle.upstream("b").is_none());
}

#[tokio::test(start_paused = true)]
async fn edge_3_7_a_document_limits_how_long_a_mirror_may_take() {
    let edge = Edge::new(Config::new(), []);
    answers(&edge, "old");
    // Takes connections, and never answers.
    let _mirror = edge.network.listen("mirror");
    let handle = edge.proxy.handle();
    let text = "[routes.orders]\npublic = true\nupstream = { urls = [\"http://old\"] }\n\
                shadow = { upstream = { urls = [\"http://mirror\"] }, share = 1.0, within = \"2s\" }";
    handle.apply(&toml(text)).unwrap();
    let shadow = handle.shadow("orders").unwrap();
    assert_eq!(side(&edge).await, (200, "old".into()));
    let clock = Clock::default();
    let begun = clock.now();
    while shadow.stats().running > 0 {
        clock.sleep(std::time::Duration::from_millis(10)).await;
    }
    let taken = clock.now() - begun;
    assert_eq!(shadow.stats().timed_out, 1);
    assert!(taken.as_millis().abs_diff(2000) <= 20, "{taken:?}");
}

#[tokio::test(start_paused = true)]
async fn edge_4_6_a_document_names_a_service_that_the_program_has_bound() {
    let page = |text: &'static str| {
        LocalService::new(service_fn(move |_: Request<Body>| async move {
            Ok::<_, tower::BoxError>(http::Response::new(Body::from(text)))
        }))
    };
    let text = "[routes.page]\npublic = true\nservice = \"page\"\n\
                rate-limiter = { max-tokens = 2, refill-tokens = 1, refill-period = \"1h\", queue = 0 }";
    let edge = Edge::new(Config::new(), []);
    let handle = edge.proxy.handle();
    let error = handle.apply(&toml(text).bind_service("other", page("x"))).unwrap_err();
    assert_eq!(error.field(), "routes.page.service");
    assert!(error.bound().contains("there are: other"), "{error}");

    let first = page("first");
    for _ in 0..2 {
        handle.apply(&toml(text).bind_service("page", first.clone())).unwrap();
        assert_eq!(side(&edge).await, (200, "first".into()));
    }
    assert_eq!(side(&edge).await.0, 429);
    let text = text.replace("max-tokens = 2", "max-tokens = 3");
    handle.apply(&toml(&text).bind_service("page", page("second"))).unwrap();
    assert_eq!(side(&edge).await, (200, "second".into()));
    assert!(handle.split("page").is_none() && handle.shadow("page").is_none());
}

#[tokio::test(start_paused = true)]
async fn edge_2_52_a_document_finds_backends_by_dns_and_an_untouched_route_keeps_them() {
    let edge = Edge::new(Config::new(), []);
    answers(&edge, "127.0.0.1:8001");
    let handle = edge.proxy.handle();
    let route = "[routes.a]\npublic = true\nupstream = { dns = \"127.0.0.1:8001\" }\n";
    handle.apply(&toml(route)).unwrap();
    assert_eq!(side(&edge).await, (200, "127.0.0.1:8001".into()));
    let other =
        "[routes.b]\nprefix = \"/b\"\npublic = true\nupstream = { dns = \"127.0.0.1:1\" }\n";
    let applied = handle.apply(&toml(&format!("{route}{other}"))).unwrap();
    assert_eq!((applied.added, applied.continued), (vec!["b".into()], vec!["a".into()]));
    // No lookup stands between: the set is the one from before.
    assert_eq!(side(&edge).await.0, 200);
    assert_eq!(ask(&edge, "/b").await, 502);
}

#[cfg(feature = "registry")]
#[tokio::test]
async fn edge_2_52_a_document_finds_backends_at_a_registry() {
    use std::future::IntoFuture;
    use std::time::Duration;

    use crate::discover::{Announcement, Registry};
    use crate::tests::support::in_time;

    let registry = Registry::new().ttl(Duration::from_secs(1)).open_to_everyone();
    let registry = registry.into_service().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(crate::serve(listener, registry).into_future());
    let announcement = Announcement::new(&url, "orders", "orders-1", "127.0.0.1:8001").unwrap();
    let announced = tokio::spawn(announcement.until(std::future::pending()));

    let edge = Edge::new(Config::new(), []);
    answers(&edge, "127.0.0.1:8001");
    let text = format!(
        "[routes.a]\npublic = true\n[routes.a.upstream]\n\
         registry = {{ url = {url:?}, service = \"orders\" }}\nbalance = {{ max-wait = \"30s\" }}\n"
    );
    edge.proxy.handle().apply(&toml(&text)).unwrap();
    assert_eq!(in_time(side(&edge)).await, (200, "127.0.0.1:8001".into()));
    announced.abort();
    serving.abort();
    // Regression: another key of the route dropped the found backends. The registry is unavailable, and the set stays.
    drop(serving.await);
    let other = text
        .replace("[routes.a.upstream]", "time-limiter = { limit = \"9s\" }\n[routes.a.upstream]");
    edge.proxy.handle().apply(&toml(&other)).unwrap();
    let upstream = edge.proxy.handle().upstream("a").unwrap();
    assert!(upstream.handle().stats().resolver.unwrap().known);
    assert_eq!(in_time(side(&edge)).await, (200, "127.0.0.1:8001".into()));
}

/// The path of the error of a route with these keys.
fn path(keys: &str) -> String {
    let document = toml(&format!("[routes.a]\npublic = true\n{keys}"));
    let edge = Edge::new(Config::new(), []);
    edge.proxy.handle().apply(&document).unwrap_err().field().to_owned()
}

#[tokio::test]
async fn edge_2_52_an_error_of_a_split_a_shadow_or_found_backends_has_its_path() {
    let one = "upstream = { urls = [\"http://b\"] }\n";
    for (keys, expected) in [
        ("upstream = {}", "upstream"),
        ("upstream = { urls = [\"http://b\"], dns = \"b:80\" }", "upstream"),
        ("upstream = { urls = [] }", "upstream.urls"),
        ("upstream = { dns = \"orders\" }", "upstream.dns"),
        ("upstream = { dns-srv = \"orders\" }", "upstream.dns-srv"),
        #[cfg(feature = "registry")]
        (
            "upstream = { registry = { url = \"ftp://b\", service = \"orders\" } }",
            "upstream.registry.url",
        ),
        #[cfg(feature = "registry")]
        (
            "upstream = { registry = { url = \"http://b\", service = \"or ders\" } }",
            "upstream.registry.service",
        ),
        #[cfg(not(feature = "registry"))]
        (
            "upstream = { registry = { url = \"http://b\", service = \"orders\" } }",
            "upstream.registry",
        ),
        ("upstream = { urls = [\"http://b\"], http2-streams = 3 }", "upstream.http2-streams"),
        (
            "upstream = { dns = \"b:80\", http2 = true, http2-streams = 0 }",
            "upstream.http2-streams",
        ),
        (
            "upstream = { dns = \"b:80\", balance = { max-wait = \"9000h\" } }",
            "upstream.balance.max-wait",
        ),
        ("upstream = { dns = \"b:80\", every = \"10ms\" }", "upstream.every"),
        ("upstream = { dns = \"b:80\", every = \"366d\" }", "upstream.every"),
        ("upstream = { urls = [\"http://b\"], every = \"10s\" }", "upstream.every"),
        ("upstream = { file = \"a\", every = \"10ms\" }", "upstream.every"),
        ("upstream = { file = \"\" }", "upstream.file"),
        ("upstream = { dns-srv = \"_a._tcp.b\", servers = [\"10.0.0.53:0\"] }", "upstream.servers"),
        ("upstream = { dns = \"b:80\", servers = [\"127.0.0.1:53\"] }", "upstream.servers"),
        ("service = \"page\"", "service"),
    ] {
        assert_eq!(path(keys), format!("routes.a.{expected}"), "{keys}");
    }
    for (keys, expected) in [
        ("split = { upstream = { urls = [\"ftp://c\"] } }", "split.upstream.urls"),
        ("split = { upstream = { urls = [\"http://c\"], dns = \"c:80\" } }", "split.upstream"),
        ("split = { upstream = { urls = [\"http://c\"] }, share = 1.5 }", "split.share"),
        ("split = { upstream = { urls = [\"http://c\"], http2 = true } }", "split.upstream.http2"),
        (
            "split = { upstream = { urls = [\"http://c\"] }, stick-by-header = \"a b\" }",
            "split.stick-by-header",
        ),
        (
            "split = { upstream = { urls = [\"http://c\"] }, stick-by-header = \"a\", stick-by-subject = true }",
            "split.stick-by-header",
        ),
        (
            "split = { upstream = { urls = [\"http://c\"] }, circuit-breaker = { consecutive-failures = 0 } }",
            "split.circuit-breaker.consecutive-failures",
        ),
        ("shadow = { upstream = { urls = [\"http://c\"] }, share = -0.1 }", "shadow.share"),
        (
            "shadow = { upstream = { urls = [\"http://c\"] }, max-running = 0 }",
            "shadow.max-running",
        ),
        ("shadow = { upstream = { urls = [\"http://c\"] }, within = \"0s\" }", "shadow.within"),
        ("shadow = { upstream = {} }", "shadow.upstream"),
    ] {
        assert_eq!(path(&format!("{one}{keys}")), format!("routes.a.{expected}"), "{keys}");
    }
    let route = |keys: &str| format!("[routes.a]\npublic = true\n{one}{keys}");
    for (keys, expected) in [
        ("split = { share = 0.1 }", "routes.a.split"),
        ("split = { upstream = { urls = [\"http://c\"] }, shre = 0.1 }", "unknown field `shre`"),
        ("shadow = { upstream = { url = [\"http://c\"] } }", "unknown field `url`"),
        ("split = { upstream = { registry = { url = \"http://c\" } } }", "routes.a.split"),
    ] {
        let error = refused(&route(keys));
        assert!(error.contains(expected), "{keys}: {error}");
    }
}

#[test]
fn edge_2_52_backends_that_a_task_finds_need_a_runtime() {
    let error = refused("[routes.a]\npublic = true\nupstream = { dns = \"b:80\" }");
    assert!(error.contains("routes.a.upstream.dns: outside of a tokio runtime"), "{error}");
}
