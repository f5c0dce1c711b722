//! The messages that a subscription has handed out, the room of the consumer, and which acknowledgements to send. Pure.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use buttress_durable::consume::{Answer, Place, Settle, Shard};

use super::Token;

/// The most messages that a member holds of all shards, unless a prefetch is set. A consumer with default settings takes as
/// many.
const HELD: u16 = 128;

/// The shards of a group as one member sees them.
#[derive(Debug)]
pub(super) struct Holding {
    /// How many further messages the consumer takes.
    room: usize,
    /// The most messages that the consumer holds: the announced number, or the largest room so far.
    capacity: usize,
    announced: Option<usize>,
    shards: Vec<Held>,
    revoked: Vec<Shard>,
}

/// One shard.
#[derive(Debug, Default)]
struct Held {
    /// The number of the channel's life. Tags of another life are worth nothing.
    epoch: u64,
    is_open: bool,
    /// Tags that were handed out and are not settled, with the ids of their messages.
    unsettled: BTreeMap<u64, Option<String>>,
    /// The ids of these messages.
    ids: HashSet<String>,
}

/// An acknowledgement to send over the channel of a shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ack {
    pub shard: u16,
    pub epoch: u64,
    pub tag: u64,
    /// Whether it counts for all earlier tags too.
    pub multiple: bool,
}

impl Holding {
    pub(super) fn new(shards: u16) -> Self {
        let shards = (0..shards).map(|_| Held::default()).collect();
        Self { room: 0, capacity: 0, announced: None, shards, revoked: Vec::new() }
    }

    /// Takes in the most messages that the consumer holds.
    pub(super) fn announce(&mut self, capacity: usize) {
        self.announced = Some(capacity);
        self.capacity = self.capacity.max(capacity);
    }

    /// Returns how many unsettled messages of a shard RabbitMQ delivers, unless a prefetch is set.
    ///
    /// It depends on the settings of topic and consumer only, so that all members have the same. RabbitMQ puts the messages
    /// of a lost member behind returned messages that still wait: after a successor that takes fewer and is lost too, they
    /// would be out of order. More than the consumer holds would only wait in this process until RabbitMQ's timeout.
    pub(super) fn prefetch(&self) -> u16 {
        let announced = self.announced.map(|capacity| u16::try_from(capacity).unwrap_or(HELD));
        let shards = u16::try_from(self.shards.len()).unwrap_or(u16::MAX);
        announced.unwrap_or(HELD).clamp(1, HELD).div_ceil(shards.max(1))
    }

    /// Takes in the room of the consumer. Returns `true` if it has grown.
    pub(super) fn want(&mut self, room: usize) -> bool {
        let grows = room > self.room;
        self.room = room;
        self.capacity = self.capacity.max(room);
        grows
    }

    pub(super) fn room(&self) -> usize {
        self.room
    }

    /// Whether the consumer has said yet how much it takes.
    pub(super) fn is_wanted(&self) -> bool {
        self.capacity > 0
    }

    /// Whether the consumer may get a further message of a shard, for which no prefetch is set: it holds an equal part
    /// of each, so that one shard cannot take the room of the others.
    pub(super) fn has_room_for(&self, shard: u16) -> bool {
        let share = self.capacity.div_ceil(self.shards.len().max(1));
        let held = self.shards.get(usize::from(shard));
        held.is_some_and(|held| held.unsettled.len() < share)
    }

    /// Records that a shard has a new channel. Returns its epoch.
    pub(super) fn opened(&mut self, shard: u16) -> u64 {
        let Some(held) = self.shards.get_mut(usize::from(shard)) else { return 0 };
        (held.epoch, held.is_open) = (held.epoch + 1, true);
        held.epoch
    }

    /// Records that the channel of a shard is gone: RabbitMQ delivers unsettled messages again.
    pub(super) fn lost(&mut self, shard: u16) {
        let Some(held) = self.shards.get_mut(usize::from(shard)) else { return };
        if std::mem::take(&mut held.is_open) {
            held.unsettled.clear();
            held.ids.clear();
            self.revoked.push(Shard(u64::from(shard)));
        }
    }

    /// Returns the shards that were lost since the last call.
    pub(super) fn take_revoked(&mut self) -> Vec<Shard> {
        std::mem::take(&mut self.revoked)
    }

