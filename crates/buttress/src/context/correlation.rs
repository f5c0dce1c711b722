//! [`CorrelationId`]: the text that ties the work of one request together.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use crate::vocabulary::rng::Rng;

/// The longest correlation id, in bytes.
const LONGEST: usize = 128;
/// How many hexadecimal digits an id has that was made here.
const DIGITS: usize = 32;

/// An id that every log line, call and message of one request carries.
///
/// It is 1 to 128 bytes of `A-Z`, `a-z`, `0-9`, `.`, `_`, `:` and `-`. It is therefore allowed in a header, a log
/// line and a URL unescaped.
///
/// ```
/// use buttress::context::CorrelationId;
/// let id: CorrelationId = "order-7.attempt:2".parse().unwrap();
/// assert_eq!(id.as_str(), "order-7.attempt:2");
/// assert!("two words".parse::<CorrelationId>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CorrelationId(Text);

#[derive(Clone)]
enum Text {
    /// A drawn id: hexadecimal digits, kept in place so that the id needs no allocation.
    Made([u8; DIGITS]),
    Given(Box<str>),
}

impl Text {
    fn as_str(&self) -> &str {
        match self {
            // Digits are text. The empty string is never read.
            Self::Made(digits) => std::str::from_utf8(digits).unwrap_or_default(),
            Self::Given(text) => text,
        }
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl std::hash::Hash for Text {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl CorrelationId {
    /// Draws an id of 128 random bits, written as 32 hexadecimal digits. It allocates nothing.
    #[must_use]
    pub fn random() -> Self {
        let mut digits = [b'0'; DIGITS];
        write_hex(&mut digits, &random_u128().to_be_bytes());
        Self(Text::Made(digits))
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// Writes bytes as hexadecimal digits, two for each.
pub(super) fn write_hex(digits: &mut [u8], bytes: &[u8]) {
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        if let [high, low] = pair {
            (*high, *low) = (hex(byte >> 4), hex(byte & 0xf));
        }
    }
}

/// The digit of a number below 16.
fn hex(number: u8) -> u8 {
    if number < 10 { b'0' + number } else { b'a' + (number - 10) }
}

/// Draws 128 random bits from the source of the process.
pub(super) fn random_u128() -> u128 {
    static RNG: OnceLock<[Rng; 2]> = OnceLock::new();
    let [high, low] = RNG.get_or_init(|| [Rng::default(), Rng::default()]);
    u128::from(high.next_u64()) << 64 | u128::from(low.next_u64())
}

impl FromStr for CorrelationId {
    type Err = InvalidCorrelationId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
        let length = text.len();
        if length == 0 || length > LONGEST {
            return Err(InvalidCorrelationId::Length { length });
        }
        match text.bytes().position(|byte| !allowed(byte)) {
            Some(at) => Err(InvalidCorrelationId::Character { at }),
            None => Ok(Self(Text::Given(text.into()))),
        }
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CorrelationId({self})")
    }
}

/// Text that is not a [`CorrelationId`]. The error does not repeat the text, because the text may come from an
/// attacker and the error may be logged.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidCorrelationId {
    /// The text is empty or too long.
    #[error("a correlation id has 1 to 128 bytes, and the text has {length}")]
    Length {
        /// The length of the text in bytes.
        length: usize,
    },
    /// The text has a byte that is not allowed.
    #[error("byte {at} of a correlation id is not a letter, a digit or one of `.`, `_`, `:`, `-`")]
    Character {
        /// The offset of the first such byte.
        at: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_made_here_is_32_digits_and_reads_back_as_itself() {
        let (one, two) = (CorrelationId::random(), CorrelationId::random());
        assert_ne!(one, two);
        assert_eq!(one.as_str().len(), DIGITS);
        assert!(one.as_str().bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
        assert_eq!(one.as_str().parse(), Ok(one));
    }

    #[test]
    fn edge_1_3_what_is_no_id_is_refused_by_length_and_by_byte() {
        let parse = |text: &str| text.parse::<CorrelationId>().map(|id| id.to_string());
        let longest = "x".repeat(LONGEST);
        assert_eq!(parse(&longest), Ok(longest.clone()));
        for length in [0, 129] {
            let wrong = InvalidCorrelationId::Length { length };
            assert_eq!(parse(&"x".repeat(length)), Err(wrong));
        }
        for (text, at) in [("a\r\nb", 1), ("a b", 1), ("\u{7f}", 0), ("ab\u{e9}", 2), ("a/b", 1)] {
            assert_eq!(parse(text), Err(InvalidCorrelationId::Character { at }), "{text:?}");
        }
    }
}
