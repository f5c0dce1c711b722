//! The check of names.

use buttress::InvalidConfig;

/// Refuses texts that cannot be a part of the name of an exchange and a queue.
pub(crate) fn check_name(field: &str, value: &str) -> Result<(), InvalidConfig> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if (1..=64).contains(&value.len()) && value.bytes().all(fits) {
        return Ok(());
    }
    let bound = "1 to 64 ASCII letters, digits, `-` or `_`";
    Err(InvalidConfig::new(field, format!("`{value}`"), bound))
}
