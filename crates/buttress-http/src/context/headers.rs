//! The fields of HTTP that carry a context, read and written.

use std::time::Duration;

use buttress::context::{CorrelationId, Priority, TraceContext};
use http::{HeaderMap, HeaderName, HeaderValue};

pub(super) const CORRELATION: HeaderName = HeaderName::from_static("x-correlation-id");
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
pub(super) const TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout-ms");
pub(super) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
pub(super) const PRIORITY: HeaderName = HeaderName::from_static("x-request-priority");

/// The most digits of a `grpc-timeout`.
const GRPC_DIGITS: usize = 8;

/// The contents of a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Field<T> {
    Absent,
    /// It has no value of its kind, or there are two of it.
    Malformed,
    Is(T),
}

impl<T> Field<T> {
    /// Reads the one field of this name. A field that occurs twice is malformed: two readers could take different ones.
    fn of(headers: &HeaderMap, name: &HeaderName, read: impl Fn(&str) -> Option<T>) -> Self {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Self::Absent,
            (Some(value), None) => {
                value.to_str().ok().and_then(read).map_or(Self::Malformed, Self::Is)
            }
            _ => Self::Malformed,
        }
    }

    pub(super) fn ok(self) -> Option<T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Absent | Self::Malformed => None,
        }
    }

    pub(super) fn is_malformed(&self) -> bool {
        matches!(self, Self::Malformed)
    }
}

/// Reads `x-correlation-id`, or `x-request-id` if the first is absent.
pub(super) fn correlation(headers: &HeaderMap) -> Field<CorrelationId> {
    let read = |name| Field::of(headers, name, |text| text.parse().ok());
    match read(&CORRELATION) {
        Field::Absent => read(&REQUEST_ID),
        found => found,
    }
}

/// Reads `traceparent`, with the fields `tracestate` joined. A malformed `traceparent` makes `tracestate` meaningless.
pub(super) fn trace(headers: &HeaderMap) -> Field<TraceContext> {
    let found = Field::of(headers, &TRACEPARENT, |text| text.parse::<TraceContext>().ok());
    let Field::Is(trace) = found else { return found };
    let states = headers.get_all(TRACESTATE).iter().map(HeaderValue::to_str);
    let states: Result<Vec<_>, _> = states.collect();
    Field::Is(trace.with_state(&states.unwrap_or_default().join(",")))
}

/// Reads how long the caller waits: `x-request-timeout-ms`.
pub(super) fn timeout(headers: &HeaderMap) -> Field<Duration> {
    Field::of(headers, &TIMEOUT, |text| digits(text).map(Duration::from_millis))
}

/// Reads how long the caller waits: `grpc-timeout`, at most 8 digits and a unit.
pub(super) fn grpc_timeout(headers: &HeaderMap) -> Field<Duration> {
    Field::of(headers, &GRPC_TIMEOUT, |text| {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let number = digits(number).filter(|_| number.len() <= GRPC_DIGITS)?;
        match unit {
            "H" => Some(Duration::from_secs(number * 3600)),
            "M" => Some(Duration::from_secs(number * 60)),
            "S" => Some(Duration::from_secs(number)),
            "m" => Some(Duration::from_millis(number)),
            "u" => Some(Duration::from_micros(number)),
            "n" => Some(Duration::from_nanos(number)),
            _ => None,
        }
    })
}

pub(super) fn priority(headers: &HeaderMap) -> Field<Priority> {
    Field::of(headers, &PRIORITY, |text| {
        let number = digits(text).filter(|_| text.len() == 1)?;
        u8::try_from(number).ok().and_then(Priority::new)
    })
}

/// Reads decimal digits and nothing else: no sign, no space, no prefix.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Writes a `grpc-timeout`, rounded down to a unit that fits its digits.
pub(super) fn grpc_timeout_value(left: Duration) -> HeaderValue {
    let units: [(u128, char); 5] = [
        (left.as_nanos(), 'n'),
        (left.as_micros(), 'u'),
        (left.as_millis(), 'm'),
        (left.as_secs().into(), 'S'),
        (u128::from(left.as_secs()) / 60, 'M'),
    ];
    let limit = 10u128.pow(GRPC_DIGITS as u32);
    let fits = units.into_iter().find(|(number, _)| *number < limit);
    // 99 999 999 hours are 11 000 years.
    let (number, unit) = fits.unwrap_or((limit - 1, 'H'));
    value(format!("{number}{unit}"))
}

