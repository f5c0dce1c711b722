//! [`Notice`]: a log line that does not flood the log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The least time between two lines.
const PAUSE: Duration = Duration::from_secs(60);

/// When a line was written last.
#[derive(Debug, Default)]
pub(crate) struct Notice(Mutex<Option<Instant>>);

impl Notice {
    /// Whether the line is to be written again.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| now.saturating_duration_since(last) >= PAUSE);
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}
