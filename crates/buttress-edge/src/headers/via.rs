//! `Via` (RFC 9110, section 7.6.3), and the loops that it reveals.

use http::header::VIA;
use http::{HeaderMap, HeaderValue, Version};

/// The number of passes through this proxy after which a request is a loop.
const LOOP: usize = 5;

/// Whether the request has passed `name` too often.
pub(crate) fn is_loop(headers: &HeaderMap, name: &str) -> bool {
    let elements = headers.get_all(VIA).iter().flat_map(super::hop::tokens);
    // An element is a protocol, a name and perhaps a comment.
    let names = elements.filter_map(|element| {
        element.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).nth(1)
    });
    names.filter(|given| given.eq_ignore_ascii_case(name.as_bytes())).count() >= LOOP
}

/// Adds this proxy to the end of `Via`. `values` are its elements.
pub(crate) fn add(headers: &mut HeaderMap, version: Version, values: &Values) {
    let value = match version {
        Version::HTTP_2 => &values.two,
        Version::HTTP_10 => &values.one_zero,
        _ => &values.one_one,
    };
    headers.append(VIA, value.clone());
}

/// The elements of `Via` for the versions that a message can arrive with.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    one_zero: HeaderValue,
    one_one: HeaderValue,
    two: HeaderValue,
}

impl Values {
    /// Returns the elements for a name, or `None` if it is not a token that starts
    /// with a letter.
    pub(crate) fn new(name: &str) -> Option<Self> {
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        // `Proxy-Status` (RFC 9651, section 3.3.4) wants a letter first.
        let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic());
        if !starts_well || !name.bytes().all(is_token) {
            return None;
        }
        let value = |version| HeaderValue::try_from(format!("{version} {name}")).ok();
        Some(Self { one_zero: value("1.0")?, one_one: value("1.1")?, two: value("2")? })
    }
}