/// Copies text that was checked to be visible ASCII into a field value.
pub(super) fn value_of(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Makes a field value of text that was checked to be visible ASCII.
pub(super) fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, text) in fields {
            headers.append(*name, HeaderValue::from_bytes(text.as_bytes()).expect("a value"));
        }
        headers
    }

    #[test]
    fn edge_1_10_a_timeout_is_digits_and_nothing_else() {
        let read = |text: &str| timeout(&headers(&[(&TIMEOUT, text)]));
        assert_eq!(read("700"), Field::Is(Duration::from_millis(700)));
        assert_eq!(read("0"), Field::Is(Duration::ZERO));
        assert_eq!(read(&u64::MAX.to_string()), Field::Is(Duration::from_millis(u64::MAX)));
        let huge = format!("1{}", "0".repeat(30));
        for wrong in ["-1", "+1", "0x10", &huge, "", " 1", "1 ", "1.5", "1e3", "\u{e9}"] {
            assert!(read(wrong).is_malformed(), "{wrong:?}");
        }
        assert_eq!(timeout(&HeaderMap::new()), Field::Absent);
        assert!(timeout(&headers(&[(&TIMEOUT, "1"), (&TIMEOUT, "1")])).is_malformed());
    }

    #[test]
    fn edge_1_10_a_timeout_of_grpc_has_at_most_eight_digits_and_a_unit() {
        let read = |text: &str| grpc_timeout(&headers(&[(&GRPC_TIMEOUT, text)]));
        for (text, time) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("99999999m", Duration::from_millis(99_999_999)),
            ("5u", Duration::from_micros(5)),
            ("6n", Duration::from_nanos(6)),
        ] {
            assert_eq!(read(text), Field::Is(time));
        }
        for wrong in ["100000000m", "m", "1", "", "1s", "-1S", "1 S", "1\u{e9}"] {
            assert!(read(wrong).is_malformed(), "{wrong:?}");
        }
    }

    #[test]
    fn a_timeout_of_grpc_is_written_down_to_a_unit_that_fits() {
        for (time, text) in [
            (Duration::ZERO, "0n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_millis(700), "700000u"),
            (Duration::from_secs(3600), "3600000m"),
            (Duration::MAX, "99999999H"),
        ] {
            assert_eq!(grpc_timeout_value(time), text);
        }
    }

    #[test]
    fn a_priority_is_one_digit_from_0_to_4() {
        let read = |text: &str| priority(&headers(&[(&PRIORITY, text)])).ok().map(Priority::get);
        assert_eq!((read("0"), read("4")), (Some(0), Some(4)));
        for wrong in ["5", "-1", "00", "", "high", "1 "] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_second_name_of_a_correlation_id_is_read_if_the_first_is_absent() {
        let read = |fields: &[(&HeaderName, &str)]| {
            correlation(&headers(fields)).ok().map(|id| id.to_string())
        };
        let (one, two) = ((&CORRELATION, "one"), (&REQUEST_ID, "two"));
        assert_eq!(read(&[one, two]).as_deref(), Some("one"));
        assert_eq!(read(&[two]).as_deref(), Some("two"));
        // A bad first field is not fixed by the second.
        assert_eq!(read(&[(&CORRELATION, "o ne"), two]), None);
        assert_eq!(read(&[one, one]), None);
    }

    #[test]
    fn edge_1_4_a_state_belongs_to_a_valid_traceparent() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let states = [(&TRACESTATE, "a=1"), (&TRACESTATE, "b=2")];
        let found = trace(&headers(&[&[(&TRACEPARENT, good)][..], &states].concat())).ok();
        assert_eq!(found.as_ref().and_then(TraceContext::state), Some("a=1,b=2"));
        let bad = good.to_uppercase();
        let found = trace(&headers(&[&[(&TRACEPARENT, &*bad)][..], &states].concat()));
        assert!(found.is_malformed());
    }
}
