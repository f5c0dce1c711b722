//! Times as [RFC 3339](https://www.rfc-editor.org/rfc/rfc3339) writes them.
//!
//! The conversions between days and dates are `days_from_civil` and `civil_from_days` of Howard Hinnant,
//! [chrono-Compatible Low-Level Date Algorithms](https://howardhinnant.github.io/date_algorithms.html).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: i64 = 24 * 3600;
const NANOS: u32 = 1_000_000_000;

/// Writes `time` in UTC with the digits of its nanoseconds that are not trailing zeros. Returns `None` outside of the
/// years 0 to 9999, which the format cannot write.
pub(super) fn write(time: SystemTime) -> Option<String> {
    let (seconds, nanos) = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => (i64::try_from(after.as_secs()).ok()?, after.subsec_nanos()),
        Err(error) => {
            let before = error.duration();
            let seconds = i64::try_from(before.as_secs()).ok()?.checked_neg()?;
            match before.subsec_nanos() {
                0 => (seconds, 0),
                nanos => (seconds.checked_sub(1)?, NANOS - nanos),
            }
        }
    };
    let (year, month, day) = date(seconds.div_euclid(DAY))?;
    let second = seconds.rem_euclid(DAY);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if nanos > 0 {
        text.push_str(format!(".{nanos:09}").trim_end_matches('0'));
    }
    text.push('Z');
    Some(text)
}

/// Returns year, month and day of a number of days since 1970-01-01, for the years 0 to 9999.
fn date(days: i64) -> Option<(i64, i64, i64)> {
    let shifted = days.checked_add(719_468)?;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (0..=9999).contains(&year).then_some((year, month, day))
}

/// Returns the number of days since 1970-01-01.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Reads a time with any offset. Digits beyond nanoseconds are cut, and a leap second counts as the last
/// nanosecond before it. Returns `None` for a text that RFC 3339 does not allow.
pub(super) fn read(text: &str) -> Option<SystemTime> {
    let (head, rest) = text.split_at_checked(19)?;
    let at = |from: usize, to: usize| digits(head.get(from..to)?);
    let separators = [(4, "-"), (7, "-"), (13, ":"), (16, ":")];
    if !separators.iter().all(|(at, is)| head.get(*at..at + 1) == Some(is)) {
        return None;
    }
    if !matches!(head.get(10..11)?, "T" | "t") {
        return None;
    }
    let (year, month, day) = (at(0, 4)?, at(5, 7)?, at(8, 10)?);
    let (hour, minute, second) = (at(11, 13)?, at(14, 16)?, at(17, 19)?);
    let number = days(year, month, day);
    if date(number) != Some((year, month, day)) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (mut nanos, rest) = fraction(rest)?;
    let leap = second == 60;
    if leap {
        nanos = NANOS - 1;
    }
    let seconds = number * DAY + hour * 3600 + minute * 60 + second - i64::from(leap);
    let seconds = seconds - offset(rest)?;
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let time = match seconds {
        0.. => UNIX_EPOCH.checked_add(whole)?,
        _ => UNIX_EPOCH.checked_sub(whole)?,
    };
    time.checked_add(Duration::from_nanos(nanos.into()))
}

/// Reads the fraction of a second, and returns the text behind it.
fn fraction(text: &str) -> Option<(u32, &str)> {
    let Some(rest) = text.strip_prefix('.') else { return Some((0, text)) };
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    let (read, rest) = rest.split_at_checked(end).filter(|(read, _)| !read.is_empty())?;
    let nanos = read.bytes().chain(std::iter::repeat(b'0')).take(9);
    Some((nanos.fold(0, |sum, byte| sum * 10 + u32::from(byte - b'0')), rest))
}

/// Reads the offset from UTC in seconds.
fn offset(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let sign = match text.get(..1)? {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    if (hours.len(), minutes.len()) != (2, 2) {
        return None;
    }
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

fn digits(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64, nanos: u32) -> SystemTime {
        UNIX_EPOCH + Duration::new(seconds, nanos)
    }

    #[test]
    fn known_times_are_written_and_read() {
        for (text, time) in [
            ("1970-01-01T00:00:00Z", at(0, 0)),
            ("1985-04-12T23:20:50.52Z", at(482_196_050, 520_000_000)),
            ("2000-02-29T12:00:00.000000001Z", at(951_825_600, 1)),
            ("9999-12-31T23:59:59.999999999Z", at(253_402_300_799, 999_999_999)),
            ("1969-12-31T23:59:59.5Z", UNIX_EPOCH - Duration::from_millis(500)),
            ("0000-03-01T00:00:00Z", UNIX_EPOCH - Duration::from_secs(62_162_035_200)),
        ] {
            assert_eq!(write(time).as_deref(), Some(text));
            assert_eq!(read(text), Some(time), "{text}");
        }
        assert_eq!(write(at(253_402_300_800, 0)), None, "the year 10000");
        assert_eq!(read("1996-12-19T16:39:57-08:00"), Some(at(851_042_397, 0)));
        assert_eq!(read("1996-12-20t00:39:57.1234567899z"), Some(at(851_042_397, 123_456_789)));
        let leap = read("1990-12-31T23:59:60Z");
        assert_eq!(leap, Some(at(662_687_999, 999_999_999)), "a leap second");
    }

    #[test]
    fn what_the_format_does_not_allow_is_refused() {
        for wrong in [
            "",
            "2024",
            "2024-02-30T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:60:00Z",
            "2024-01-01T00:00:61Z",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00.5",
            "2024-01-01 00:00:00Z",
            "2024-01-01T00:00:00+24:00",
            "2024-01-01T00:00:00+1:00",
            "2024-01-01T00:00:00+0100",
            "+024-01-01T00:00:00Z",
            "2024-01-01T00:00:00ZZ",
            "2024\u{2d}01-01T00:00:0\u{e9}Z",
            "\u{e9}024-01-01T00:00:00Z",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_time_comes_back(seconds in 0_u64..253_402_300_800, nanos in 0..NANOS, early in any::<bool>()) {
            let since = Duration::new(seconds, nanos);
            let before = seconds < 62_000_000_000 && early;
            let time = if before { UNIX_EPOCH - since } else { UNIX_EPOCH + since };
            let text = write(time).unwrap();
            prop_assert_eq!(read(&text), Some(time), "{}", text);
        }

        #[test]
        fn no_text_panics(text in "[0-9T:.Z+-]{0,30}|.{0,30}") {
            let _ = read(&text);
        }
    }
}
