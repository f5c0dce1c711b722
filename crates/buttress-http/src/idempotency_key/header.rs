//! The `Idempotency-Key` header field: a string of RFC 8941, or the bare text that many clients
//! send.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::unusable::MalformedKey;

/// The request field `Idempotency-Key`, which identifies a request that a client may send again.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The response field `Idempotency-Replayed`. An [`IdempotencyKeyLayer`](super::IdempotencyKeyLayer)
/// sets it to `true` in a replayed response.
pub const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Returns the key in `headers` as an [`IdempotencyKeyLayer`](super::IdempotencyKeyLayer) reads it by default, or
/// `None` if the field `Idempotency-Key` is missing. Use it in a service that protects a request with
/// [`buttress::idempotency`] itself, e.g. in a transaction.
///
/// A key has up to 255 bytes. It is a string in double quotes (RFC 8941), or a bare text of visible
/// ASCII without `"`, `\`, `,` and `;`. Both forms are the same key.
///
/// ```
/// use buttress_http::idempotency_key::{MalformedKey, find_key};
/// use http::{HeaderMap, HeaderValue};
///
/// let mut headers = HeaderMap::new();
/// assert_eq!(find_key(&headers), Ok(None));
/// headers.insert("idempotency-key", HeaderValue::from_static("\"a7\""));
/// assert_eq!(find_key(&headers), Ok(Some("a7".to_owned())));
/// headers.append("idempotency-key", HeaderValue::from_static("b8"));
/// assert_eq!(find_key(&headers), Err(MalformedKey::Repeated));
/// ```
///
/// # Errors
/// Returns why the field holds no key. [`UnusableRequest::Malformed`](super::UnusableRequest)
/// makes a 400 of it.
pub fn find_key(headers: &HeaderMap) -> Result<Option<String>, MalformedKey> {
    Syntax::DEFAULT.find(headers)
}

/// The accepted syntax of a field value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Syntax {
    /// Accepts only strings of RFC 8941.
    pub strict: bool,
    /// The longest key in bytes.
    pub longest: usize,
}

impl Syntax {
    pub(super) const DEFAULT: Self = Self { strict: false, longest: 255 };

    /// Returns the key in `headers`, or `None` if the field is missing.
    pub(super) fn find(self, headers: &HeaderMap) -> Result<Option<String>, MalformedKey> {
        let mut lines = headers.get_all(IDEMPOTENCY_KEY).iter();
        match (lines.next(), lines.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => self.read(value).map(Some),
            (Some(_), Some(_)) => Err(MalformedKey::Repeated),
        }
    }

    fn read(self, value: &HeaderValue) -> Result<String, MalformedKey> {
        let text = value.as_bytes().trim_ascii();
        let key = match text {
            [] => return Err(MalformedKey::Empty),
            [b'"', quoted @ ..] => string(quoted)?,
            _ if self.strict => return Err(MalformedKey::NotAString),
            bare => token(bare)?,
        };
        if key.is_empty() {
            return Err(MalformedKey::Empty);
        }
        if key.len() > self.longest {
            return Err(MalformedKey::TooLong { length: key.len(), longest: self.longest });
        }
        Ok(key)
    }
}

/// Reads a string (RFC 8941, section 4.2.5) after its opening quote, up to the end of the field.
fn string(text: &[u8]) -> Result<String, MalformedKey> {
    let mut key = String::new();
    let mut rest = text.iter();
    loop {
        match rest.next() {
            Some(b'"') => break,
            Some(b'\\') => match rest.next() {
                Some(&escaped @ (b'"' | b'\\')) => key.push(char::from(escaped)),
                _ => return Err(MalformedKey::NotAString),
            },
            Some(&plain @ b' '..=b'~') => key.push(char::from(plain)),
            _ => return Err(MalformedKey::NotAString),
        }
    }
    parameters(rest.as_slice())?;
    Ok(key)
}

/// Skips the parameters of an item (RFC 8941, section 3.1.2). This field defines none, so their
/// values are only scanned for their ends.
fn parameters(mut text: &[u8]) -> Result<(), MalformedKey> {
    while let [b';', after @ ..] = text {
        let after = after.trim_ascii_start();
        let name = after.iter().take_while(|byte| is_of_a_name(**byte)).count();
        let (name, after) = after.split_at(name);
        if !matches!(name, [b'a'..=b'z' | b'*', ..]) {
            return Err(MalformedKey::NotAString);
        }
        text = match after {
            [b'=', b'"', value @ ..] => behind_string(value)?,
            [b'=', value @ ..] => {
                let length = value.iter().take_while(|byte| is_of_a_value(**byte)).count();
                let (value, after) = value.split_at(length);
                if value.is_empty() {
                    return Err(MalformedKey::NotAString);
                }
                after
            }
            _ => after,
        };
    }
    if text.is_empty() { Ok(()) } else { Err(MalformedKey::NotAString) }
}

/// Returns the text after a string.
fn behind_string(text: &[u8]) -> Result<&[u8], MalformedKey> {
    let mut rest = text.iter();
    loop {
        match rest.next() {
            Some(b'"') => return Ok(rest.as_slice()),
            Some(b'\\') if matches!(rest.next(), Some(b'"' | b'\\')) => {}
            Some(b' '..=b'[' | b']'..=b'~') => {}
            _ => return Err(MalformedKey::NotAString),
        }
    }
}

