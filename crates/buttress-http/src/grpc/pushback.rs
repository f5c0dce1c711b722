//! The field `grpc-retry-pushback-ms`: a server decides when, and whether, a client sends a call again.
//!
//! Source: gRPC proposal A6, "Pushback".

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::status_code::has_grpc;

const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// The request of a server to a client whose call failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pushback {
    /// The client follows its own rules.
    Absent,
    /// The client sends the call again, after at least this time.
    After(Duration),
    /// The client does not send the call again.
    Never,
}

impl Pushback {
    /// Reads the head of a gRPC response. A number that is negative or malformed, and a field that occurs twice, mean
    /// `Never`.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        if !has_grpc(headers) {
            return Self::Absent;
        }
        let mut values = headers.get_all(PUSHBACK).iter();
        let Some(value) = values.next() else { return Self::Absent };
        let text = value.to_str().ok().filter(|_| values.next().is_none());
        let millis = text.and_then(|text| text.parse::<i32>().ok());
        match millis.and_then(|millis| u64::try_from(millis).ok()) {
            Some(millis) => Self::After(Duration::from_millis(millis)),
            None => Self::Never,
        }
    }

    /// Writes the field. A wait is rounded up to whole milliseconds, and is at least 1: a client that waits is never
    /// early. The field holds at most 24 days.
    pub(super) fn write(self, headers: &mut HeaderMap) {
        match self {
            Self::Absent => {}
            Self::Never => {
                headers.insert(PUSHBACK, HeaderValue::from_static("-1"));
            }
            Self::After(wait) => {
                let millis = wait.as_nanos().div_ceil(1_000_000).max(1);
                let millis = i32::try_from(millis).unwrap_or(i32::MAX);
                headers.insert(PUSHBACK, HeaderValue::from(millis));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::header::CONTENT_TYPE;

    use super::*;

    fn read(texts: &[&str]) -> Pushback {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        for text in texts {
            headers.append(PUSHBACK, HeaderValue::from_bytes(text.as_bytes()).unwrap());
        }
        Pushback::of(&headers)
    }

    #[test]
    fn a_number_of_milliseconds_is_a_wait_and_all_else_forbids_another_attempt() {
        assert_eq!(read(&[]), Pushback::Absent);
        for (text, millis) in [("0", 0), ("70", 70), ("2147483647", 2_147_483_647)] {
            assert_eq!(read(&[text]), Pushback::After(Duration::from_millis(millis)));
        }
        for text in ["-1", "-2147483648", "2147483648", "", " ", "1.5", "soon", "\u{e9}", "1 "] {
            assert_eq!(read(&[text]), Pushback::Never, "{text:?}");
        }
        assert_eq!(read(&["5", "5"]), Pushback::Never);
    }

    #[test]
    fn a_response_that_is_not_grpc_has_no_pushback() {
        let mut headers = HeaderMap::new();
        headers.insert(PUSHBACK, HeaderValue::from_static("-1"));
        assert_eq!(Pushback::of(&headers), Pushback::Absent);
    }

    #[test]
    fn a_wait_is_written_in_milliseconds_that_are_never_early() {
        let written = |pushback: Pushback| {
            let mut headers = HeaderMap::new();
            pushback.write(&mut headers);
            headers.get(PUSHBACK).map(|value| value.to_str().unwrap().to_owned())
        };
        for (wait, text) in [
            (Duration::ZERO, "1"),
            (Duration::from_nanos(1), "1"),
            (Duration::from_millis(2), "2"),
            (Duration::from_micros(2_001), "3"),
            (Duration::MAX, "2147483647"),
        ] {
            assert_eq!(written(Pushback::After(wait)).as_deref(), Some(text), "{wait:?}");
        }
        assert_eq!(written(Pushback::Never).as_deref(), Some("-1"));
        assert_eq!(written(Pushback::Absent), None);
    }
}
