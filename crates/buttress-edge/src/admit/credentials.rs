//! Credentials in header fields.

use http::{HeaderMap, HeaderName};

/// The value of a header field, if it is a single value of visible ASCII.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Given<'h> {
    Missing,
    /// Two fields, or bytes that no credential has.
    Malformed,
    Value(&'h str),
}

/// Returns the only value of a field.
pub(super) fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Given<'h> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Given::Missing };
    match value.to_str() {
        Ok(value) if values.next().is_none() => Given::Value(value),
        _ => Given::Malformed,
    }
}

/// Returns the token of `Authorization: Bearer <token>`. The scheme has no case (RFC 9110, 11.1). A field with
/// another scheme has no token.
#[cfg(feature = "jwt")]
pub(super) fn bearer(headers: &HeaderMap) -> Given<'_> {
    let value = match only(headers, &http::header::AUTHORIZATION) {
        Given::Value(value) => value,
        other => return other,
    };
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Given::Missing;
    }
    let token = token.trim_matches(' ');
    if token.is_empty() || token.contains([' ', '\t', ',']) {
        return Given::Malformed;
    }
    Given::Value(token)
}

#[cfg(test)]
#[cfg(feature = "jwt")]
mod tests {
    use http::header::AUTHORIZATION;

    use super::*;

    fn headers(values: &[&[u8]]) -> HeaderMap {
        let values = values.iter().map(|value| http::HeaderValue::from_bytes(value).unwrap());
        values.map(|value| (AUTHORIZATION, value)).collect()
    }

    #[test]
    fn edge_2_31_a_bearer_token_is_read_from_exactly_one_field() {
        for value in ["Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c "] {
            assert_eq!(bearer(&headers(&[value.as_bytes()])), Given::Value("a.b.c"), "{value}");
        }
        for value in ["", "Basic a.b.c", "Bearerx a.b.c", "a.b.c"] {
            assert_eq!(bearer(&headers(&[value.as_bytes()])), Given::Missing, "{value}");
        }
        let malformed: [&[u8]; 5] = [
            b"Bearer",
            b"Bearer a b",
            b"Bearer a.b.c, Bearer d.e.f",
            b"Bearer \xff",
            b"Bearer a\tb",
        ];
        for value in malformed {
            assert_eq!(bearer(&headers(&[value])), Given::Malformed, "{value:?}");
        }
        assert_eq!(bearer(&headers(&[b"Bearer a.b.c", b"Bearer a.b.c"])), Given::Malformed);
        assert_eq!(bearer(&HeaderMap::new()), Given::Missing);
    }
}
