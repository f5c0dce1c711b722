//! The messages that a subscription has handed out, and its room. Pure.

use std::collections::{BTreeMap, HashMap};

/// The relation of a message that came to the messages that the consumer holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    New,
    /// The consumer holds it.
    Held,
    /// The consumer holds another message with its sequence, of a stream that is gone.
    Replaced,
}

/// The room of the consumer, and the messages that it holds.
#[derive(Debug, Default)]
pub(crate) struct Holding {
    /// How many further messages the consumer takes.
    room: usize,
    /// The largest room so far: the most messages that the consumer holds.
    capacity: usize,
    /// How many times the stream was replaced by another one.
    life: u64,
    /// The owned shards.
    shards: BTreeMap<u16, Held>,
}

#[derive(Debug)]
struct Held {
    epoch: u64,
    /// The sequences of messages that were handed out and are not settled, with the times at which the stream took them.
    sequences: HashMap<u64, u64>,
}

impl Holding {
    /// Takes in the room of the consumer. Returns `true` if it has grown.
    pub(crate) fn want(&mut self, room: usize) -> bool {
        let grows = room > self.room;
        self.room = room;
        self.capacity = self.capacity.max(room);
        grows
    }

    pub(crate) fn room(&self) -> usize {
        self.room
    }

    /// Returns how many messages of one shard may be on their way or held: an equal part of the capacity.
    pub(crate) fn share(&self) -> usize {
        self.capacity.div_ceil(self.shards.len().max(1))
    }

    /// Records that a shard is owned in `epoch`.
    pub(crate) fn gain(&mut self, shard: u16, epoch: u64) {
        self.shards.insert(shard, Held { epoch, sequences: HashMap::new() });
    }

    /// Records that a shard is not owned any more.
    pub(crate) fn lose(&mut self, shard: u16) {
        self.shards.remove(&shard);
    }

    /// Returns how many messages of a shard the consumer holds.
    pub(crate) fn held(&self, shard: u16) -> usize {
        self.shards.get(&shard).map_or(0, |held| held.sequences.len())
    }

    /// Returns whether the consumer holds this message, or another one with its sequence.
    pub(crate) fn find(&self, shard: u16, sequence: u64, time: u64) -> Found {
        match self.shards.get(&shard).and_then(|held| held.sequences.get(&sequence)) {
            None => Found::New,
            Some(known) if *known == time => Found::Held,
            Some(_) => Found::Replaced,
        }
    }

    /// Returns the number of the stream's life. A token of an earlier one settles nothing.
    pub(crate) fn life(&self) -> u64 {
        self.life
    }

    /// Records that the stream is another one: its sequences have begun again.
    pub(crate) fn begin_again(&mut self) {
        self.life += 1;
        self.shards.values_mut().for_each(|held| held.sequences.clear());
    }

    /// Returns `true` if the shard is still owned in `epoch`.
    pub(crate) fn is_current(&self, shard: u16, epoch: u64) -> bool {
        self.shards.get(&shard).is_some_and(|held| held.epoch == epoch)
    }

    /// Records that a message is handed out.
    pub(crate) fn hand_out(&mut self, shard: u16, sequence: u64, time: u64) {
        self.room = self.room.saturating_sub(1);
        if let Some(held) = self.shards.get_mut(&shard) {
            held.sequences.insert(sequence, time);
        }
    }

    /// Records that a message is settled.
    pub(crate) fn settled(&mut self, shard: u16, epoch: u64, sequence: u64) {
        if let Some(held) = self.shards.get_mut(&shard).filter(|held| held.epoch == epoch) {
            held.sequences.remove(&sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_2_13_shards_share_the_capacity_of_the_consumer() {
        let mut holding = Holding::default();
        assert!(holding.want(10));
        assert_eq!(holding.share(), 10, "no shard is owned");
        (0..4).for_each(|shard| holding.gain(shard, 1));
        assert_eq!(holding.share(), 3);
        holding.hand_out(0, 7, 70);
        holding.hand_out(0, 8, 80);
        assert_eq!((holding.room(), holding.held(0), holding.held(1)), (8, 2, 0));
        assert!(!holding.want(2), "the room shrinks");
        assert_eq!(holding.share(), 3, "the capacity stays");
        holding.settled(0, 1, 7);
        assert_eq!([holding.find(0, 7, 70), holding.find(0, 8, 80)], [Found::New, Found::Held]);
    }

    #[test]
    fn a_settled_message_of_an_earlier_epoch_changes_nothing() {
        let mut holding = Holding::default();
        holding.gain(3, 1);
        holding.hand_out(3, 7, 70);
        holding.lose(3);
        assert!(!holding.is_current(3, 1));
        holding.gain(3, 2);
        assert_eq!(holding.find(3, 7, 70), Found::New, "another member may have it");
        holding.hand_out(3, 7, 70);
        holding.settled(3, 1, 7);
        assert_eq!(holding.find(3, 7, 70), Found::Held);
        assert!(holding.is_current(3, 2) && !holding.is_current(3, 1));
    }

    #[test]
    fn a_message_of_another_stream_is_not_the_held_one_with_its_sequence() {
        let mut holding = Holding::default();
        holding.gain(3, 1);
        holding.hand_out(3, 7, 70);
        assert_eq!(holding.find(3, 7, 71), Found::Replaced);
        assert_eq!(holding.life(), 0);
        holding.begin_again();
        assert_eq!((holding.find(3, 7, 71), holding.life(), holding.held(3)), (Found::New, 1, 0));
        assert!(holding.is_current(3, 1), "the shard is still owned");
    }
}
