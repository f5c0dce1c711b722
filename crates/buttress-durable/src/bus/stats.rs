//! The numbers of a bus.

use buttress::telemetry::{Reading, Source};

use super::publish::Bus;
use crate::metric_names as all;

/// The numbers of one group of a [`Bus`].
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct GroupStats {
    /// The name of the group.
    pub group: String,
    /// Messages that wait for a member.
    pub waiting: u64,
    /// Messages that a member has received and not settled.
    pub held: u64,
    /// The members. A group without a member keeps its queue.
    pub members: u64,
    /// Messages that the queue has dropped because it was full.
    pub dropped: u64,
}

/// The label `layer` is `bus`, and `group` is the name of a group.
impl Source for Bus {
    fn read(&self, reading: &mut Reading) {
        for stats in self.stats() {
            let labels = ["bus".to_owned(), stats.group];
            for (instrument, number) in [
                (&all::BUS_WAITING, stats.waiting),
                (&all::BUS_HELD, stats.held),
                (&all::BUS_MEMBERS, stats.members),
                (&all::BUS_DROPPED, stats.dropped),
            ] {
                reading.add_count(instrument, labels.clone(), number);
            }
        }
    }
}
