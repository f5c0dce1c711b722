//! [`Reasons`]: why a saga unwinds, and why it is stuck.

use std::sync::Arc;

use super::model::entry::{Entry, Status};

/// Why a saga unwinds, and why it is stuck, according to its log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Reasons {
    unwinding: Option<Arc<str>>,
    stuck: Option<Arc<str>>,
}

impl Reasons {
    /// Returns the reasons after `entries`.
    pub(super) fn of<P>(entries: &[Entry<P>]) -> Self {
        let mut reasons = Self::default();
        entries.iter().for_each(|entry| reasons.add(entry));
        reasons
    }

    /// Takes in an entry of the log.
    pub(super) fn add<P>(&mut self, entry: &Entry<P>) {
        match entry {
            Entry::Unwinding { why } => self.unwinding = why.as_deref().map(Into::into),
            Entry::Stuck { why, .. } => self.stuck = why.as_deref().map(Into::into),
            _ => {}
        }
    }

    /// Returns the reason of a saga with this status. A saga that an operator has helped out has the reason for which
    /// it unwound, if it did.
    pub(super) fn at(&self, status: Status) -> Option<Arc<str>> {
        match status {
            Status::Completed => None,
            Status::Stuck => self.stuck.clone(),
            _ => self.unwinding.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_of_the_present_status() {
        let why = |why: &str| Some(why.to_owned());
        let entries: [Entry<()>; 4] = [
            Entry::Unwinding { why: why("charge: refused") },
            Entry::Stuck { step: 1, why: why("release: no answer") },
            Entry::Retried { step: 1, why: None },
            Entry::Stuck { step: 1, why: why("release: no answer again") },
        ];
        let reason = |count: usize, status| Reasons::of(&entries[..count]).at(status);
        assert_eq!(reason(0, Status::Running), None);
        assert_eq!(reason(1, Status::Unwinding).as_deref(), Some("charge: refused"));
        assert_eq!(reason(2, Status::Stuck).as_deref(), Some("release: no answer"));
        assert_eq!(reason(3, Status::Unwinding).as_deref(), Some("charge: refused"));
        assert_eq!(reason(4, Status::Stuck).as_deref(), Some("release: no answer again"));
        assert_eq!(reason(4, Status::Compensated).as_deref(), Some("charge: refused"));
        let forward = Reasons::of(&entries[1..]);
        assert_eq!(forward.at(Status::Completed), None);
        assert_eq!(forward.at(Status::Running), None);
    }
}
