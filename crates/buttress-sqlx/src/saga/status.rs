//! Statuses of sagas as conditions of statements.

use std::fmt;

use buttress_durable::saga::Status;

/// Statuses as a list in SQL, e.g. `(1, 2)`. It is part of the text, so that a planner sees that a partial
/// index applies.
pub(crate) struct Codes(&'static [Status]);

/// Sagas that a worker runs.
pub(crate) const WORKING: Codes = Codes(&[Status::Running, Status::Unwinding]);
/// Sagas without an owner.
pub(crate) const ENDED: Codes = Codes(&[Status::Completed, Status::Compensated]);
/// Sagas that wait for a time. The condition of the partial indexes of these sagas: SQLite does not see that a
/// list of one status is the same.
pub(crate) const WAITING: &str = "status = 6";
/// Sagas that wait for an operator.
#[cfg(feature = "sqlite")]
pub(crate) const STUCK: Codes = Codes(&[Status::Stuck]);
/// The condition of the partial index of sagas that have not ended.
#[cfg(feature = "sqlite")]
pub(crate) const OPEN: &str = "status < 4";

impl fmt::Display for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (at, status) in self.0.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { ", " })?;
            write!(f, "{}", status.code())?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMAS: [&str; 2] =
        [include_str!("../sqlite/schema_1.sql"), include_str!("../postgres/schema_1.sql")];

    const WAITS: [&str; 2] =
        [include_str!("../sqlite/waits.sql"), include_str!("../postgres/waits.sql")];

    #[test]
    fn the_partial_indexes_are_of_these_statuses() {
        for schema in WAITS {
            assert_eq!(schema.matches(&format!("WHERE {WAITING};")).count(), 3, "{schema}");
        }
        for schema in SCHEMAS {
            assert!(schema.contains(&format!("WHERE status IN {WORKING}")), "{schema}");
        }
    }

    #[test]
    #[cfg(feature = "sqlite")]
    fn every_status_is_in_one_list() {
        let codes = (1..=u8::MAX).map_while(Status::from_code);
        for status in codes {
            let waits = WAITING == format!("status = {}", status.code());
            let lists = [WORKING, STUCK, ENDED].map(|list| list.0.contains(&status));
            let lists = lists.into_iter().chain([waits]).filter(|there| *there).count();
            assert_eq!((lists, waits), (1, status == Status::Waiting), "{status:?}");
            assert_eq!(ENDED.0.contains(&status), status.is_ended());
            assert_eq!(status.code() < 4, !status.is_ended() && !waits, "{OPEN}");
        }
        assert!(SCHEMAS[0].contains(OPEN));
    }
}
