use std::net::IpAddr;

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Version};

use super::forwarded::{self, Facts};
use super::{Seen, hop, via};

fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    let mut map = HeaderMap::new();
    for (name, value) in fields.iter().map(field) {
        map.append(name, value);
    }
    map
}

fn removed(headers: &mut HeaderMap) -> hop::Removed {
    let seen = Seen::of(headers);
    hop::remove(headers, seen)
}

#[test]
fn edge_2_9_fields_of_the_connection_and_those_it_names_are_removed() {
    let mut headers = map(&[
        ("connection", "close, X-Secret ,, x y, keep-alive"),
        ("connection", "Cookie"),
        ("x-secret", "1"),
        ("cookie", "a"),
        ("cookie", "b"),
        ("keep-alive", "timeout=5"),
        ("proxy-authorization", "Basic x"),
        ("proxy-connection", "close"),
        ("proxy-whatever", "x"),
        ("upgrade", "websocket"),
        ("te", "gzip, Trailers"),
        ("accept", "*/*"),
    ]);
    let removed = removed(&mut headers);
    assert_eq!(headers, map(&[("accept", "*/*")]));
    assert_eq!(removed, hop::Removed { trailers: true, upgrade: None });
}

#[test]
fn edge_2_27_an_upgrade_counts_only_if_connection_names_it() {
    for (connection, expected) in
        [("Upgrade", Some("a, b/1")), ("keep-alive, UPGRADE", Some("a, b/1")), ("upgrades", None)]
    {
        let fields = [("connection", connection), ("upgrade", "a"), ("upgrade", "b/1")];
        let removed = removed(&mut map(&fields));
        let upgrade = removed.upgrade.as_ref().map(|value| value.to_str().unwrap());
        assert_eq!(upgrade, expected, "{connection}");
    }
    assert_eq!(removed(&mut map(&[("connection", "upgrade")])).upgrade, None);
}

#[test]
fn edge_2_10_a_transfer_encoding_removes_the_content_length_beside_it() {
    let mut headers = map(&[("transfer-encoding", "chunked"), ("content-length", "5")]);
    removed(&mut headers);
    assert_eq!(headers, HeaderMap::new());
    let mut headers = map(&[("connection", "content-length, te"), ("content-length", "5")]);
    assert_eq!(removed(&mut headers), hop::Removed::default());
    assert_eq!(headers, map(&[("content-length", "5")]));
}

