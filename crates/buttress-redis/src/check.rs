//! Checks of configured values.

use std::time::Duration;

use buttress::InvalidConfig;

const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

pub(crate) fn check_duration(
    field: &'static str,
    value: Duration,
    least: Duration,
) -> Result<(), InvalidConfig> {
    if value >= least && value <= LONGEST {
        return Ok(());
    }
    Err(InvalidConfig::new(field, format!("{value:?}"), format!("between {least:?} and 365 days")))
}
