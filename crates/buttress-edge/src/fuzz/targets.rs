use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use buttress::VirtualClock;
use buttress::context::{Context, TraceContext};
use buttress_http::client_key::{AddressKey, AddressKeys, PeerAddr};
use buttress_http::context::{ContextLayer, Trust};
use http::header::HeaderValue;
use http::{HeaderMap, Request, Response};
use tower::{BoxError, Layer, Service, service_fn};

use super::fuzz;
use crate::headers::Seen;
use crate::headers::forwarded::{self, Facts};
use crate::path::tests::assert_read_alike;

#[test]
fn fuzz_path() {
    fuzz("path", include_str!("corpus/path.txt"), assert_read_alike);
}

/// Reads a `traceparent` by W3C Trace Context, 3.2 and 4: with no code of the crate.
fn by_w3c(text: &str) -> Option<(&str, &str, bool)> {
    let hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let mut parts = text.splitn(5, '-');
    let mut part = |length: usize| parts.next().filter(|part| part.len() == length && hex(part));
    let (version, trace, parent, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
    let has_more = parts.next().is_some();
    let zero = |id: &str| id.bytes().all(|byte| byte == b'0');
    let invalid = version == "ff" || version == "00" && has_more || zero(trace) || zero(parent);
    let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
    (!invalid).then_some((trace, parent, sampled))
}

#[test]
fn fuzz_traceparent() {
    fuzz("traceparent", include_str!("corpus/traceparent.txt"), |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        let read = text.parse::<TraceContext>().ok();
        let written = read.as_ref().map(ToString::to_string);
        let expected = by_w3c(text);
        assert_eq!(read.is_some(), expected.is_some());
        if let (Some(written), Some((trace, parent, sampled))) = (written, expected) {
            assert!(written.starts_with(&format!("00-{trace}-{parent}-")), "{written}");
            assert_eq!(written.parse::<TraceContext>().ok(), read);
            assert_eq!(read.unwrap().is_sampled(), sampled);
        }
    });
}

