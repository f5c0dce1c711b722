//! [`LetterMonitor`]: reports the dead letters of a group to a sampler.

use std::fmt;

use buttress::Name;
use buttress::telemetry::{Reading, Refresh, Source};

use super::dead_letters::{DeadLetters, LetterBacklog};
use crate::metric_names as all;
use crate::refreshed::Refreshed;

/// A source of the dead letters of a consumer group, for a [`Sampler`](buttress::telemetry::Sampler).
///
/// It reports how many letters there are, how many a consumer replays by itself, how many keys they hold, and how
/// long ago the oldest one died. A refresh queries the store once. Before the first refresh that succeeds there are
/// no gauges. Refreshes that fail are counted. All processes see one store: watch it in one of them, or aggregate
/// with `max`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use buttress::telemetry::Sampler;
/// use buttress_durable::consume::{LetterMonitor, MemoryDeadLetters};
/// let sampler = Sampler::new();
/// let letters = MemoryDeadLetters::new(buttress::Clock::default());
/// sampler.watch(LetterMonitor::new("billing", letters));
/// assert!(sampler.refresh().await.is_empty());
/// let labels = [("layer", "consumer"), ("group", "billing")];
/// let stored = sampler.read().value("buttress.dead_letters.stored", &labels);
/// assert_eq!(stored, Some(0.0));
/// # }
/// ```
pub struct LetterMonitor<D> {
    group: Name,
    letters: D,
    numbers: Refreshed<LetterBacklog>,
}

impl<D: DeadLetters> LetterMonitor<D> {
    /// Creates a monitor of the letters of `group`, whose metrics have the labels `layer`, which is `consumer`, and
    /// `group`.
    pub fn new(group: impl Into<Name>, letters: D) -> Self {
        Self { group: group.into(), letters, numbers: Refreshed::default() }
    }
}

impl<D: DeadLetters> Source for LetterMonitor<D> {
    fn read(&self, reading: &mut Reading) {
        let group = ["consumer", self.group.as_str()];
        reading.add_count(&all::LETTERS_REFRESH_FAILED, group, self.numbers.failed());
        let Some(backlog) = self.numbers.last() else { return };
        reading.add_count(&all::LETTERS_STORED, group, backlog.letters);
        reading.add_count(&all::LETTERS_DELAYED, group, backlog.delayed);
        reading.add_count(&all::LETTERS_HELD, group, backlog.held_keys);
        reading.add(&all::LETTERS_OLDEST, group, backlog.oldest_age.as_secs_f64());
    }

    fn refresh(&self) -> Refresh<'_> {
        Box::pin(async move {
            let backlog = self.letters.letter_backlog(self.group.as_str()).await;
            self.numbers.take_in(backlog)
        })
    }
}

impl<D> fmt::Debug for LetterMonitor<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LetterMonitor").field("group", &self.group).finish_non_exhaustive()
    }
}
