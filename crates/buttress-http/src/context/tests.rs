use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::context::{Context, TraceContext};
use buttress::retry::{Backoff, Jitter, RetryLayer};
use buttress::{AnyError, Clock, retry};
use http::{HeaderMap, Request, Response, StatusCode};
use tower::{ServiceBuilder, ServiceExt, service_fn};

use super::{ContextLayer, ServerContextLayer, Trace, Trust};
use crate::client_key::PeerAddr;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn request(fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::get("/");
    for (name, value) in fields {
        request = request.header(*name, value.as_bytes());
    }
    request.body(()).unwrap()
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).map_or("-", |value| value.to_str().unwrap()).to_owned()
}

/// The answer to a request, and the context of the call of the service, if there was one.
struct Served {
    response: Response<String>,
    context: Option<Context>,
    fields: HeaderMap,
}

async fn serve(layer: &ServerContextLayer, request: Request<()>) -> Served {
    let seen = Arc::new(Mutex::new((None, HeaderMap::new())));
    let sees = seen.clone();
    let route = layer.clone();
    let route = ServiceBuilder::new().layer(route).service_fn(move |request: Request<()>| {
        *sees.lock().unwrap() = (Some(Context::current()), request.headers().clone());
        async { Ok::<_, Infallible>(Response::new(String::new())) }
    });
    let Ok(response) = route.oneshot(request).await;
    let (context, fields) = std::mem::take(&mut *seen.lock().unwrap());
    Served { response, context, fields }
}

/// The fields of a request that is sent in `context`.
async fn sent(layer: super::ClientContextLayer, context: Context, own: Request<()>) -> HeaderMap {
    let client = ServiceBuilder::new()
        .layer(layer)
        .service_fn(async |request: Request<()>| Ok::<_, Infallible>(request.headers().clone()));
    let Ok(fields) = context.scope(client.oneshot(own)).await;
    fields
}

fn id_of(context: &Context) -> String {
    context.correlation().map_or_else(|| "-".to_owned(), ToString::to_string)
}

#[tokio::test]
async fn edge_1_1_without_a_field_one_id_is_made_for_handler_response_and_next_hop() {
    for trust in [Trust::None, Trust::All] {
        let layer = ContextLayer::server(trust);
        let served = serve(&layer, request(&[])).await;
        let context = served.context.unwrap();
        let id = id_of(&context);
        assert_eq!(id.len(), 32);
        assert_eq!(text(served.response.headers(), "x-correlation-id"), id);
        let fields = sent(ContextLayer::client(), context, request(&[])).await;
        assert_eq!(text(&fields, "x-correlation-id"), id);
        let again = serve(&layer, request(&[])).await.context.unwrap();
        assert_ne!(id_of(&again), id);
        assert_eq!(layer.stats(), super::ContextStats::default());
    }
}

#[tokio::test]
async fn edge_1_2_an_id_of_a_trusted_caller_is_kept_byte_for_byte() {
    let longest = "aZ9._:-".repeat(18) + "xy";
    for (name, id) in [("x-correlation-id", "order-7"), ("x-request-id", &longest)] {
        for (trust, kept) in [(Trust::All, true), (Trust::None, false)] {
            let served = serve(&ContextLayer::server(trust), request(&[(name, id)])).await;
            assert_eq!(id_of(&served.context.unwrap()) == id, kept);
            assert_eq!(text(served.response.headers(), "x-correlation-id") == id, kept);
        }
    }
}

#[tokio::test]
async fn edge_1_3_an_id_that_is_none_is_replaced() {
    let long = "x".repeat(129);
    for fields in [
        &[("x-correlation-id", "caf\u{e9}")][..],
        &[("x-correlation-id", "two words")],
        &[("x-correlation-id", &long)],
        &[("x-correlation-id", "")],
        &[("x-correlation-id", "one"), ("x-correlation-id", "one")],
    ] {
        let layer = ContextLayer::server(Trust::All);
        let context = serve(&layer, request(fields)).await.context.unwrap();
        assert_eq!(id_of(&context).len(), 32, "{fields:?}");
        assert_eq!(layer.stats().malformed, 1, "{fields:?}");
    }
}

#[tokio::test]
async fn edge_1_4_a_malformed_trace_begins_a_new_one_without_the_state() {
    let (state, upper) = (("tracestate", "a=1"), PARENT.to_uppercase());
    for (parent, kept) in [
        (PARENT.to_owned(), true),
        (PARENT.replacen("00-", "ff-", 1), false),
        (PARENT.replacen("00-", "01-", 1) + "-tail", true),
        (upper, false),
        (PARENT[..54].to_owned(), false),
    ] {
        let layer = ContextLayer::server(Trust::All);
        let fields = request(&[("traceparent", &parent), state]);
        let context = serve(&layer, fields).await.context.unwrap();
        let trace = context.trace().unwrap();
        let known = trace.trace_id() == 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
        assert_eq!((known, trace.state().is_some()), (kept, kept), "{parent}");
        assert_eq!(layer.stats().malformed, u64::from(!kept));
    }
}

