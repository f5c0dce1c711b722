//! [`Spare`]: a copy of a head, for an attempt that most requests never make.

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::Head;

/// The size of a buffer, in bytes, that holds the fields of most heads. The allocator keeps blocks of this size at
/// hand.
const USUAL: usize = 960;

/// A copy of a head with one allocation for all fields. A copy of the map costs three times as much to make and drop.
#[derive(Debug)]
pub(super) struct Spare {
    method: Method,
    target: PathAndQuery,
    carries_context: bool,
    upgrades: bool,
    /// For each field its form, its name and its value.
    fields: Vec<u8>,
}

/// The lengths of a name and a value, and whether the value is sensitive.
const FORM: usize = 9;

impl Spare {
    pub(super) fn of(head: &Head) -> Self {
        #[cfg(test)]
        crate::tests::COPIES.with(|copies| copies.set(copies.get() + 1));
        let Head { method, target, headers, carries_context, upgrades } = head;
        let mut fields = Vec::with_capacity(USUAL);
        for (name, value) in headers {
            let length =
                |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
            let text = name.as_str().as_bytes();
            fields.extend_from_slice(&length(text));
            fields.extend_from_slice(&length(value.as_bytes()));
            fields.push(value.is_sensitive().into());
            fields.extend_from_slice(text);
            fields.extend_from_slice(value.as_bytes());
        }
        let (method, target) = (method.clone(), target.clone());
        Self { method, target, carries_context: *carries_context, upgrades: *upgrades, fields }
    }

    /// Returns the head again.
    pub(super) fn head(&self) -> Head {
        let Self { method, target, carries_context, upgrades, fields } = self;
        let mut headers = HeaderMap::new();
        let mut rest = &**fields;
        while let Some(field) = next(&mut rest) {
            headers.append(field.0, field.1);
        }
        let (method, target) = (method.clone(), target.clone());
        let (carries_context, upgrades) = (*carries_context, *upgrades);
        Head { method, target, headers, carries_context, upgrades }
    }
}

/// Reads a field, and leaves what follows it.
fn next(rest: &mut &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let (form, after) = rest.split_first_chunk::<FORM>()?;
    let [a, b, c, d, e, f, g, h, is_sensitive] = *form;
    let (name, after) = after.split_at_checked(u32::from_le_bytes([a, b, c, d]) as usize)?;
    let (value, after) = after.split_at_checked(u32::from_le_bytes([e, f, g, h]) as usize)?;
    *rest = after;
    let name = HeaderName::from_bytes(name).ok()?;
    let mut value = HeaderValue::from_bytes(value).ok()?;
    value.set_sensitive(is_sensitive != 0);
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_every_field_in_order() {
        let mut headers = HeaderMap::new();
        let mut secret = HeaderValue::from_static("s");
        secret.set_sensitive(true);
        headers.append("x-secret", secret);
        for (name, value) in [("accept", "*/*"), ("via", "1.1 a"), ("via", ""), ("x-b", "\u{fc}")] {
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers.append("x-long", HeaderValue::from_bytes(&[b'x'; 3 * USUAL]).unwrap());
        let head = Head {
            method: Method::PUT,
            target: PathAndQuery::from_static("/a?b"),
            headers: headers.clone(),
            carries_context: true,
            upgrades: false,
        };
        let again = Spare::of(&head).head();
        assert_eq!((again.method, again.target), (head.method, head.target));
        assert_eq!((again.carries_context, again.upgrades), (true, false));
        assert_eq!(again.headers, headers);
        assert!(again.headers["x-secret"].is_sensitive());
        assert!(!again.headers["accept"].is_sensitive());
    }
}
