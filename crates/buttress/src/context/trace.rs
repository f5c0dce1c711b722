//! [`TraceContext`]: the place of a request in a distributed trace, as W3C Trace Context defines it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::correlation::{random_u128, write_hex};

/// The length of a `traceparent` of version 00.
const LENGTH: usize = 55;
/// The longest `tracestate` that is kept, in bytes. The recommendation asks for at least 512.
const LONGEST_STATE: usize = 512;
const SAMPLED: u8 = 1;

/// The trace that a request belongs to, and the span that is its parent.
///
/// It is read from a `traceparent` header and written as one, as
/// [W3C Trace Context](https://www.w3.org/TR/trace-context/) defines it.
///
/// ```
/// use buttress::context::TraceContext;
/// let received: TraceContext = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
/// let sent = received.child();
/// assert_eq!(sent.trace_id(), received.trace_id());
/// assert_ne!(sent.parent_id(), received.parent_id());
/// assert!(sent.is_sampled());
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: u128,
    parent_id: u64,
    flags: u8,
    state: Option<Arc<str>>,
}

impl TraceContext {
    /// Begins a trace: its ids are random and its flags are 0, which is "not sampled".
    #[must_use]
    pub fn root() -> Self {
        Self { trace_id: not_zero(), parent_id: not_zero_u64(), flags: 0, state: None }
    }

    /// Returns the same trace with a new random parent id, for the next hop.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { parent_id: not_zero_u64(), ..self.clone() }
    }

    /// Sets the `tracestate`, which the library passes on unchanged. A text that is empty, longer
    /// than 512 bytes, or not visible ASCII is dropped. A receiver may drop the field, and a cut
    /// text would be wrong.
    #[must_use]
    pub fn with_state(mut self, state: &str) -> Self {
        let visible = state.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
        let kept = !state.is_empty() && state.len() <= LONGEST_STATE && visible;
        self.state = kept.then(|| state.into());
        self
    }

    /// Returns the id of the trace. It is never 0.
    #[must_use]
    pub const fn trace_id(&self) -> u128 {
        self.trace_id
    }

    /// Returns the id of the parent span. It is never 0.
    #[must_use]
    pub const fn parent_id(&self) -> u64 {
        self.parent_id
    }

    /// Returns `true` if the caller records this trace.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Returns the `tracestate`.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

fn not_zero() -> u128 {
    random_u128().max(1)
}

fn not_zero_u64() -> u64 {
    (random_u128() as u64).max(1)
}

impl FromStr for TraceContext {
    type Err = InvalidTraceparent;

    /// Reads a `traceparent`. For a version above 00, it reads the four fields of version 00. It keeps only the flag
    /// `sampled`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text.as_bytes();
        let version = digits(bytes.get(..2)).ok_or(InvalidTraceparent::Version)? as u8;
        let ends = match version {
            0 => bytes.len() == LENGTH,
            0xff => return Err(InvalidTraceparent::Version),
            _ => bytes.get(LENGTH).is_none_or(|byte| *byte == b'-'),
        };
        let dashes = [2, 35, 52].iter().all(|at| bytes.get(*at) == Some(&b'-'));
        if !ends || !dashes {
            return Err(InvalidTraceparent::Form);
        }
        let field = |from: usize, to: usize| digits(bytes.get(from..to));
        let (trace_id, parent_id) = (field(3, 35), field(36, 52));
        let trace_id = trace_id.filter(|id| *id != 0).ok_or(InvalidTraceparent::TraceId)?;
        let parent_id = parent_id.filter(|id| *id != 0).ok_or(InvalidTraceparent::ParentId)?;
        let flags = field(53, 55).ok_or(InvalidTraceparent::Flags)? as u8;
        let flags = if version == 0 { flags } else { flags & SAMPLED };
        Ok(Self { trace_id, parent_id: parent_id as u64, flags, state: None })
    }
}

