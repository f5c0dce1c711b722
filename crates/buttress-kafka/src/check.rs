//! The check of names.

use buttress::InvalidConfig;

/// Refuses texts that Kafka does not take as the name of a topic. Groups follow the same rule.
pub(crate) fn check_name(field: &str, value: &str) -> Result<(), InvalidConfig> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_path = matches!(value, "." | "..");
    if (1..=249).contains(&value.len()) && value.bytes().all(fits) && !is_path {
        return Ok(());
    }
    let shown: String = value.chars().take(64).collect();
    let bound = "1 to 249 ASCII letters, digits, `-`, `_` or `.`, and neither `.` nor `..`";
    Err(InvalidConfig::new(field, format!("`{}`", shown.escape_debug()), bound))
}