    /// Records that a message is handed out. Returns its token and its place.
    ///
    /// A second copy of a message, which a relay published twice, has another place: with the same one it would take
    /// the place of the first copy, whose tag would never be settled.
    pub(super) fn hand_out(
        &mut self,
        shard: u16,
        tag: u64,
        id: Option<String>,
    ) -> (Token, Option<Place>) {
        self.room = self.room.saturating_sub(1);
        let Some(held) = self.shards.get_mut(usize::from(shard)) else {
            return (Token { shard, epoch: 0, tag }, None);
        };
        let is_first = id.as_ref().is_some_and(|id| held.ids.insert(id.clone()));
        let place = id.as_ref().map(|id| match is_first {
            true => Place::Text(id.as_str().into()),
            false => Place::Text(format!("{id} {}.{tag}", held.epoch).into()),
        });
        held.unsettled.insert(tag, id.filter(|_| is_first));
        (Token { shard, epoch: held.epoch, tag }, place)
    }

    /// Takes in settled deliveries. Returns the answers, and the acknowledgements to send.
    ///
    /// A delivery that is returned stays unsettled. RabbitMQ would deliver it again immediately, before messages that
    /// are still being handled. It goes back, in order, when the channel closes.
    pub(super) fn settle(&mut self, done: &[(Token, Settle)]) -> (Vec<Answer>, Vec<Ack>) {
        let mut tags: BTreeMap<u16, BTreeSet<u64>> = BTreeMap::new();
        let answer = |(token, how): &(Token, Settle)| {
            if !self.is_current(token) {
                return Answer::Late;
            }
            if *how == Settle::Done {
                tags.entry(token.shard).or_default().insert(token.tag);
            }
            Answer::Taken
        };
        let answers = done.iter().map(answer).collect();
        let mut acks = Vec::new();
        for (shard, tags) in tags {
            if let Some(held) = self.shards.get_mut(usize::from(shard)) {
                held.acknowledge(shard, tags, &mut acks);
            }
        }
        (answers, acks)
    }

    /// Returns `true` if the channel of the token is still there.
    pub(super) fn is_current(&self, token: &Token) -> bool {
        let held = self.shards.get(usize::from(token.shard));
        held.is_some_and(|held| held.is_open && held.epoch == token.epoch)
    }
}