/// Returns the number of lowercase hexadecimal digits. `None` if a byte is not such a digit.
fn digits(bytes: Option<&[u8]>) -> Option<u128> {
    bytes?.iter().try_fold(0, |number, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

impl fmt::Display for TraceContext {
    /// Writes a `traceparent` of version 00.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By hand: the formatter costs several times as much, and a gateway writes one for each attempt.
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let fields =
            [(3, 35, self.trace_id), (36, 52, self.parent_id.into()), (53, 55, self.flags.into())];
        for (from, to, number) in fields {
            let bytes = number.to_be_bytes();
            let used = bytes.get(bytes.len() - (to - from) / 2..).unwrap_or_default();
            let digits = text.get_mut(from..to).unwrap_or_default();
            write_hex(digits, used);
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceContext({self})")
    }
}

/// The error of a `traceparent`, by its wrong part. The error does not repeat the text.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidTraceparent {
    /// The version is not two lowercase hexadecimal digits, or it is `ff`.
    #[error("the version of a traceparent is two lowercase hexadecimal digits, and not ff")]
    Version,
    /// The text has another length, or its hyphens are at other places.
    #[error("a traceparent of version 00 has 55 characters and three hyphens")]
    Form,
    /// The trace id is not 32 lowercase hexadecimal digits, or all of them are 0.
    #[error("the trace id of a traceparent is 32 lowercase hexadecimal digits, not all 0")]
    TraceId,
    /// The parent id is not 16 lowercase hexadecimal digits, or all of them are 0.
    #[error("the parent id of a traceparent is 16 lowercase hexadecimal digits, not all 0")]
    ParentId,
    /// The flags are not two lowercase hexadecimal digits.
    #[error("the flags of a traceparent are two lowercase hexadecimal digits")]
    Flags,
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn read(text: &str) -> Result<String, InvalidTraceparent> {
        text.parse::<TraceContext>().map(|trace| trace.to_string())
    }

    #[test]
    fn a_traceparent_is_written_as_it_was_read() {
        assert_eq!(read(GOOD), Ok(GOOD.to_owned()));
    }

    #[test]
    fn edge_1_4_what_is_wrong_with_a_traceparent() {
        use InvalidTraceparent as Wrong;
        let with = |from: &str, to: &str| GOOD.replacen(from, to, 1);
        let zeros = (with("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)), "0".repeat(16));
        for (text, wrong) in [
            (String::new(), Wrong::Version),
            (with("00-", "ff-"), Wrong::Version),
            (with("00-", "0x-"), Wrong::Version),
            (GOOD[..54].to_owned(), Wrong::Form),
            (format!("{GOOD}-"), Wrong::Form),
            (format!("{GOOD}-what"), Wrong::Form),
            (with("-00f0", "_00f0"), Wrong::Form),
            (with("4bf9", "4BF9"), Wrong::TraceId),
            (with("4bf9", "4b\u{e9}"), Wrong::TraceId),
            (zeros.0, Wrong::TraceId),
            (with("00f067aa0ba902b7", &zeros.1), Wrong::ParentId),
            (with("00f067aa", "00F067AA"), Wrong::ParentId),
            (with("b7-01", "b7-0g"), Wrong::Flags),
        ] {
            assert_eq!(read(&text), Err(wrong), "{text}");
        }
    }

    #[test]
    fn edge_1_4_of_a_later_version_the_first_four_fields_are_read() {
        let later = GOOD.replacen("00-", "cc-", 1);
        for (text, read_as) in [
            (later.clone(), GOOD),
            (format!("{later}-what-the-future-holds"), GOOD),
            // Only the flag that version 00 defines is passed on.
            (later.replace("b7-01", "b7-ff"), GOOD),
        ] {
            assert_eq!(read(&text), Ok(read_as.to_owned()), "{text}");
        }
        assert_eq!(read(&format!("{later}.what")), Err(InvalidTraceparent::Form));
    }

    #[test]
    fn edge_1_5_a_child_has_its_own_parent_id_and_all_else_of_the_trace() {
        let parent: TraceContext = GOOD.parse().expect("a traceparent");
        let parent = parent.with_state("vendor=1");
        let (one, two) = (parent.child(), parent.child());
        assert_ne!(one.parent_id(), two.parent_id());
        for child in [one, two] {
            assert_ne!(child.parent_id(), parent.parent_id());
            assert_eq!(TraceContext { parent_id: parent.parent_id, ..child }, parent);
        }
    }

    #[test]
    fn a_state_that_cannot_be_a_header_is_dropped() {
        let state = |text: &str| TraceContext::root().with_state(text).state().map(str::to_owned);
        assert_eq!(state("a=1,b=2").as_deref(), Some("a=1,b=2"));
        for wrong in ["", "a=1\r\nx: y", "a=\u{e9}", &"x".repeat(513)] {
            assert_eq!(state(wrong), None, "{wrong:?}");
        }
    }
}