#[tokio::test(start_paused = true)]
async fn edge_1_5_each_attempt_has_its_own_parent_id_in_the_same_trace() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sees = seen.clone();
    let config = retry::Config::new().attempts(3);
    let config = config.backoff(Backoff::fixed(ms(10)).jitter(Jitter::None));
    let client = ServiceBuilder::new()
        .layer(RetryLayer::new(config).unwrap().classify(AnyError))
        .layer(ContextLayer::client())
        .service_fn(move |request: Request<()>| {
            sees.lock().unwrap().push(text(request.headers(), "traceparent"));
            async { Err::<(), _>("down") }
        });
    let trace: TraceContext = PARENT.parse().unwrap();
    let context = Context::new().with_trace(trace.clone());
    assert!(context.scope(client.oneshot(request(&[]))).await.is_err());
    let sent: Vec<TraceContext> =
        seen.lock().unwrap().iter().map(|text| text.parse().unwrap()).collect();
    let mut parents: Vec<_> = sent.iter().map(TraceContext::parent_id).collect();
    parents.push(trace.parent_id());
    parents.sort_unstable();
    parents.dedup();
    assert_eq!(parents.len(), 4);
    assert!(sent.iter().all(|sent| sent.trace_id() == trace.trace_id() && sent.is_sampled()));
}

#[tokio::test]
async fn edge_1_6_a_tracer_that_writes_the_trace_is_left_alone() {
    let own = [("traceparent", PARENT), ("tracestate", "t=1")];
    let context = || Context::new().with_trace(TraceContext::root());
    let layer = ContextLayer::client().trace(Trace::Leave);
    let fields = sent(layer.clone(), context(), request(&own)).await;
    assert_eq!(
        (text(&fields, "traceparent"), text(&fields, "tracestate")),
        (PARENT.into(), "t=1".into())
    );
    let fields = sent(layer, context(), request(&[])).await;
    assert!(fields.contains_key("traceparent"));
    let fields = sent(ContextLayer::client(), context(), request(&own)).await;
    assert_ne!(text(&fields, "traceparent"), PARENT);
    assert!(!fields.contains_key("tracestate"), "the state of another trace is removed");
}

#[tokio::test(start_paused = true)]
async fn edge_1_7_the_next_hop_is_told_the_time_that_is_left() {
    let layer = ContextLayer::server(Trust::All);
    for fields in [
        &[("x-request-timeout-ms", "1000")][..],
        &[("grpc-timeout", "1S")],
        &[("grpc-timeout", "1S"), ("x-request-timeout-ms", "5000")],
    ] {
        let context = serve(&layer, request(fields)).await.context.unwrap();
        tokio::time::advance(ms(300)).await;
        let grpc = [("content-type", "application/grpc+proto")];
        let fields = sent(ContextLayer::client(), context.clone(), request(&grpc)).await;
        assert_eq!(text(&fields, "x-request-timeout-ms"), "700");
        assert_eq!(text(&fields, "grpc-timeout"), "700000u");
        // A shorter time of the request itself stays, a longer one does not.
        let own = [("x-request-timeout-ms", "650")];
        let fields = sent(ContextLayer::client(), context.clone(), request(&own)).await;
        assert_eq!(text(&fields, "x-request-timeout-ms"), "650");
        let own = [("x-request-timeout-ms", "701")];
        let fields = sent(ContextLayer::client(), context, request(&own)).await;
        assert_eq!(text(&fields, "x-request-timeout-ms"), "700");
        assert!(!fields.contains_key("grpc-timeout"));
    }
}

#[tokio::test(start_paused = true)]
async fn edge_1_7_less_than_a_millisecond_is_not_sent_as_no_time() {
    let grpc = [("content-type", "application/grpc")];
    for (micros, millis, in_grpc) in
        [(2_999, "2", "2999000n"), (1_000, "1", "1000000n"), (999, "1", "999000n"), (0, "0", "0n")]
    {
        let deadline = Clock::default().now() + Duration::from_micros(micros);
        let context = Context::new().with_deadline(deadline);
        let fields = sent(ContextLayer::client(), context, request(&grpc)).await;
        assert_eq!(text(&fields, "x-request-timeout-ms"), millis);
        assert_eq!(text(&fields, "grpc-timeout"), in_grpc);
    }
}

