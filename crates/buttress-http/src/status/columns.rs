//! The columns of a section: which numbers it shows, in which order, under which headings.

use serde_json::Value;

use super::row::Row;

/// How a number is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    Plain,
    Seconds,
    Percent,
    /// A word, for example the state of a circuit.
    Word,
}

/// One column.
pub(super) struct Column {
    pub key: String,
    pub heading: String,
    pub format: Format,
}

use Format::{Percent, Plain, Seconds, Word};

type Known = &'static [(&'static str, &'static str, Format)];

const CIRCUIT_BREAKERS: Known = &[
    ("state", "State", Word),
    ("window_calls", "In window", Plain),
    ("window_failures", "Failed", Plain),
    ("failure_rate", "Failed share", Percent),
    ("window_slow", "Slow", Plain),
    ("refused", "Refused", Plain),
    ("opened", "Opened", Plain),
];
const BULKHEADS: Known = &[
    ("active", "Running", Plain),
    ("max_concurrent", "Limit", Plain),
    ("queued", "Waiting", Plain),
    ("refused", "Refused", Plain),
    ("queue_timeouts", "Timed out in queue", Plain),
    ("peak_active", "Most running", Plain),
];
const RATE_LIMITS: Known = &[
    ("available", "Available", Plain),
    ("max_tokens", "Size", Plain),
    ("refill_tokens", "Per period", Plain),
    ("refill_period", "Period", Seconds),
    ("queued", "Waiting", Plain),
    ("refused", "Refused", Plain),
    ("queue_timeouts", "Timed out in queue", Plain),
];
const RETRIES: Known = &[
    ("attempts", "Attempts", Plain),
    ("calls", "Calls", Plain),
    ("retries", "Retries", Plain),
    ("exhausted", "Exhausted", Plain),
    ("not_made", "Not made", Plain),
];
const TIME_LIMITS: Known =
    &[("limit", "Limit", Seconds), ("calls", "Calls", Plain), ("timed_out", "Timed out", Plain)];

/// The columns that the page shows for the sections of this crate.
fn known(section: &str) -> Option<Known> {
    Some(match section {
        super::handles::CIRCUIT_BREAKERS => CIRCUIT_BREAKERS,
        super::handles::BULKHEADS => BULKHEADS,
        super::handles::RATE_LIMITS => RATE_LIMITS,
        super::handles::RETRIES => RETRIES,
        super::handles::TIME_LIMITS => TIME_LIMITS,
        _ => return None,
    })
}

/// Returns the columns of `section`. A section that this crate does not define has one column per
/// scalar field of its `rows`.
pub(super) fn columns(section: &str, rows: &[&Row]) -> Vec<Column> {
    if let Some(known) = known(section) {
        let column = |(key, heading, format): &(&str, &str, Format)| Column {
            key: (*key).to_owned(),
            heading: (*heading).to_owned(),
            format: *format,
        };
        return known.iter().map(column).collect();
    }
    let mut columns: Vec<Column> = Vec::new();
    for row in rows {
        for (key, value) in row.numbers.iter().flatten() {
            // A route has its name among its numbers.
            let is_name = value.as_str() == Some(row.name.as_str());
            let is_shown = !value.is_array() && !value.is_object() && !is_name;
            if is_shown && !columns.iter().any(|column| column.key == *key) {
                let (heading, format) = (heading(key), format(key, value));
                columns.push(Column { key: key.clone(), heading, format });
            }
        }
    }
    columns
}

/// A heading of a key: `steps_executed` becomes `Steps executed`.
pub(super) fn heading(key: &str) -> String {
    let mut letters =
        key.chars().map(|letter| if matches!(letter, '_' | '.') { ' ' } else { letter });
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}

fn format(key: &str, value: &Value) -> Format {
    let is_time = ["age", "average", "lag_max", "lag.max"].iter().any(|end| key.ends_with(end));
    match value {
        Value::String(_) => Word,
        Value::Number(_) if is_time => Seconds,
        _ => Plain,
    }
}

/// The text of a number; a dash for a number that there is not.
pub(super) fn text(value: Option<&Value>, format: Format) -> String {
    match (value, format) {
        (None | Some(Value::Null), _) => String::from("–"),
        (Some(Value::String(text)), _) => text.clone(),
        (Some(Value::Bool(is_so)), _) => String::from(if *is_so { "yes" } else { "no" }),
        (Some(Value::Number(number)), Percent) => {
            number.as_f64().map_or_else(String::new, |share| format!("{:.1} %", share * 100.0))
        }
        (Some(Value::Number(number)), Seconds) => {
            number.as_f64().map_or_else(String::new, |time| format!("{} s", decimals(time)))
        }
        (Some(Value::Number(number)), Plain | Word) => match (number.as_u64(), number.as_f64()) {
            (Some(whole), _) => grouped(whole),
            (None, Some(other)) => decimals(other),
            (None, None) => number.to_string(),
        },
        (Some(other), _) => other.to_string(),
    }
}

/// Three decimals at most.
fn decimals(number: f64) -> String {
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Digits in groups of three, with narrow spaces that do not break.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 2);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        let texts = [
            (json!(1_234_567), Plain, "1\u{202f}234\u{202f}567"),
            (json!(123), Plain, "123"),
            (json!(0.5), Percent, "50.0 %"),
            (json!(0.15), Seconds, "0.15 s"),
            (json!(60.0), Seconds, "60 s"),
            (json!(2.50004), Plain, "2.5"),
            (json!(null), Plain, "–"),
            (json!(true), Plain, "yes"),
            (json!("half-open"), Word, "half-open"),
        ];
        for (value, format, expected) in texts {
            assert_eq!(text(Some(&value), format), expected);
        }
        assert_eq!(text(None, Plain), "–");
        assert_eq!(heading("steps_executed"), "Steps executed");
    }
}