/// Reads a `grpc-timeout` by the protocol of gRPC: 1 to 8 digits and a unit.
fn by_grpc(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(number * 3_600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[test]
fn fuzz_grpc_timeout() {
    let clock = VirtualClock::new().clock();
    let layer = ContextLayer::server(Trust::when(|_| true)).clock(clock.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let deadline_of = |value: HeaderValue| {
        let mut request = Request::new(());
        request.headers_mut().insert("grpc-timeout", value);
        let mut service = layer.clone().layer(service_fn(async |_: Request<()>| {
            let deadline: Option<Instant> = Context::deadline();
            let mut response = Response::new(String::new());
            response.extensions_mut().insert(deadline);
            Ok::<_, BoxError>(response)
        }));
        let answered = runtime.block_on(service.call(request)).unwrap();
        answered.extensions().get::<Option<Instant>>().copied()
    };
    fuzz("grpc_timeout", include_str!("corpus/grpc_timeout.txt"), |input| {
        let Ok(value) = HeaderValue::from_bytes(input) else { return };
        let expected = by_grpc(input);
        match deadline_of(value) {
            Some(deadline) => {
                assert_eq!(deadline, expected.map(|timeout| clock.now() + timeout));
            }
            // The layer answers a request that has no time left itself.
            None => assert_eq!(expected, Some(Duration::ZERO)),
        }
    });
}

/// Reads an entry of `X-Forwarded-For`: an address, with a port or without, in brackets or not.
fn address(entry: &[u8]) -> Option<AddressKey> {
    let entry = std::str::from_utf8(entry).ok()?.trim();
    let with_port = || entry.parse().map(|address: SocketAddr| address.ip());
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    bare.parse::<IpAddr>().or_else(|_| with_port()).ok().map(AddressKey::from)
}

#[test]
fn fuzz_forwarded() {
    let peer: IpAddr = [192, 0, 2, 7].into();
    let fields =
        ["x-forwarded-for", "x_forwarded_for", "forwarded", "x-real-ip", "x-forwarded-host"];
    let host = HeaderValue::from_static("shop.example");
    let keys = AddressKeys::new().trust_networks(["192.0.2.0/24"]).unwrap();
    fuzz("forwarded", include_str!("corpus/forwarded.txt"), |input| {
        let Ok(value) = HeaderValue::from_bytes(input) else { return };
        for is_trusted in [false, true] {
            let mut headers: HeaderMap =
                fields.iter().map(|name| (name.parse().unwrap(), value.clone())).collect();
            let seen = Seen::of(&headers);
            forwarded::set(
                &mut headers,
                Facts { peer: Some(peer), is_trusted, is_secure: false, host: Some(&host) },
                seen,
            );
            assert!(headers.keys().all(|name| !name.as_str().contains('_')));
            assert_eq!(headers.get_all("x-forwarded-for").iter().count(), 1);
            let list = headers["x-forwarded-for"].to_str().unwrap();
            let (rest, last) = list.rsplit_once(", ").unwrap_or(("", list));
            assert_eq!(last.parse::<IpAddr>().unwrap(), peer);
            if is_trusted {
                let kept = std::str::from_utf8(input).is_ok_and(|text| text.trim() == rest.trim());
                assert!(kept || value.to_str().is_err() && rest.is_empty(), "{list}");
                continue;
            }
            assert_eq!(list, "192.0.2.7");
            assert_eq!(headers["x-forwarded-host"], "shop.example");
            assert_eq!(headers.len(), 3, "{headers:?}");
        }
        // A client behind a trusted proxy is an address that the proxy wrote, or the proxy itself.
        let mut request = Request::new(());
        request.extensions_mut().insert(PeerAddr(peer));
        request.headers_mut().insert("x-forwarded-for", value);
        let found = keys.of(&request);
        let written = input.rsplit(|byte| *byte == b',').filter_map(address);
        let peers = [AddressKey::V4(Ipv4Addr::new(192, 0, 2, 7))];
        assert!(written.chain(peers).any(|address| address == found), "{found}");
    });
}

#[cfg(feature = "jwt")]
#[test]
fn fuzz_authorization() {
    use crate::{Admission, Admit, Body, DeniedKind, Jwt, Subject};

    // The token of the corpus ends in the year 2033.
    let clock = VirtualClock::starting_at(Duration::from_secs(1_900_000_000)).clock();
    let jwt = Jwt::hs256("0123456789abcdef0123456789abcdef").unwrap().clock(clock);
    let jwt = jwt.issuer("https://id.example").audience("shop");
    let corpus = include_str!("corpus/authorization.txt");
    let valid = corpus.lines().next().unwrap().strip_prefix("Bearer ").unwrap();
    let admit = |value: HeaderValue| {
        let request = Request::get("/").header("authorization", value).body(Body::empty());
        match jwt.admit(request.unwrap()) {
            Admission::Now(Ok(request)) => {
                assert_eq!(request.extensions().get::<Subject>().unwrap().as_str(), "customer-7");
                true
            }
            Admission::Now(Err(denied)) => {
                assert_eq!(denied.kind, DeniedKind::Unauthenticated);
                false
            }
            Admission::Later(_) => panic!("a secret needs no time"),
        }
    };
    assert!(admit(HeaderValue::from_str(&format!("Bearer {valid}")).unwrap()));
    fuzz("authorization", corpus, |input| {
        let Ok(value) = HeaderValue::from_bytes(input) else { return };
        let text = std::str::from_utf8(input).unwrap_or_default();
        let (scheme, token) = text.split_once(' ').unwrap_or_default();
        let expected = scheme.eq_ignore_ascii_case("bearer") && token.trim_matches(' ') == valid;
        assert_eq!(admit(value), expected);
    });
}

/// A document that is applied can be applied again, and nothing changes then.
#[cfg(feature = "document")]
#[test]
fn fuzz_document() {
    use crate::{Config, Document, Proxy};

    fuzz("document", include_str!("corpus/document.txt"), |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        let Ok(document) = toml::from_str::<Document>(text) else { return };
        let proxy = Proxy::new(Config::new(), []).unwrap();
        let handle = proxy.handle();
        let Ok(applied) = handle.apply(&document) else {
            assert_eq!(proxy.stats(), []);
            return;
        };
        let names: Vec<String> = proxy.stats().into_iter().map(|(name, _)| name).collect();
        assert_eq!(applied.added, names);
        let again = handle.apply(&document).unwrap();
        assert_eq!((again.continued, again.added), (names, Vec::new()));
        assert_eq!(again.removed, [""; 0]);
    });
}
