//! The number of partitions of an outbox. It is fixed when the tables are created. A build without the outbox may
//! create them too.

use buttress::{InvalidConfig, StoreError};

/// The default number of partitions.
pub(crate) const DEFAULT: u16 = 16;

/// The most partitions: a scan reads each partition that a relay owns.
const MOST: u16 = 128;

pub(crate) fn check(partitions: Option<u16>) -> Result<(), InvalidConfig> {
    match partitions {
        Some(n) if n == 0 || n > MOST => {
            Err(InvalidConfig::new("partitions", n, format!("between 1 and {MOST}")))
        }
        _ => Ok(()),
    }
}

/// Returns the stored number of partitions, unless the configuration has another number.
pub(crate) fn agree(stored: i64, asked: Option<u16>) -> Result<u16, StoreError> {
    let stored = u16::try_from(stored)
        .ok()
        .filter(|n| (1..=MOST).contains(n))
        .ok_or_else(|| StoreError::corrupt(format!("buttress_schema: {stored} partitions")))?;
    match asked {
        Some(asked) if asked != stored => Err(StoreError::invalid(format!(
            "the tables have {stored} partitions, the configuration has {asked}; configure {stored}"
        ))),
        _ => Ok(stored),
    }
}