#[tokio::test(start_paused = true)]
async fn edge_1_9_a_request_that_arrives_too_late_is_answered_without_the_service() {
    let layer = ContextLayer::server(Trust::All);
    for (name, none) in [("x-request-timeout-ms", "0"), ("grpc-timeout", "0n")] {
        let served = serve(&layer, request(&[(name, none), ("x-request-id", "late-7")])).await;
        assert_eq!(served.response.status(), StatusCode::GATEWAY_TIMEOUT);
        assert!(served.context.is_none(), "the service was called");
        assert_eq!(text(served.response.headers(), "x-correlation-id"), "late-7");
    }
    assert_eq!(layer.stats().expired, 2);
    let in_time = serve(&layer, request(&[("x-request-timeout-ms", "1")])).await;
    assert_eq!(in_time.response.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn edge_1_10_a_malformed_deadline_is_ignored_and_counted() {
    let huge = format!("1{}", "0".repeat(30));
    for (name, wrong) in [
        ("x-request-timeout-ms", "-1"),
        ("x-request-timeout-ms", "0x10"),
        ("x-request-timeout-ms", &huge),
        ("grpc-timeout", "100000000m"),
    ] {
        let layer = ContextLayer::server(Trust::All);
        let context = serve(&layer, request(&[(name, wrong)])).await.context.unwrap();
        assert_eq!((context.expires(), layer.stats().malformed), (None, 1), "{wrong}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_of_a_caller_that_is_not_trusted_is_not_heeded() {
    let layer = ContextLayer::server(Trust::None);
    let served = serve(&layer, request(&[("x-request-timeout-ms", "0")])).await;
    assert_eq!(served.response.status(), StatusCode::OK);
    assert_eq!(served.context.unwrap().expires(), None);
}

#[tokio::test]
async fn a_deadline_beyond_any_instant_is_none() {
    let layer = ContextLayer::server(Trust::All);
    let fields = request(&[("x-request-timeout-ms", &u64::MAX.to_string())]);
    let served = serve(&layer, fields).await;
    assert_eq!(served.response.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_priority_of_a_caller_that_is_not_trusted_is_removed_and_counted() {
    let fields = [("x-request-priority", "0")];
    let layer = ContextLayer::server(Trust::None);
    let served = serve(&layer, request(&fields)).await;
    assert_eq!(served.context.unwrap().priority().get(), 2);
    assert!(!served.fields.contains_key("x-request-priority"));
    assert_eq!(layer.stats().untrusted_priorities, 1);
    let trusted = serve(&ContextLayer::server(Trust::All), request(&fields)).await;
    let context = trusted.context.unwrap();
    assert_eq!(context.priority().get(), 0);
    let fields = sent(ContextLayer::client(), context, request(&[])).await;
    assert_eq!(text(&fields, "x-request-priority"), "0");
}

/// Whether `trust` believes the fields of a request from `peer`.
async fn is_believed(trust: &Trust, peer: Option<[u8; 4]>, fields: &[(&str, &str)]) -> bool {
    let layer = ContextLayer::server(trust.clone());
    let fields = [&[("x-correlation-id", "order-7"), ("x-request-timeout-ms", "1")], fields];
    let mut request = request(&fields.concat());
    request.extensions_mut().extend(peer_extension(peer));
    let context = serve(&layer, request).await.context.unwrap();
    let is_believed = id_of(&context) == "order-7";
    assert_eq!(context.expires().is_some(), is_believed, "one decision for all fields");
    is_believed
}

fn peer_extension(peer: Option<[u8; 4]>) -> http::Extensions {
    let mut extensions = http::Extensions::new();
    if let Some(peer) = peer {
        extensions.insert(PeerAddr(peer.into()));
    }
    extensions
}

const INSIDE: Option<[u8; 4]> = Some([10, 1, 2, 3]);
const OUTSIDE: Option<[u8; 4]> = Some([11, 1, 2, 3]);

#[tokio::test]
async fn edge_1_a_network_is_trusted_by_every_address_on_the_way() {
    let trust = Trust::networks(["10.0.0.0/8", "2001:db8::/32"]).unwrap();
    for (peer, forwarded_for, believed) in [
        (INSIDE, None, true),
        (OUTSIDE, None, false),
        (None, None, false),
        (INSIDE, Some("10.0.0.7"), true),
        (INSIDE, Some("10.0.0.7:4000, [2001:db8::7]:4000 , ::ffff:10.0.0.8"), true),
        // The public behind the proxy, and a public client that names an inner address itself.
        (INSIDE, Some("203.0.113.9"), false),
        (INSIDE, Some("10.0.0.7, 203.0.113.9"), false),
        (INSIDE, Some("203.0.113.9, 10.0.0.7"), false),
        (INSIDE, Some("unknown"), false),
        (INSIDE, Some(""), false),
        (OUTSIDE, Some("10.0.0.7"), false),
        (None, Some("10.0.0.7"), false),
    ] {
        let fields = forwarded_for.map(|list| ("x-forwarded-for", list));
        let is_believed = is_believed(&trust, peer, fields.as_slice()).await;
        assert_eq!(is_believed, believed, "{peer:?} {forwarded_for:?}");
    }
    // The first of two fields counts too, and `Forwarded` is not read.
    let two = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-for", "10.0.0.7")];
    assert!(!is_believed(&trust, INSIDE, &two).await);
    assert!(!is_believed(&trust, INSIDE, &[("forwarded", "for=10.0.0.7")]).await);
    assert!(Trust::networks(["10.0.0.0/33"]).is_err());
}

#[tokio::test]
async fn edge_1_a_gateway_is_trusted_by_its_own_address() {
    let trust = Trust::gateways(["10.0.0.0/8"]).unwrap();
    let public = [("x-forwarded-for", "203.0.113.9")];
    for (peer, believed) in [(INSIDE, true), (OUTSIDE, false), (None, false)] {
        assert_eq!(is_believed(&trust, peer, &public).await, believed, "{peer:?}");
    }
    assert!(Trust::gateways(["10.0.0.0/33"]).is_err());
}

#[tokio::test]
async fn the_peer_is_found_in_the_extension_of_the_server() {
    #[derive(Clone)]
    struct ConnectInfo(std::net::SocketAddr);
    let of = |make: fn([&'static str; 1]) -> Result<Trust, buttress::InvalidConfig>| {
        make(["10.0.0.0/8"]).unwrap().peer_from(|ConnectInfo(peer): &ConnectInfo| *peer)
    };
    let headers = HeaderMap::new();
    for trust in [of(Trust::networks), of(Trust::gateways)] {
        let mut extensions = peer_extension(INSIDE);
        assert!(!trust.believes(&extensions, &headers), "`PeerAddr` is not read any more");
        extensions.insert(ConnectInfo(([11, 1, 2, 3], 4000).into()));
        assert!(!trust.believes(&extensions, &headers));
        // A socket of both families shows an IPv4 address in this form.
        extensions.insert(ConnectInfo("[::ffff:10.1.2.3]:4000".parse().unwrap()));
        assert!(trust.believes(&extensions, &headers));
    }
    // tonic's connection has an address only over TCP.
    type TcpConnectInfo = tonic::transport::server::TcpConnectInfo;
    let tonic = Trust::networks(["10.0.0.0/8"]).unwrap().peer_from(TcpConnectInfo::remote_addr);
    for (peer, believed) in [(None, false), (Some(([10, 0, 0, 1], 1).into()), true)] {
        let mut extensions = http::Extensions::new();
        extensions.insert(TcpConnectInfo { local_addr: None, remote_addr: peer });
        assert_eq!(tonic.believes(&extensions, &headers), believed);
    }
    let all = Trust::All.peer_from(|ConnectInfo(peer): &ConnectInfo| *peer);
    assert!(all.believes(&http::Extensions::new(), &headers));
}

#[tokio::test]
async fn a_request_outside_of_every_context_is_sent_unchanged() {
    let own = [("x-request-timeout-ms", "wrong"), ("traceparent", "mine")];
    let fields = sent(ContextLayer::client(), Context::new(), request(&own)).await;
    assert_eq!(fields, *request(&own).headers());
    let identity = Context::new().with_identity("alice");
    assert!(sent(ContextLayer::client(), identity, request(&[])).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_deadline_has_the_clock_that_was_set() {
    let clock = buttress::VirtualClock::new();
    let start = clock.clock().now();
    let layer = ContextLayer::server(Trust::All).clock(clock.clock());
    let fields = request(&[("x-request-timeout-ms", "5")]);
    let context = serve(&layer, fields).await.context.unwrap();
    assert_eq!(context.expires(), Some(start + ms(5)));
    assert_ne!(context.expires(), Some(Clock::default().now() + ms(5)));
}

#[tokio::test]
async fn a_future_that_is_polled_after_its_end_panics_with_its_name() {
    let layer = ContextLayer::server(Trust::All);
    let route = tower::Layer::layer(
        &layer,
        service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new()))),
    );
    let mut future = Box::pin(route.oneshot(request(&[("x-request-timeout-ms", "0")])));
    assert!((&mut future).await.is_ok());
    let again = tokio::spawn(async move { future.await.map(drop) }).await;
    assert!(again.is_err_and(|error| error.is_panic()));
}
