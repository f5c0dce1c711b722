use proptest::prelude::*;

use super::*;

fn strict(path: &str) -> Result<String, Ambiguous> {
    check(path.as_bytes(), Allowed::default())
        .map(|matched| String::from_utf8(matched.into_owned()).unwrap())
}

#[test]
fn edge_2_4_a_path_that_two_parsers_could_read_differently_is_refused() {
    use Ambiguous::*;
    let cases = [
        ("", NotAbsolute),
        ("*", NotAbsolute),
        ("api", NotAbsolute),
        ("/.", DotSegment),
        ("/..", DotSegment),
        ("/../", DotSegment),
        ("/public/../admin", DotSegment),
        ("/public/./admin", DotSegment),
        ("/public/%2e%2e/admin", DotSegment),
        ("/public/%2E%2e/admin", DotSegment),
        ("/public/.%2e/admin", DotSegment),
        ("/public/%2e./admin", DotSegment),
        ("/public/%2e/admin", DotSegment),
        ("/public/%2e", DotSegment),
        ("//admin", EmptySegment),
        ("//", EmptySegment),
        ("/a//b", EmptySegment),
        ("/a//", EmptySegment),
        ("/public/..\\admin", Backslash),
        ("/a\\b", Backslash),
        ("/a%5cb", Backslash),
        ("/a%5Cb", Backslash),
        ("/a%2fb", EncodedSlash),
        ("/a%2Fb", EncodedSlash),
        ("/..%2fadmin", EncodedSlash),
        ("/a;b=c/d", Parameter),
        ("/..;/admin", Parameter),
        ("/..%3b/admin", Parameter),
        ("/a%00", Nul),
        ("/a\0", Nul),
        ("/a%zz", Escape),
        ("/a%", Escape),
        ("/a%2", Escape),
        ("/a%2/b", Escape),
        ("/%u002e%u002e/", Escape),
        ("/%252e%252e/admin", DoubleEncoding),
        ("/a%252fb", DoubleEncoding),
        ("/%25%32%65/", DoubleEncoding),
        ("/%252%65/", DoubleEncoding),
        ("/%25%32e/", DoubleEncoding),
        ("/%c0%ae%c0%ae/", OverlongUtf8),
        ("/%c0%af", OverlongUtf8),
        ("/%e0%80%ae/", OverlongUtf8),
        ("/%f0%80%80%ae/", OverlongUtf8),
        ("/a b", Byte),
        ("/a\tb", Byte),
        ("/a?b", Byte),
        ("/a#b", Byte),
        ("/[a]", Byte),
        ("/a|b", Byte),
        ("/{a}", Byte),
        ("/\"a\"", Byte),
        ("/größe", Byte),
        ("/a\u{7f}", Byte),
    ];
    for (path, why) in cases {
        assert_eq!(strict(path), Err(why), "{path:?}");
    }
}

#[test]
fn edge_2_2_escapes_of_unreserved_characters_are_decoded_for_matching() {
    let cases = [
        ("/", "/"),
        ("/api", "/api"),
        ("/api/", "/api/"),
        ("/%61pi", "/api"),
        ("/a%70i/x", "/api/x"),
        ("/api/%7e", "/api/~"),
        ("/a.b/..c/.d/e..", "/a.b/..c/.d/e.."),
        ("/%2e%2ea", "/..a"),
        ("/a%20b", "/a%20b"),
        ("/gr%c3%b6%c3%9fe/%41", "/gr%C3%B6%C3%9Fe/A"),
        ("/100%25", "/100%25"),
        ("/100%25/ab", "/100%25/ab"),
        ("/100%25%20", "/100%25%20"),
        ("/a%25g", "/a%25g"),
        ("/a%e9b", "/a%E9b"),
        ("/a!$&'()*+,=:@b", "/a!$&'()*+,=:@b"),
        // What a parser would end the path at, encoded: it stays a part of the path.
        ("/a%3fb", "/a%3Fb"),
        ("/a%3Fb%23c", "/a%3Fb%23c"),
        ("/public%3f/admin", "/public%3F/admin"),
        ("/public%23", "/public%23"),
    ];
    for (path, matched) in cases {
        assert_eq!(strict(path).as_deref(), Ok(matched), "{path:?}");
    }
}

#[test]
fn edge_2_3_an_encoded_slash_passes_only_where_it_is_allowed_and_stays_encoded() {
    let allowed = Allowed { encoded_slash: true };
    assert_eq!(check(b"/a%2fb", allowed).as_deref(), Ok(&b"/a%2Fb"[..]));
    assert_eq!(check(b"/a%5cb", allowed), Err(Ambiguous::Backslash));
    assert_eq!(check(b"/a/b%2f", allowed).as_deref(), Ok(&b"/a/b%2F"[..]));
    assert_eq!(check(b"/a/%2e.b%2fc..", allowed).as_deref(), Ok(&b"/a/..b%2Fc.."[..]));
    // A backend that decodes it must not climb, and must not see an empty segment.
    for path in
        ["/a/../b", "/a/..%2fb", "/..%2Fadmin", "/%2e%2e%2fadmin", "/f%2f..%2f..%2fadmin", "/f%2f."]
    {
        assert_eq!(check(path.as_bytes(), allowed), Err(Ambiguous::DotSegment), "{path}");
    }
    for path in ["/%2fadmin", "/a%2f%2fb", "/a%2f/b"] {
        assert_eq!(check(path.as_bytes(), allowed), Err(Ambiguous::EmptySegment), "{path}");
    }
}

