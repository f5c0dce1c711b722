//! Durations as text in serde documents: `500ms`, `5s`, `2m`, `1h`, or a number of seconds.
//!
//! The configurations of this crate are read so. Use it for the fields of your own documents:
//!
//! ```
//! use std::time::Duration;
//!
//! #[derive(serde::Deserialize)]
//! struct Job {
//!     #[serde(with = "buttress::duration_text")]
//!     every: Duration,
//!     #[serde(default, deserialize_with = "buttress::duration_text::optional")]
//!     limit: Option<Duration>,
//! }
//!
//! let job: Job = serde_json::from_str(r#"{ "every": "1.5s" }"#)?;
//! assert_eq!((job.every, job.limit), (Duration::from_millis(1500), None));
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! The units are `ns`, `us`, `ms`, `s`, `m`, `h` and `d`. Any other text is an error with an example.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserializer, Error, Visitor};
use serde::ser::Serializer;

/// Serializes a `Duration` as a number of seconds, for `#[serde(serialize_with = ..)]`.
///
/// # Errors
/// Returns the errors of the serializer.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// Deserializes a `Duration`, for `#[serde(with = ..)]`.
///
/// # Errors
/// The value is not a duration.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_any(Text)
}

/// Deserializes an `Option<Duration>`, for `#[serde(default, deserialize_with = ..)]`.
///
/// # Errors
/// The value is neither absent nor a duration.
pub fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    struct Maybe;

    impl<'de> Visitor<'de> for Maybe {
        type Value = Option<Duration>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            Text.expecting(f)
        }

        fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(
            self,
            deserializer: D,
        ) -> Result<Self::Value, D::Error> {
            deserialize(deserializer).map(Some)
        }
    }

    deserializer.deserialize_option(Maybe)
}

struct Text;

impl Visitor<'_> for Text {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as 500ms, 5s, 2m or 1h, or a number of seconds")
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<Duration, E> {
        Ok(Duration::from_secs(seconds))
    }

    fn visit_i64<E: Error>(self, seconds: i64) -> Result<Duration, E> {
        let unsigned = u64::try_from(seconds);
        unsigned.map(Duration::from_secs).map_err(|_| bad(&seconds))
    }

    fn visit_f64<E: Error>(self, seconds: f64) -> Result<Duration, E> {
        Duration::try_from_secs_f64(seconds).map_err(|_| bad(&seconds))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).ok_or_else(|| bad(&format_args!("\"{text}\"")))
    }
}

fn bad<E: Error>(value: &dyn fmt::Display) -> E {
    E::custom(format_args!(
        "{value} is not a duration; write 500ms, 5s, 2m or 1h, or a number of seconds"
    ))
}

/// Parses a number, whole or with a decimal point, followed by a unit. A number without a unit is
/// in seconds.
fn parse(text: &str) -> Option<Duration> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let nanos: u64 = match unit.trim() {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "" | "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3600 * 1_000_000_000,
        "d" => 24 * 3600 * 1_000_000_000,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        let total = u128::from(whole) * u128::from(nanos);
        return u64::try_from(total).ok().map(Duration::from_nanos);
    }
    let seconds = number.parse::<f64>().ok()? * nanos as f64 / 1e9;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_durations_in_many_ways() {
        let cases = [
            ("500ms", Duration::from_millis(500)),
            ("5s", Duration::from_secs(5)),
            (" 5 s ", Duration::from_secs(5)),
            ("7", Duration::from_secs(7)),
            ("1.5s", Duration::from_millis(1500)),
            ("2m", Duration::from_secs(120)),
            ("1h", Duration::from_secs(3600)),
            ("1d", Duration::from_secs(86_400)),
            ("10us", Duration::from_micros(10)),
            ("10ns", Duration::from_nanos(10)),
        ];
        for (text, duration) in cases {
            assert_eq!(parse(text), Some(duration), "{text}");
        }
        for text in ["", "s", "-1s", "5 parsecs", "1.2.3s", "99999999999999999999s", "1e3s", "NaN"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
