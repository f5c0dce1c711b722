use http::HeaderName;

use super::*;

fn keys() -> HeaderKeys {
    HeaderKeys::new(HeaderName::from_static("x-api-key"))
}

fn with(values: &[&[u8]]) -> Request<()> {
    let mut request = Request::new(());
    for value in values {
        request.headers_mut().append("X-API-Key", HeaderValue::from_bytes(value).unwrap());
    }
    request
}

#[test]
fn the_value_is_the_key_byte_for_byte() {
    assert_eq!(keys().of(&with(&[b"k-17"])), HeaderKey::from("k-17"));
    assert_ne!(keys().of(&with(&[b"k-17"])), keys().of(&with(&[b"K-17"])));
    let bytes = keys().of(&with(&[b"\xff\x80"]));
    assert_eq!(bytes.as_bytes(), Some(b"\xff\x80".as_slice()));
    assert_ne!(bytes, keys().of(&with(&[b"\xff\x81"])));
}

#[test]
fn a_value_that_is_too_long_is_not_cut() {
    let (longest, longer) = (vec![b'k'; 128], vec![b'k'; 129]);
    assert_eq!(keys().of(&with(&[&longest])).as_bytes(), Some(&longest[..]));
    assert_eq!(keys().of(&with(&[&longer])), HeaderKey::Unusable);
    let short = keys().max_bytes(4).unwrap();
    assert_eq!(short.of(&with(&[b"k-17"])), HeaderKey::from("k-17"));
    assert_eq!(short.of(&with(&[b"k-171"])), HeaderKey::Unusable);
}

#[test]
fn two_values_are_not_one_key_of_the_clients_choice() {
    assert_eq!(keys().of(&with(&[b"mine", b"1"])), HeaderKey::Unusable);
    assert_eq!(keys().of(&with(&[b"mine", b"mine"])), HeaderKey::Unusable);
    assert_eq!(keys().of(&with(&[b"", b"mine"])), HeaderKey::Unusable);
}

#[test]
fn no_value_is_a_key_of_its_own() {
    assert_eq!(keys().of(&with(&[])), HeaderKey::Missing);
    assert_eq!(keys().of(&with(&[b""])), HeaderKey::Missing);
    assert_eq!(HeaderKey::from(""), HeaderKey::Missing);
    // The key of a missing header differs from the key of a client that sends the word.
    assert_ne!(HeaderKey::from("Missing"), HeaderKey::Missing);
}

#[test]
fn a_length_without_sense_is_refused() {
    for bytes in [0, 8193, usize::MAX] {
        let error = keys().max_bytes(bytes).unwrap_err();
        assert_eq!(error.to_string(), format!("max-bytes: {bytes} is not between 1 and 8192"));
    }
    assert!(keys().max_bytes(1).is_ok() && keys().max_bytes(8192).is_ok());
}

#[test]
fn debug_shows_no_secret() {
    assert_eq!(format!("{:?}", HeaderKey::from("k-17")), "Value(4 bytes)");
}