#[test]
fn the_raw_length_of_a_matched_prefix_ends_at_the_same_segment() {
    for (path, matched, raw) in [
        ("/api/x", 4, "/api"),
        ("/%61p%69/x", 4, "/%61p%69"),
        ("/%c3%a4/x", 7, "/%c3%a4"),
        ("/a", 0, ""),
        ("/a", 9, "/a"),
    ] {
        assert_eq!(raw_length(path.as_bytes(), matched), raw.len(), "{path}");
    }
}

/// A reading by the grammar of RFC 3986: the segments with their escapes decoded, after
/// `remove_dot_segments` (section 5.2.4) on the decoded segments. `None` if it is not a `path-abempty`.
fn by_rfc(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    let rest = path.strip_prefix(b"/")?;
    let mut segments: Vec<Vec<u8>> = Vec::new();
    for raw in rest.split(|byte| *byte == b'/') {
        let mut segment = Vec::new();
        let mut at = 0;
        while at < raw.len() {
            if raw[at] == b'%' {
                let digits = std::str::from_utf8(raw.get(at + 1..at + 3)?).ok()?;
                if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                    return None;
                }
                segment.push(u8::from_str_radix(digits, 16).ok()?);
                at += 3;
            } else {
                let allowed =
                    raw[at].is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&raw[at]);
                if !allowed {
                    return None;
                }
                segment.push(raw[at]);
                at += 1;
            }
        }
        match &*segment {
            b"." => {}
            b".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    Some(segments)
}

/// The reading of the `url` crate, which is a browser's, then decoded once.
fn by_url(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    let text = std::str::from_utf8(path).ok()?;
    let url = url::Url::parse(&format!("http://a{text}")).ok()?;
    if url.query().is_some() || url.fragment().is_some() || url.host_str() != Some("a") {
        return None;
    }
    by_rfc(url.path().as_bytes())
}

/// Paths made of what parsers differ about.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"/".to_vec()),
        Just(b".".to_vec()),
        Just(b"..".to_vec()),
        Just(b"%2e".to_vec()),
        Just(b"%2E".to_vec()),
        Just(b"%2f".to_vec()),
        Just(b"%5c".to_vec()),
        Just(b"\\".to_vec()),
        Just(b"%25".to_vec()),
        Just(b"2e".to_vec()),
        Just(b"%".to_vec()),
        Just(b"%61".to_vec()),
        Just(b"%c3%a4".to_vec()),
        Just(b";".to_vec()),
        Just(b"admin".to_vec()),
        Just(b"\t".to_vec()),
        Just(b"?".to_vec()),
        Just(b"%3f".to_vec()),
        Just(b"%23".to_vec()),
        proptest::collection::vec(any::<u8>(), 1..3),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| {
        let mut path = b"/".to_vec();
        path.extend(pieces.concat());
        path
    })
}

/// Fails if an accepted path has more than one reading.
pub(crate) fn assert_read_alike(path: &[u8]) {
    let Ok(matched) = check(path, Allowed::default()) else { return };
    let rfc = by_rfc(path).expect("not the grammar of RFC 3986");
    assert_eq!(by_url(path), Some(rfc.clone()));
    // Nothing was removed or joined: the reading has the segments of the path itself.
    let slashes = path.iter().filter(|byte| **byte == b'/').count();
    assert_eq!(rfc.len(), slashes);
    // A second decoding finds nothing that the first did not.
    let decoded = [b"/", &*rfc.join(&b'/')].concat();
    assert_eq!(decoded.iter().filter(|byte| **byte == b'/').count(), slashes);
    // The matched form has the same reading, and is its own matched form.
    assert_eq!(by_rfc(&matched), Some(rfc));
    let again = check(&matched, Allowed::default()).map(std::borrow::Cow::into_owned);
    assert_eq!(again, Ok(matched.to_vec()));
    assert_eq!(raw_length(path, matched.len()), path.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn edge_2_4_every_accepted_path_is_read_alike_by_url_and_by_rfc_3986(path in pieces()) {
        assert_read_alike(&path);
    }
}

#[test]
fn edge_2_4_encoded_control_characters_are_refused() {
    for path in ["/a%0a", "/%0D%0Ax", "/.%0a./admin", "/%09", "/%1f", "/%7f"] {
        assert_eq!(check(path.as_bytes(), Allowed::default()), Err(Ambiguous::Control), "{path}");
    }
}
