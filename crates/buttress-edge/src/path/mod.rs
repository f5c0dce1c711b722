//! The check of a request's path: a path that two parsers could read differently is refused.

use std::borrow::Cow;
use std::fmt;

/// Why a path is refused. The text is safe for callers: it contains no part of the path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ambiguous {
    NotAbsolute,
    DotSegment,
    EmptySegment,
    Backslash,
    EncodedSlash,
    Parameter,
    Nul,
    Control,
    Escape,
    DoubleEncoding,
    OverlongUtf8,
    Byte,
}

impl fmt::Display for Ambiguous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAbsolute => "the path does not start with a slash",
            Self::DotSegment => "the path has a dot segment",
            Self::EmptySegment => "the path has an empty segment",
            Self::Backslash => "the path has a backslash",
            Self::EncodedSlash => "the path has an encoded slash",
            Self::Parameter => "the path has a path parameter",
            Self::Nul => "the path has a NUL",
            Self::Control => "the path has a control character",
            Self::Escape => "the path has a percent sign without two hexadecimal digits",
            Self::DoubleEncoding => "the path is percent-encoded twice",
            Self::OverlongUtf8 => "the path has overlong UTF-8",
            Self::Byte => "the path has a byte that must be percent-encoded",
        })
    }
}

/// The encoded bytes that pass. The default refuses all that a decoder could take for a separator.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Allowed {
    /// Whether `%2F` passes. It stays encoded.
    pub encoded_slash: bool,
}

/// Checks the bytes of a path, and returns the form that routes are matched on: escapes of
/// unreserved characters are decoded, and the digits of all other escapes are upper case. All other
/// bytes are unchanged.
///
/// The check never repairs a path. It decides on bytes, before any decoding.
pub(crate) fn check(path: &[u8], allowed: Allowed) -> Result<Cow<'_, [u8]>, Ambiguous> {
    if is_simple(path) {
        return Ok(Cow::Borrowed(path));
    }
    let Some((b'/', rest)) = path.split_first() else { return Err(Ambiguous::NotAbsolute) };
    let mut segments = rest.split(|byte| *byte == b'/').peekable();
    // The matched form, from the first escape on.
    let mut decoded: Option<Vec<u8>> = None;
    let mut done = 0;
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if segment.is_empty() && !is_last {
            return Err(Ambiguous::EmptySegment);
        }
        done += 1;
        let plain = check_segment(segment, allowed)?;
        if matches!(&*plain, b"." | b"..") {
            return Err(Ambiguous::DotSegment);
        }
        if let (true, Cow::Owned(plain)) = (allowed.encoded_slash, &plain) {
            check_inside(plain, is_last)?;
        }
        match (&mut decoded, plain) {
            (None, Cow::Borrowed(_)) => {}
            (None, Cow::Owned(plain)) => {
                let mut whole = path.get(..done).unwrap_or_default().to_vec();
                whole.extend_from_slice(&plain);
                decoded = Some(whole);
            }
            (Some(whole), plain) => {
                whole.push(b'/');
                whole.extend_from_slice(&plain);
            }
        }
        done += segment.len();
    }
    Ok(decoded.map_or(Cow::Borrowed(path), Cow::Owned))
}

/// Whether a path has plain bytes only, and neither a segment that begins with a dot nor an empty one. Most paths are
/// so, and cost one pass.
fn is_simple(path: &[u8]) -> bool {
    let mut before = b' ';
    let is_simple = path.iter().all(|byte| {
        let follows_slash = std::mem::replace(&mut before, *byte) == b'/';
        match byte {
            b'/' | b'.' => !follows_slash,
            byte => is_plain(*byte),
        }
    });
    is_simple && path.first() == Some(&b'/')
}

/// Checks what a segment with encoded slashes is for a backend that decodes them.
fn check_inside(matched: &[u8], is_last: bool) -> Result<(), Ambiguous> {
    let mut rest = matched;
    while let Some(at) = rest.windows(3).position(|window| window == b"%2F") {
        let (part, after) = (rest.get(..at).unwrap_or_default(), rest.get(at + 3..));
        rest = after.unwrap_or_default();
        match part {
            b"" => return Err(Ambiguous::EmptySegment),
            b"." | b".." => return Err(Ambiguous::DotSegment),
            _ => {}
        }
    }
    match rest {
        b"." | b".." => Err(Ambiguous::DotSegment),
        b"" if !is_last => Err(Ambiguous::EmptySegment),
        _ => Ok(()),
    }
}

