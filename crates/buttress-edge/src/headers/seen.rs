//! [`Seen`]: which fields of a message the proxy acts on, found in one pass over the names.

use http::HeaderMap;

use super::hop::is_of_proxies;
use super::named::is_alike;

/// The fields of a message that the proxy acts on. A search for each of them would cost more than this one pass,
/// because most messages have few of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Seen(u16);

/// The fields by the length of their name.
type Known = &'static [(&'static str, Seen)];

impl Seen {
    pub(crate) const CONNECTION: Self = Self(1 << 0);
    pub(crate) const TE: Self = Self(1 << 1);
    pub(crate) const TRANSFER_ENCODING: Self = Self(1 << 2);
    pub(crate) const UPGRADE: Self = Self(1 << 3);
    /// `Keep-Alive`, `Proxy`, and every field that begins with `Proxy-`.
    pub(crate) const HOP: Self = Self(1 << 4);
    pub(crate) const EXPECT: Self = Self(1 << 5);
    pub(crate) const VIA: Self = Self(1 << 6);
    pub(crate) const AUTHORIZATION: Self = Self(1 << 7);
    /// A field about the client, or the mark of a copied request.
    pub(crate) const FORWARDED: Self = Self(1 << 8);
    /// A field of a context.
    pub(crate) const CONTEXT: Self = Self(1 << 9);
    pub(crate) const CONTENT_TYPE: Self = Self(1 << 10);
    pub(crate) const CONTENT_LENGTH: Self = Self(1 << 12);
    /// A name with a byte other than a letter, a digit or `-`.
    pub(crate) const ODD: Self = Self(1 << 11);

    /// Every field of one connection.
    pub(crate) const OF_CONNECTION: Self = Self(
        Self::CONNECTION.0
            | Self::TE.0
            | Self::TRANSFER_ENCODING.0
            | Self::UPGRADE.0
            | Self::HOP.0
            | Self::ODD.0,
    );

    /// Looks at the names of `headers`. Names that a backend could read alike count.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        headers.keys().fold(Self::default(), |seen, name| Self(seen.0 | Self::one(name.as_str()).0))
    }

    /// Whether one of `fields` is there.
    pub(crate) fn has(self, fields: Self) -> bool {
        self.0 & fields.0 != 0
    }

    fn one(name: &str) -> Self {
        let known = known(name.len()).iter().find(|(known, _)| is_alike(name, known));
        let field = match known {
            Some((_, field)) => *field,
            None if is_of_proxies(name) => Self::HOP,
            None => Self::default(),
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if name.bytes().all(is_plain) { field } else { Self(field.0 | Self::ODD.0) }
    }
}

fn known(length: usize) -> Known {
    match length {
        2 => &[("te", Seen::TE)],
        3 => &[("via", Seen::VIA)],
        6 => &[("expect", Seen::EXPECT)],
        7 => &[("upgrade", Seen::UPGRADE)],
        8 => &[("x-shadow", Seen::FORWARDED)],
        9 => &[("forwarded", Seen::FORWARDED), ("x-real-ip", Seen::FORWARDED)],
        10 => &[
            ("connection", Seen::CONNECTION),
            ("keep-alive", Seen::HOP),
            ("tracestate", Seen::CONTEXT),
        ],
        11 => &[("traceparent", Seen::CONTEXT)],
        12 => &[
            ("content-type", Seen::CONTENT_TYPE),
            ("x-request-id", Seen::CONTEXT),
            ("grpc-timeout", Seen::CONTEXT),
        ],
        13 => &[("authorization", Seen::AUTHORIZATION)],
        14 => &[("content-length", Seen::CONTENT_LENGTH)],
        15 => &[("x-forwarded-for", Seen::FORWARDED)],
        16 => &[
            ("x-forwarded-host", Seen::FORWARDED),
            ("x-forwarded-port", Seen::FORWARDED),
            ("x-correlation-id", Seen::CONTEXT),
        ],
        17 => &[
            ("x-forwarded-proto", Seen::FORWARDED),
            ("transfer-encoding", Seen::TRANSFER_ENCODING),
        ],
        18 => &[("x-request-priority", Seen::CONTEXT)],
        20 => &[("x-request-timeout-ms", Seen::CONTEXT)],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;
    use crate::headers::forwarded::OURS;
    use crate::headers::named::OF_CONTEXT;

    fn of(name: &str) -> Seen {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        Seen::of(&HeaderMap::from_iter([(name, http::HeaderValue::from_static("1"))]))
    }

    #[test]
    fn edge_2_9_every_field_that_is_removed_is_seen_in_every_spelling() {
        let groups = [(Seen::FORWARDED, &OURS[..]), (Seen::CONTEXT, &OF_CONTEXT[..])];
        for (field, names) in groups {
            for name in names {
                let disguises = ["_", ".", "~", "!"].map(|byte| name.replace('-', byte));
                for spelled in [name.to_string(), name.to_uppercase()].into_iter().chain(disguises)
                {
                    assert!(of(&spelled).has(field), "{spelled}");
                }
            }
        }
        for name in [
            "connection",
            "te",
            "transfer-encoding",
            "upgrade",
            "keep-alive",
            "proxy-x",
            "proxy-",
            "proxy",
            "a_b",
        ] {
            assert!(of(name).has(Seen::OF_CONNECTION), "{name}");
        }
        assert!(of("expect").has(Seen::EXPECT) && of("via").has(Seen::VIA));
        assert!(of("authorization").has(Seen::AUTHORIZATION));
        assert!(of("content-type").has(Seen::CONTENT_TYPE));
        assert!(of("content-length").has(Seen::CONTENT_LENGTH));
        for name in ["host", "accept", "x-api-key", "proxyx", "x-forwarded", "tf"] {
            assert_eq!(of(name), Seen::default(), "{name}");
        }
    }

    #[test]
    fn each_name_stands_at_its_length() {
        let all = (0..64).flat_map(|length| known(length).iter().map(move |known| (length, known)));
        assert!(all.clone().all(|(length, (name, _))| name.len() == length));
        assert_eq!(all.count(), 24);
    }
}
