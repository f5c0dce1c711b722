//! The checks of names and addresses.

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

/// The schemes that the client takes. It skips an address with another one, and reports that no broker answers.
const SCHEMES: [&str; 4] = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];

/// Refuses addresses from which the client takes no broker.
pub(crate) fn check_brokers(brokers: &str) -> Result<(), InvalidConfig> {
    let bound =
        "`host:port`, with commas between several brokers and without a scheme such as `kafka://`";
    let refused = |value| Err(InvalidConfig::new("brokers", value, bound));
    let mut addresses = brokers.split(',').map(str::trim).filter(|it| !it.is_empty()).peekable();
    if addresses.peek().is_none() {
        return refused("``".to_owned());
    }
    // The rest of an address may have a password.
    let wrong = addresses
        .filter_map(|address| address.split_once("://"))
        .find(|(scheme, _)| !SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known)));
    match wrong {
        Some((scheme, _)) => {
            let shown: String = scheme.chars().take(64).collect();
            refused(format!("`{}://..`", shown.escape_debug()))
        }
        None => Ok(()),
    }
}