const fn is_of_a_name(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*')
}

const fn is_of_a_value(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~') && !matches!(byte, b'"' | b'\\' | b',' | b';')
}

/// Reads a key without quotes, as many clients send a UUID. It excludes commas and semicolons,
/// which separate fields and parameters.
fn token(text: &[u8]) -> Result<String, MalformedKey> {
    match text.iter().find(|byte| !is_of_a_value(**byte)) {
        None => Ok(text.iter().map(|byte| char::from(*byte)).collect()),
        Some(&quotable @ b' '..=b'~') => Err(MalformedKey::NeedsQuotes(char::from(quotable))),
        Some(_) => Err(MalformedKey::NotAString),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENIENT: Syntax = Syntax::DEFAULT;
    const STRICT: Syntax = Syntax { strict: true, longest: 255 };

    fn read(syntax: Syntax, text: &[u8]) -> Result<String, MalformedKey> {
        syntax.read(&HeaderValue::from_bytes(text).unwrap())
    }

    #[test]
    fn strings_are_read_as_rfc_8941_says() {
        let cases: [(&str, &str); 8] = [
            (r#""8e03978e-40d5-43e8-bc93-6894a57f9324""#, "8e03978e-40d5-43e8-bc93-6894a57f9324"),
            (r#"  "a b"  "#, "a b"),
            (r#""a,b;c=d""#, "a,b;c=d"),
            (r#""a\"b\\c""#, r#"a"b\c"#),
            (r#""a";p"#, "a"),
            (r#""a"; p=1;q="x;\"\\,y";r=?1"#, "a"),
            (r#""a";*p=:YQ==:"#, "a"),
            ("\" \"", " "),
        ];
        for (text, key) in cases {
            assert_eq!(read(STRICT, text.as_bytes()).as_deref(), Ok(key), "{text}");
            assert_eq!(read(LENIENT, text.as_bytes()).as_deref(), Ok(key), "{text}");
        }
    }

    #[test]
    fn what_is_no_string_is_malformed() {
        let cases: [&[u8]; 15] = [
            br#"""#,
            br#""a"#,
            br#""a\"#,
            br#""a\b""#,
            br#""a" b"#,
            br#""a", "b""#,
            br#""a";"#,
            br#""a";P"#,
            br#""a";1"#,
            br#""a";p="#,
            br#""a";p="b"#,
            br#""a";p="\b""#,
            b"\"a\tb\"",
            b"\"caf\xc3\xa9\"",
            b"\"\xff\"",
        ];
        for text in cases {
            assert_eq!(read(LENIENT, text), Err(MalformedKey::NotAString), "{text:?}");
        }
    }

    #[test]
    fn a_bare_key_is_taken_unless_only_strings_are() {
        let uuid = "8e03978e-40d5-43e8-bc93-6894a57f9324";
        for bare in [uuid, "1", "a_b.c~d/e:f+g=", ":YQ==:"] {
            assert_eq!(read(LENIENT, bare.as_bytes()).as_deref(), Ok(bare));
            assert_eq!(read(STRICT, bare.as_bytes()), Err(MalformedKey::NotAString));
        }
        for character in [' ', ',', ';', '"', '\\'] {
            let no_key = format!("a{character}b");
            let needs_quotes = MalformedKey::NeedsQuotes(character);
            assert_eq!(read(LENIENT, no_key.as_bytes()), Err(needs_quotes));
            assert_eq!(read(STRICT, no_key.as_bytes()), Err(MalformedKey::NotAString));
        }
        assert_eq!(
            MalformedKey::NeedsQuotes(',').to_string(),
            "the key has ',', put it in double quotes (RFC 8941, section 3.3.3)"
        );
        for no_key in ["caf\u{e9}", "a\tb"] {
            let read = read(LENIENT, no_key.as_bytes());
            assert_eq!(read, Err(MalformedKey::NotAString), "{no_key}");
        }
    }

    #[test]
    fn a_key_has_text_and_a_length_that_fits() {
        for empty in ["", " ", r#""""#] {
            assert_eq!(read(LENIENT, empty.as_bytes()), Err(MalformedKey::Empty), "{empty:?}");
            assert_eq!(read(STRICT, empty.as_bytes()), Err(MalformedKey::Empty), "{empty:?}");
        }
        let longest = Syntax { strict: false, longest: 4 };
        assert_eq!(read(longest, b"1234").as_deref(), Ok("1234"));
        assert_eq!(read(longest, br#""\"\"\"\"""#).as_deref(), Ok(r#""""""#), "without escapes");
        let too_long = MalformedKey::TooLong { length: 5, longest: 4 };
        assert_eq!(read(longest, b"12345"), Err(too_long));
        assert_eq!(too_long.to_string(), "the key has 5 bytes, at most 4 are allowed");
    }

    #[test]
    fn one_line_is_one_key_and_two_are_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(LENIENT.find(&headers), Ok(None));
        headers.append(IDEMPOTENCY_KEY, HeaderValue::from_static("a"));
        assert_eq!(LENIENT.find(&headers), Ok(Some("a".to_owned())));
        headers.append(IDEMPOTENCY_KEY, HeaderValue::from_static("a"));
        assert_eq!(LENIENT.find(&headers), Err(MalformedKey::Repeated));
    }
}