impl Held {
    fn acknowledge(&mut self, shard: u16, mut tags: BTreeSet<u64>, acks: &mut Vec<Ack>) {
        let epoch = self.epoch;
        // Repeated, or settled by an earlier call.
        tags.retain(|tag| self.unsettled.contains_key(tag));
        let all = tags.iter().zip(self.unsettled.keys());
        let first = all.take_while(|(tag, unsettled)| tag == unsettled).count();
        if let Some(last) = first.checked_sub(1).and_then(|last| tags.iter().nth(last)) {
            acks.push(Ack { shard, epoch, tag: *last, multiple: first > 1 });
        }
        let single = |tag: &u64| Ack { shard, epoch, tag: *tag, multiple: false };
        acks.extend(tags.iter().skip(first).map(single));
        for tag in tags {
            if let Some(Some(id)) = self.unsettled.remove(&tag) {
                self.ids.remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> Option<String> {
        Some(format!("id-{number}"))
    }

    /// A holding with these tags of shard 1 handed out.
    fn with(tags: std::ops::RangeInclusive<u64>) -> (Holding, Vec<Token>) {
        let mut holding = Holding::new(4);
        holding.want(100);
        holding.opened(1);
        let tokens = tags.map(|tag| holding.hand_out(1, tag, id(tag)).0).collect();
        (holding, tokens)
    }

    fn done(tokens: &[Token], which: &[usize]) -> Vec<(Token, Settle)> {
        which.iter().map(|at| (tokens[*at], Settle::Done)).collect()
    }

    fn ack(tag: u64, multiple: bool) -> Ack {
        Ack { shard: 1, epoch: 1, tag, multiple }
    }

    #[test]
    fn a_prefix_is_acknowledged_at_once_and_never_what_is_still_handled() {
        let (mut holding, tokens) = with(1..=8);
        let (answers, acks) = holding.settle(&done(&tokens, &[1, 2, 4]));
        assert_eq!(
            (answers, acks),
            (vec![Answer::Taken; 3], vec![ack(2, false), ack(3, false), ack(5, false)])
        );
        let (_, acks) = holding.settle(&done(&tokens, &[0]));
        assert_eq!(acks, [ack(1, false)], "alone: the messages behind it are settled already");
        let (_, acks) = holding.settle(&done(&tokens, &[3, 5, 7]));
        assert_eq!(acks, [ack(6, true), ack(8, false)], "the seventh is still handled");
        let (answers, acks) = holding.settle(&done(&tokens, &[3, 7]));
        assert_eq!((answers, acks), (vec![Answer::Taken; 2], vec![]), "again, without effect");
    }

    #[test]
    fn a_returned_delivery_is_never_acknowledged() {
        let (mut holding, tokens) = with(1..=3);
        let call =
            [(tokens[0], Settle::Back), (tokens[1], Settle::Done), (tokens[2], Settle::Done)];
        let (answers, acks) = holding.settle(&call);
        assert_eq!((answers, acks), (vec![Answer::Taken; 3], vec![ack(2, false), ack(3, false)]));
    }

    #[test]
    fn events_2_3_tags_of_an_earlier_channel_are_late() {
        let (mut holding, tokens) = with(1..=2);
        holding.lost(1);
        holding.lost(1);
        assert_eq!(holding.take_revoked(), [Shard(1)], "reported once");
        assert_eq!(holding.settle(&done(&tokens, &[0])), (vec![Answer::Late], vec![]));
        holding.opened(1);
        let (again, place) = holding.hand_out(1, 1, id(1));
        assert_eq!(place, Some(Place::Text("id-1".into())), "all deliveries share the place");
        let (answers, acks) = holding.settle(&[(tokens[0], Settle::Done), (again, Settle::Done)]);
        assert_eq!(
            (answers, acks),
            (vec![Answer::Late, Answer::Taken], vec![Ack { epoch: 2, ..ack(1, false) }])
        );
        holding.lost(3);
        assert!(holding.take_revoked().is_empty(), "never opened");
    }

    #[test]
    fn a_second_copy_of_a_message_has_another_place() {
        let (mut holding, tokens) = with(1..=1);
        let (copy, place) = holding.hand_out(1, 2, id(1));
        assert_eq!(place, Some(Place::Text("id-1 1.2".into())));
        let (_, acks) = holding.settle(&[(copy, Settle::Done)]);
        assert_eq!(acks, [ack(2, false)]);
        let (_, place) = holding.hand_out(1, 3, id(1));
        assert_eq!(place, Some(Place::Text("id-1 1.3".into())), "the first one is still held");
        let _settled = holding.settle(&done(&tokens, &[0]));
        assert_eq!(holding.hand_out(1, 4, id(1)).1, Some(Place::Text("id-1".into())));
        assert_eq!(holding.hand_out(1, 5, None).1, None);
    }

    #[test]
    fn events_2_13_shards_share_the_capacity_of_the_consumer() {
        let mut holding = Holding::new(8);
        assert!(!holding.is_wanted() && !holding.has_room_for(0), "nothing is wanted yet");
        assert!(holding.want(130) && !holding.want(10));
        assert!(holding.is_wanted());
        let epoch = holding.opened(0);
        for tag in 1..=17 {
            assert!(holding.has_room_for(0), "{tag}");
            holding.hand_out(0, tag, None);
        }
        assert_eq!(holding.room(), 0);
        assert!(!holding.has_room_for(0) && holding.has_room_for(1) && !holding.has_room_for(8));
        let _settled = holding.settle(&[(Token { shard: 0, epoch, tag: 9 }, Settle::Done)]);
        assert!(holding.has_room_for(0), "one is settled");
        holding.lost(0);
        holding.opened(0);
        assert!(holding.has_room_for(0), "RabbitMQ delivers them again");
    }

    #[test]
    fn events_2_3_the_prefetch_of_a_member_depends_on_settings_only() {
        for (shards, expected) in [(1, 128), (2, 64), (8, 16), (100, 2), (256, 1)] {
            let mut holding = Holding::new(shards);
            assert_eq!(holding.prefetch(), expected, "{shards}");
            holding.want(3);
            assert_eq!(holding.prefetch(), expected, "the room of the moment is not a setting");
            holding.announce(100_000);
            assert_eq!(holding.prefetch(), expected, "a large consumer with {shards}");
        }
    }

    #[test]
    fn events_2_3_a_window_is_no_larger_than_what_the_consumer_holds() {
        for (shards, capacity, expected) in
            [(1, 1, 1), (1, 20, 20), (8, 20, 3), (8, 1, 1), (1, 0, 1)]
        {
            let mut holding = Holding::new(shards);
            holding.announce(capacity);
            assert_eq!(holding.prefetch(), expected, "{shards} {capacity}");
        }
        let mut holding = Holding::new(2);
        holding.announce(128);
        holding.want(28);
        (1..=64).for_each(|tag| drop(holding.hand_out(0, tag, None)));
        assert!(!holding.has_room_for(0) && holding.has_room_for(1), "a share of all, not of 28");
    }
}
