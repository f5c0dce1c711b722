//! The name of the host that a request is for, as routes compare it.

use std::borrow::Cow;

/// A name has at most 253 characters (RFC 1035), besides its trailing dot and port.
const LONGEST: usize = 260;

/// Returns the host of a `Host` field or an authority: lower case, without port and without a
/// trailing dot. Returns `None` if the value is not a host with an optional port.
///
/// User information, empty hosts and bytes outside of host names are refused: a backend could read
/// another host there.
pub(crate) fn normalize(value: &[u8]) -> Option<Cow<'_, str>> {
    if value.len() > LONGEST {
        return None;
    }
    let (host, port) = match value {
        [b'[', rest @ ..] => {
            let end = rest.iter().position(|byte| *byte == b']')?;
            let (inside, after) = rest.split_at_checked(end)?;
            let is_address = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
            if inside.is_empty() || !inside.iter().all(is_address) {
                return None;
            }
            // The brackets belong to the host.
            (value.get(..end + 2)?, after.get(1..)?)
        }
        _ => {
            let is_name =
                |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            // The host ends where its bytes do, so one pass checks and finds it.
            let end = value.iter().position(|byte| !is_name(byte)).unwrap_or(value.len());
            let (host, port) = value.split_at_checked(end)?;
            let host = host.strip_suffix(b".").unwrap_or(host);
            if host.is_empty() || host.ends_with(b".") || !matches!(port, [] | [b':', ..]) {
                return None;
            }
            (host, port)
        }
    };
    if !is_port(port) {
        return None;
    }
    let host = std::str::from_utf8(host).ok()?;
    Some(if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    })
}

/// Whether this is nothing, or a colon and perhaps a port.
fn is_port(text: &[u8]) -> bool {
    let Some((colon, digits)) = text.split_first() else { return true };
    let value = digits.iter().try_fold(0_u32, |value, byte| {
        let value = value * 10 + u32::from(byte.is_ascii_digit().then(|| byte - b'0')?);
        (value <= u16::MAX.into()).then_some(value)
    });
    *colon == b':' && value.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edge_2_5_case_port_and_trailing_dot_do_not_matter() {
        for value in [
            "shop.example",
            "SHOP.Example",
            "shop.example.",
            "shop.example:8080",
            "Shop.Example.:80",
        ] {
            assert_eq!(normalize(value.as_bytes()).as_deref(), Some("shop.example"), "{value}");
        }
        assert_eq!(normalize(b"[2001:DB8::1]:80").as_deref(), Some("[2001:db8::1]"));
        assert_eq!(normalize(b"10.0.0.1").as_deref(), Some("10.0.0.1"));
        assert_eq!(normalize(b"a_b:").as_deref(), Some("a_b"));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for value in [
            "", ":80", ".", "a..", "a@b", "a b", "a/b", "a,b", "a:b", "a:1:2", "a:999999",
            "a:65536", "[::1", "[]", "[::1]x", "[::1]80", "a%41", "ä", "a\0", "a?b", "a#b",
        ] {
            assert_eq!(normalize(value.as_bytes()), None, "{value:?}");
        }
        assert_eq!(normalize("a.".repeat(140).as_bytes()), None);
    }
}