#[test]
fn edge_2_11_of_equal_lengths_one_is_left_and_of_different_ones_none() {
    let cases: [(&[&'static str], Option<&str>); 7] = [
        (&["5"], Some("5")),
        (&["5, 5"], Some("5")),
        (&["5,5 , 5"], Some("5")),
        (&["5", "5"], Some("5")),
        (&["5, 6"], None),
        (&["5", "6"], None),
        (&["5,"], None),
    ];
    for (values, expected) in cases {
        let fields: Vec<_> = values.iter().map(|value| ("content-length", *value)).collect();
        let mut headers = map(&fields);
        hop::join_lengths(&mut headers);
        let left: Vec<_> = headers.get_all("content-length").iter().collect();
        assert_eq!(left, expected.into_iter().collect::<Vec<_>>(), "{values:?}");
    }
}

#[test]
fn edge_2_12_five_entries_in_via_are_a_loop() {
    let four = [
        ("via", "1.1 buttress, 1.0 fred (a buttress)"),
        ("via", "2 Buttress,1.1 buttress , 1.1  buttress"),
    ];
    let mut headers = map(&four);
    assert!(!via::is_loop(&headers, "buttress"));
    let values = via::Values::new("buttress").unwrap();
    via::add(&mut headers, Version::HTTP_2, &values);
    assert_eq!(headers.get_all("via").iter().next_back().unwrap(), "2 buttress");
    assert!(via::is_loop(&headers, "buttress"));
    assert!(!via::is_loop(&headers, "other"));
    for name in ["", "a b", "a,b", "ä", "1a"] {
        assert!(via::Values::new(name).is_none(), "{name}");
    }
}

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

#[test]
fn edge_2_41_fields_of_strangers_are_replaced() {
    let mut headers = map(&[
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-for", "2.2.2.2"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil"),
        ("x-forwarded-port", "1"),
        ("x-real-ip", "3.3.3.3"),
        ("forwarded", "for=4.4.4.4"),
        ("x_forwarded_for", "5.5.5.5"),
        ("x-real_ip", "6.6.6.6"),
        ("x-other_field", "stays"),
    ]);
    let host = HeaderValue::from_static("Shop.example:80");
    let seen = Seen::of(&headers);
    forwarded::set(
        &mut headers,
        Facts { peer: Some(PEER), is_trusted: false, is_secure: false, host: Some(&host) },
        seen,
    );
    let expected = map(&[
        ("x-other_field", "stays"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "Shop.example:80"),
    ]);
    assert_eq!(headers, expected);
}

#[test]
fn edge_2_41_fields_of_a_trusted_peer_are_kept_and_its_address_is_added() {
    let given = [
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-for", "2.2.2.2, 3.3.3.3"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "shop.example"),
        ("x-real-ip", "1.1.1.1"),
        ("forwarded", "for=1.1.1.1"),
    ];
    let mut headers = map(&given);
    let peer = Some("::ffff:10.0.0.1".parse().unwrap());
    let seen = Seen::of(&headers);
    forwarded::set(
        &mut headers,
        Facts { peer, is_trusted: true, is_secure: false, host: None },
        seen,
    );
    let mut expected = map(&given);
    expected.insert("x-forwarded-for", "1.1.1.1, 2.2.2.2, 3.3.3.3, 10.0.0.1".parse().unwrap());
    assert_eq!(headers, expected);
}

#[test]
fn edge_2_42_without_a_peer_no_address_is_written() {
    let mut headers = map(&[("x-forwarded-for", "1.1.1.1")]);
    let seen = Seen::of(&headers);
    forwarded::set(
        &mut headers,
        Facts { peer: None, is_trusted: false, is_secure: false, host: None },
        seen,
    );
    assert_eq!(headers, map(&[("x-forwarded-proto", "http")]));
}

#[test]
fn edge_2_9_connection_cannot_name_the_fields_of_a_peer_further_out() {
    let kept = [
        ("x-forwarded-for", "1.1.1.1"),
        ("x_real.ip", "1.1.1.1"),
        ("x-correlation-id", "7"),
        ("via", "1.1 other"),
    ];
    let mut headers = map(&kept);
    headers.append(
        "connection",
        "X-Forwarded-For, x_real.ip, x-correlation-id, Via, x-own".parse().unwrap(),
    );
    headers.append("x-own", HeaderValue::from_static("1"));
    removed(&mut headers);
    assert_eq!(headers, map(&kept));
}

#[test]
fn edge_2_9_fields_that_a_backend_folds_into_framing_or_proxies_are_removed() {
    let mut headers = map(&[
        ("transfer_encoding", "chunked"),
        ("content.length", "5"),
        ("proxy", "http://evil"),
        ("proxy_authorization", "x"),
        ("author~zation", "stays"),
        ("x_own", "stays"),
        ("proxying", "stays"),
    ]);
    removed(&mut headers);
    let expected = map(&[("author~zation", "stays"), ("x_own", "stays"), ("proxying", "stays")]);
    assert_eq!(headers, expected);
}

#[test]
fn edge_2_10_only_chunks_are_a_known_coding() {
    for (coded, codings) in [
        (false, &["chunked"][..]),
        (false, &["Chunked"]),
        (false, &[]),
        (true, &["gzip, chunked"]),
        (true, &["gzip"]),
        (true, &["chunked", "chunked"]),
        (true, &["identity", "chunked"]),
        (true, &[""]),
    ] {
        let mut headers = HeaderMap::new();
        for coding in codings {
            headers.append("transfer-encoding", coding.parse().unwrap());
        }
        assert_eq!(hop::is_coded(&headers), coded, "{codings:?}");
    }
}
