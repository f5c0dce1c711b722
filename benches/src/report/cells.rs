//! The cells of the report's tables.

use std::fmt::Write;

const NONE: &str = "–";

pub(super) fn or_none(text: Option<String>) -> String {
    text.unwrap_or_else(|| NONE.to_owned())
}

pub(super) fn digits(value: Option<f64>, digits: usize) -> String {
    or_none(value.map(|value| format!("{value:.digits$}")))
}

/// Formats a whole number without decimals.
pub(super) fn count(value: Option<f64>) -> String {
    digits(value, usize::from(value.is_some_and(|value| value.fract() != 0.0)))
}

pub(super) fn ratio(value: Option<f64>, over: Option<f64>) -> String {
    digits(value.zip(over).map(|(value, over)| value / over), 2)
}

pub(super) fn yes_or_no(reached: Option<bool>) -> &'static str {
    match reached {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => NONE,
    }
}

pub(super) fn table(text: &mut String, columns: &[&str]) {
    let rule = "|---".repeat(columns.len());
    writeln!(text, "| {} |\n{rule}|", columns.join(" | ")).expect("a string takes all");
}

pub(super) fn line(text: &mut String, fields: &[String]) {
    writeln!(text, "| {} |", fields.join(" | ")).expect("a string takes all");
}
