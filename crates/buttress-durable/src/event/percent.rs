//! Values of attributes in headers that hold only visible ASCII.
//!
//! [CloudEvents' HTTP binding](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md),
//! section 3.1.3.2: space, `"`, `%` and everything outside of U+0021 to U+007E is percent-encoded as UTF-8.

use std::borrow::Cow;

fn is_plain(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~') && byte != b'"' && byte != b'%'
}

pub(super) fn encode(text: &str) -> Cow<'_, str> {
    if text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if is_plain(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.extend([byte >> 4, byte & 15].map(digit));
        }
    }
    Cow::Owned(encoded)
}

fn digit(number: u8) -> char {
    char::from_digit(number.into(), 16).unwrap_or('0').to_ascii_uppercase()
}

/// Returns `None` if a `%` has no two hexadecimal digits behind it, or if the bytes are not UTF-8.
pub(super) fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        decoded.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_visible_ascii_and_comes_back() {
        assert_eq!(encode("a b\"%\u{20ac}~!"), "a%20b%22%25%E2%82%AC~!");
        for text in ["", "plain", " \r\n\0\t", "%41", "\u{1f680}\u{7f}\u{80}"] {
            let encoded = encode(text);
            assert!(encoded.bytes().all(|byte| matches!(byte, b'!'..=b'~')), "{encoded}");
            assert_eq!(decode(&encoded).as_deref(), Some(text));
        }
        assert_eq!(decode("%e2%82%ac").as_deref(), Some("\u{20ac}"), "small digits");
        for wrong in ["%", "%4", "%zz", "%+1", "%ff", "a%2"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}
