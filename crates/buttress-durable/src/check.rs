//! Checks of the numbers and durations in a configuration.

use buttress::InvalidConfig;
use std::fmt;
use std::time::Duration;

/// Refuses values below `low`.
pub(crate) fn check_at_least<T: PartialOrd + fmt::Display>(
    field: &str,
    value: T,
    low: T,
) -> Result<(), InvalidConfig> {
    if value >= low {
        return Ok(());
    }
    Err(InvalidConfig::new(field, value, format!("at least {low}")))
}

/// Refuses zero and durations of more than 365 days.
pub(crate) fn check_duration(field: &str, value: Duration) -> Result<(), InvalidConfig> {
    const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
    if value.is_zero() {
        return Err(InvalidConfig::new(field, "0s", "longer than zero"));
    }
    if value > LONGEST {
        return Err(InvalidConfig::new(field, format!("{value:?}"), "at most 365 days"));
    }
    Ok(())
}
