//! Stored responses as bytes.

use std::time::Duration;

use buttress::idempotency::{ClaimId, Encoded, Key, KeyClaim, MemoryStore, Store};
use buttress::{Codec, StoreErrorKind};
use http::{HeaderName, HeaderValue, StatusCode};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

fn encode(response: &StoredResponse) -> Vec<u8> {
    ResponseCodec.encode(&Arc::new(response.clone())).unwrap()
}

fn decode(bytes: &[u8]) -> Result<StoredResponse, String> {
    let decoded = ResponseCodec.decode(&bytes.to_vec());
    decoded.map(Arc::unwrap_or_clone).map_err(|error| error.to_string())
}

/// Returns a status, a field and a body, and their bytes.
fn sample() -> (StoredResponse, Vec<u8>) {
    let response = Response::builder().status(201).header("a", "xyz").body(Bytes::from("bc"));
    let bytes = b"\x01\x00\xc9\x00\x00\x00\x01\x00\x01a\x00\x00\x00\x03xyz\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02bc";
    (StoredResponse::new(response.unwrap()), bytes.to_vec())
}

/// Every later release must read the responses that this release stored.
#[test]
fn the_bytes_of_a_known_response() {
    let (response, bytes) = sample();
    assert_eq!(encode(&response), bytes);
    assert_eq!(decode(&bytes), Ok(response));
}

#[test]
fn what_is_not_of_this_version_is_refused() {
    let (_, bytes) = sample();
    for version in (0..=255).filter(|version| *version != 1) {
        let other: Vec<u8> = [&[version], &bytes[1..]].concat();
        let error = decode(&other).unwrap_err();
        assert_eq!(
            error,
            format!("http-response: version {version} is not supported, only version 1 is")
        );
    }
}

#[test]
fn what_is_damaged_is_refused() {
    let (_, bytes) = sample();
    let with =
        |at: usize, new: &[u8]| decode(&[&bytes[..at], new, &bytes[at + new.len()..]].concat());
    let cases = [
        (1, b"\x00\x63".as_slice(), "99 is not a status"),
        (3, b"\xff\xff\xff\xff", "the name of a field is invalid"),
        (3, b"\x00\x00\x00\x00", "bytes are announced"),
        (7, b"\x00\x00", "the name of a field is invalid"),
        (7, b"\xff\xff", "65535 bytes are announced, 20 are left"),
        (9, b"A", "the name of a field is invalid"),
        (9, b" ", "the name of a field is invalid"),
        (14, b"\n", "the value of `a` is invalid"),
        (17, b"\x02", "found 2, expected 0 or 1"),
        (18, b"\x01", "are announced"),
        (19, b"\xff\xff\xff\xff\xff\xff\xff\xff", "18446744073709551615 bytes are announced"),
        (19, b"\x00\x00\x00\x00\x00\x00\x00\x01", "1 bytes follow the body"),
        (19, b"\x00\x00\x00\x00\x00\x00\x00\x03", "3 bytes are announced, 2 are left"),
    ];
    for (at, new, expected) in cases {
        let error = with(at, new).unwrap_err();
        assert!(error.contains(expected), "{at}: {error}");
    }
}

/// More fields than a header can have.
#[test]
fn a_header_that_is_too_large_is_refused_and_not_a_panic() {
    let mut bytes = b"\x01\x00\xc8\x00\x01\x00\x00".to_vec();
    for n in 0..65_536 {
        let name = format!("x{n}");
        bytes.extend((name.len() as u16).to_be_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend([0; 5]);
    }
    bytes.extend([0; 9]);
    assert_eq!(decode(&bytes), Err("http-response: the header has too many fields".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn the_store_calls_it_corrupt_and_the_client_is_answered_503() {
    let bytes = MemoryStore::<Vec<u8>>::default();
    let (key, claim, second) = (Key::new("a").unwrap(), ClaimId::new(1), Duration::from_secs(1));
    bytes.claim(KeyClaim::new(&key, claim), second).await.unwrap();
    bytes
        .complete(KeyClaim::new(&key, claim), b"\x02 of another release".to_vec(), second)
        .await
        .unwrap();
    let store = Encoded::new(bytes, ResponseCodec);
    let read: Result<Option<StoredResponse>, _> = store.outcome(KeyClaim::new(&key, claim)).await;
    assert_eq!(read.unwrap_err().kind(), StoreErrorKind::Corrupt);

    let layer = IdempotencyKeyLayer::unscoped(IdempotencyKeyLayer::config(), store).unwrap();
    let inner = Inner::counting(200);
    send(&layer, &inner, post("a", "7")).await.is_problem(503, "store-failed");
    assert_eq!(inner.calls(), 0);
}

fn fields() -> impl Strategy<Value = HeaderMap> {
    let name = "[a-z0-9!#$%&'*+.^_`|~-]{1,12}";
    let value = vec(prop_oneof![Just(b'\t'), 0x20_u8..0x7f, 0x80_u8..=0xff], 0..20);
    vec((name, value, any::<bool>()), 0..12).prop_map(|fields| {
        let mut headers = HeaderMap::new();
        for (name, value, sensitive) in fields {
            let mut value = HeaderValue::from_bytes(&value).unwrap();
            value.set_sensitive(sensitive);
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
        }
        headers
    })
}

fn responses() -> impl Strategy<Value = StoredResponse> {
    let body = vec(any::<u8>(), 0..200).prop_map(Bytes::from);
    (100_u16..1000, fields(), body, option::of(fields())).prop_map(
        |(status, headers, body, trailers)| StoredResponse {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body,
            trailers,
        },
    )
}

fn in_order(headers: &HeaderMap) -> Vec<(&str, &[u8], bool)> {
    let field = |(name, value)| {
        let (name, value): (&HeaderName, &HeaderValue) = (name, value);
        (name.as_str(), value.as_bytes(), value.is_sensitive())
    };
    headers.iter().map(field).collect()
}

proptest! {
    #[test]
    fn a_response_is_read_as_it_was_written(response in responses()) {
        let bytes = encode(&response);
        let read = decode(&bytes).unwrap();
        prop_assert_eq!(&read, &response);
        prop_assert_eq!(in_order(&read.headers), in_order(&response.headers));
        prop_assert_eq!(encode(&read), bytes);
    }

    /// Damaged bytes decode to another response or an error, and never cause a panic.
    #[test]
    fn any_bytes_are_read_or_refused(response in responses(), at: prop::sample::Index, byte: u8) {
        let mut bytes = encode(&response);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = decode(&bytes) {
            prop_assert_eq!(decode(&encode(&read)).unwrap(), read);
        }
    }

    #[test]
    fn rubbish_is_read_or_refused(mut bytes in vec(any::<u8>(), 0..100)) {
        let _ = decode(&bytes);
        bytes.insert(0, 1);
        let _ = decode(&bytes);
    }
}

proptest! {
    // Each case makes some hundred responses.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn one_that_is_cut_short_or_goes_on_is_refused(response in responses(), more: u8) {
        let mut bytes = encode(&response);
        for length in 0..bytes.len() {
            prop_assert!(decode(&bytes[..length]).is_err(), "the first {} bytes", length);
        }
        bytes.push(more);
        prop_assert!(decode(&bytes).is_err());
    }
}
