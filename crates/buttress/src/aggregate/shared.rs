//! The state that the clones of an aggregate share.

use std::sync::Arc;

use super::config::Config;
use super::state::{MOST_PARTS, Progress};
use crate::machinery::counters::{Counters, counters};
use crate::sync::{AtomicU64, Ordering};
use crate::time_limit;
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::name::Name;
use crate::vocabulary::observe::{Absence, Common};
use crate::vocabulary::pattern::Pattern;

counters! {
    /// The counters of an aggregate.
    pub(super) enum Counter {
        Calls,
        Partial,
        Failed,
    }
}

/// The definition of a part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Definition {
    pub name: Name,
    pub required: bool,
}

/// A part, and the calls for which it had no value, by reason.
#[derive(Debug)]
pub(super) struct Counted {
    pub part: Definition,
    absences: [AtomicU64; Absence::ALL.len()],
}

impl Counted {
    pub(super) fn count(&self, reason: Absence) -> u64 {
        self.absences.get(reason as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

/// The state that the clones of an aggregate share.
#[derive(Debug)]
pub(super) struct Shared {
    pub parts: Box<[Counted]>,
    required: u32,
    pub limit: time_limit::Handle,
    pub counters: Counters<Counter>,
    pub common: Common,
}

impl Shared {
    pub(super) fn new(config: &Config, parts: &[Definition]) -> Result<Arc<Self>, InvalidConfig> {
        config.common.named(check(parts))?;
        let limit = config.limit()?;
        let required = parts.iter().enumerate();
        let required = required.map(|(place, part)| u32::from(part.required) << place).sum();
        let counted = |part: &Definition| Counted {
            part: *part,
            absences: std::array::from_fn(|_| AtomicU64::new(0)),
        };
        Ok(Arc::new(Self {
            parts: parts.iter().map(counted).collect(),
            required,
            limit,
            counters: Counters::new(),
            common: config.common.of(Pattern::Aggregate),
        }))
    }

    #[inline(always)]
    pub(super) fn begin(&self) -> Progress {
        if self.common.count_calls {
            self.counters.add(Counter::Calls);
        }
        Progress::new(self.parts.len(), self.required)
    }

    /// Counts and reports a part without a value.
    #[cold]
    pub(super) fn missing(&self, place: usize, reason: Absence) {
        let Some(counted) = self.parts.get(place) else { return };
        if let Some(count) = counted.absences.get(reason as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.common.part_missing(counted.part.name, reason);
    }

    /// Counts a call that answers without all of its parts, and returns the names of the missing parts.
    #[cold]
    pub(super) fn partial(&self, progress: Progress) -> Vec<Name> {
        self.counters.add(Counter::Partial);
        let parts = self.parts.iter().enumerate();
        let missing = parts.filter(|(place, _)| progress.missing() >> place & 1 == 1);
        missing.map(|(_, counted)| counted.part.name).collect()
    }
}

/// Refuses definitions without a part, with too many, and names that do not fit into a header or a document.
fn check(parts: &[Definition]) -> Result<(), InvalidConfig> {
    if parts.is_empty() || parts.len() > MOST_PARTS {
        let bound = format!("between 1 and {MOST_PARTS} parts");
        return Err(InvalidConfig::new("parts", parts.len(), bound));
    }
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    for (place, part) in parts.iter().enumerate() {
        let name = part.name.as_str();
        if !(1..=64).contains(&name.len()) || !name.chars().all(is_plain) {
            let bound = "1 to 64 letters, digits and `.`, `_` or `-`";
            return Err(InvalidConfig::new("part", format!("{name:?}"), bound));
        }
        if parts.iter().take(place).any(|other| other.name == part.name) {
            return Err(InvalidConfig::new("part", format!("{name:?}"), "used by one part only"));
        }
    }
    Ok(())
}
