//! The `Retry-After` field: reads both of its forms, and writes seconds that are never early.

use std::time::{Duration, SystemTime};

use buttress::Clock;
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue};

/// Reads the value of a `Retry-After` field and returns the wait from now, on `clock`.
///
/// It reads both forms of RFC 9110, section 10.2.3. The first is whole seconds (`120`); a number
/// beyond a `u64` becomes `u64::MAX`. The second is a date, in the current or one of the two
/// obsolete formats. A date in the past is zero. The date is compared with [`Clock::unix`], so the
/// hint is as exact as the two clocks agree. Any other value is `None`.
///
/// ```
/// # use std::time::Duration;
/// use buttress_http::retry_after;
/// use http::HeaderValue;
/// let value = HeaderValue::from_static("120");
/// let hint = retry_after::parse(&value, &buttress::Clock::default());
/// assert_eq!(hint, Some(Duration::from_secs(120)));
/// ```
#[must_use]
pub fn parse(value: &HeaderValue, clock: &Clock) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if text.is_empty() {
        return None;
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // The text has digits only, so parsing fails only if the number is too large.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let unix = date.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(unix.saturating_sub(clock.unix()))
}

/// Returns the whole seconds to write for `wait`. They are rounded up, so that a client that waits
/// them is never early. They are at least 1, because many clients read 0 as an immediate retry in a
/// loop.
///
/// ```
/// # use std::time::Duration;
/// use buttress_http::retry_after;
/// assert_eq!(retry_after::seconds(Duration::from_millis(70)), 1);
/// assert_eq!(retry_after::seconds(Duration::from_millis(1001)), 2);
/// ```
#[must_use]
pub const fn seconds(wait: Duration) -> u64 {
    match whole_seconds(wait) {
        0 => 1,
        seconds => seconds,
    }
}

/// Sets the field of a response to `seconds`.
pub(crate) fn write(headers: &mut HeaderMap, seconds: u64) {
    headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
}

/// Returns `time` in seconds, rounded up; 0 for zero.
pub(crate) const fn whole_seconds(time: Duration) -> u64 {
    let begun = if time.subsec_nanos() > 0 { 1 } else { 0 };
    time.as_secs().saturating_add(begun)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static str) -> Option<Duration> {
        parse(&HeaderValue::from_static(text), &Clock::default())
    }

    #[test]
    fn written_seconds_are_rounded_up_and_never_zero() {
        let cases = [
            (Duration::ZERO, 1),
            (Duration::from_nanos(1), 1),
            (Duration::from_nanos(999_999_999), 1),
            (Duration::from_secs(1), 1),
            (Duration::new(1, 1), 2),
            (Duration::new(59, 999_999_999), 60),
            (Duration::from_nanos(u64::MAX), 18_446_744_074),
            (Duration::new(u64::MAX, 0), u64::MAX),
            (Duration::MAX, u64::MAX),
        ];
        for (wait, written) in cases {
            assert_eq!(seconds(wait), written, "{wait:?}");
        }
    }

    #[test]
    fn seconds_are_digits_and_saturate() {
        assert_eq!(read("0"), Some(Duration::ZERO));
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("0007"), Some(Duration::from_secs(7)));
        assert_eq!(read("18446744073709551615"), Some(Duration::from_secs(u64::MAX)));
        assert_eq!(read("18446744073709551616"), Some(Duration::from_secs(u64::MAX)));
        assert_eq!(read("99999999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
    }

    #[test]
    fn what_is_neither_digits_nor_a_date_says_nothing() {
        for text in ["", " ", "+5", "-1", "1.5", "5s", "1e3", "soon", "Sun, 06 Nov 1994", "0x10"] {
            assert_eq!(read(text), None, "{text:?}");
        }
        let not_text = HeaderValue::from_bytes(&[0xff, b'1']).unwrap();
        assert_eq!(parse(&not_text, &Clock::default()), None);
    }

    /// Whether `hint` is within half a second of `seconds`. The wall time follows corrections of
    /// the system's clock, even while the clock of the test is paused.
    fn is_about(hint: Option<Duration>, seconds: f64) -> bool {
        hint.is_some_and(|hint| (hint.as_secs_f64() - seconds).abs() < 0.5)
    }

    #[tokio::test(start_paused = true)]
    async fn a_date_counts_from_the_wall_time_of_the_clock() {
        let clock = Clock::default();
        // In whole seconds, as dates are.
        let now = clock.unix().as_secs();
        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(now + 90);
        let value = HeaderValue::try_from(httpdate::fmt_http_date(date)).unwrap();
        let left = 90.0 - (clock.unix() - Duration::from_secs(now)).as_secs_f64();
        assert!(is_about(parse(&value, &clock), left));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(is_about(parse(&value, &clock), left - 60.0));
        tokio::time::advance(Duration::from_secs(31)).await;
        assert_eq!(parse(&value, &clock), Some(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn all_three_formats_of_a_date_name_the_same_instant() {
        let clock = Clock::default();
        // 1 January 2060, 12:00:00 UTC; the two digits of the second format reach to 2069.
        let unix = Duration::from_secs(2_840_184_000);
        for text in [
            "Thu, 01 Jan 2060 12:00:00 GMT",
            "Thursday, 01-Jan-60 12:00:00 GMT",
            "Thu Jan  1 12:00:00 2060",
        ] {
            let hint = parse(&HeaderValue::from_static(text), &clock);
            assert!(is_about(hint, (unix - clock.unix()).as_secs_f64()), "{text}");
        }
    }

    #[test]
    fn a_date_long_past_is_zero() {
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
    }
}