/// Checks the bytes between two slashes, and returns their matched form.
fn check_segment(segment: &[u8], allowed: Allowed) -> Result<Cow<'_, [u8]>, Ambiguous> {
    let Some(first) = segment.iter().position(|byte| !is_plain(*byte)) else {
        return Ok(Cow::Borrowed(segment));
    };
    let (plain, mut rest) = segment.split_at(first);
    let mut decoded = plain.to_vec();
    let mut octets = Utf8::default();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            check_byte(*byte)?;
            octets.see(*byte)?;
            decoded.push(*byte);
            continue;
        }
        let Some((digits, after)) = escape(rest) else { return Err(Ambiguous::Escape) };
        rest = after;
        let value = digits.value;
        match value {
            0 => return Err(Ambiguous::Nul),
            0x01..=0x1f | 0x7f => return Err(Ambiguous::Control),
            b'\\' => return Err(Ambiguous::Backslash),
            b'/' if !allowed.encoded_slash => return Err(Ambiguous::EncodedSlash),
            b';' => return Err(Ambiguous::Parameter),
            // A second decoder would find another escape.
            b'%' if starts_like_escape(rest) => return Err(Ambiguous::DoubleEncoding),
            _ => {}
        }
        octets.see(value)?;
        if is_unreserved(value) {
            decoded.push(value);
        } else {
            decoded.push(b'%');
            decoded.extend_from_slice(&digits.upper);
        }
    }
    Ok(Cow::Owned(decoded))
}

fn check_byte(byte: u8) -> Result<(), Ambiguous> {
    match byte {
        b';' => Err(Ambiguous::Parameter),
        b'\\' => Err(Ambiguous::Backslash),
        0 => Err(Ambiguous::Nul),
        byte if is_plain(byte) => Ok(()),
        _ => Err(Ambiguous::Byte),
    }
}

/// The octets of overlong UTF-8, which some decoders take for an ASCII character.
#[derive(Default)]
struct Utf8 {
    /// The octet before, if a short sequence after it would be overlong.
    lead: u8,
}

impl Utf8 {
    fn see(&mut self, octet: u8) -> Result<(), Ambiguous> {
        let overlong = matches!(
            (self.lead, octet),
            (_, 0xc0 | 0xc1) | (0xe0, 0x80..=0x9f) | (0xf0, 0x80..=0x8f)
        );
        self.lead = octet;
        if overlong { Err(Ambiguous::OverlongUtf8) } else { Ok(()) }
    }
}

struct Digits {
    value: u8,
    upper: [u8; 2],
}

/// Reads the two digits after a percent sign.
fn escape(rest: &[u8]) -> Option<(Digits, &[u8])> {
    let ([high, low], rest) = rest.split_first_chunk::<2>()?;
    let value = hex(*high)? << 4 | hex(*low)?;
    Some((Digits { value, upper: [high.to_ascii_uppercase(), low.to_ascii_uppercase()] }, rest))
}

/// Whether `rest`, after an encoded percent sign, is an escape once more: `%252e`, `%25%32%65`.
fn starts_like_escape(rest: &[u8]) -> bool {
    let digit = |rest: &[u8]| -> Option<usize> {
        match rest.split_first()? {
            (b'%', after) => hex(escape(after)?.0.value).map(|_| 3),
            (byte, _) => hex(*byte).map(|_| 1),
        }
    };
    let Some(first) = digit(rest) else { return false };
    digit(rest.get(first..).unwrap_or_default()).is_some()
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Unreserved characters (RFC 3986, section 2.3).
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// The bytes that a path may have unescaped (RFC 3986, `pchar`), but the semicolon.
fn is_plain(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@'
        )
}

/// Returns how many bytes of a checked `path` the first `matched` bytes of its matched form take.
pub(crate) fn raw_length(path: &[u8], matched: usize) -> usize {
    let (mut at, mut seen) = (0, 0);
    while seen < matched {
        let rest = path.get(at..).unwrap_or_default();
        match rest.split_first() {
            Some((b'%', after)) => {
                let decodes = escape(after).is_some_and(|(digits, _)| is_unreserved(digits.value));
                seen += if decodes { 1 } else { 3 };
                at += 3;
            }
            Some(_) => {
                seen += 1;
                at += 1;
            }
            None => break,
        }
    }
    at
}

#[cfg(test)]
pub(crate) mod tests;
