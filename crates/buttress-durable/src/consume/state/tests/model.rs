//! Random schedules against what every schedule must hold.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::consume::source::Answer;

#[derive(Clone, Debug)]
enum Op {
    Deliver(u64, u8),
    Start,
    End(usize, u8),
    Write(usize),
    Settle,
    Answer(bool),
    Wait(u64),
    Revoke(u64),
    Redeliver(usize),
    Pause(bool),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0..3_u64, 0..4_u8).prop_map(|(shard, key)| Op::Deliver(shard, key)),
        6 => Just(Op::Start),
        6 => (any::<usize>(), 0..5_u8).prop_map(|(which, how)| Op::End(which, how)),
        3 => any::<usize>().prop_map(Op::Write),
        3 => Just(Op::Settle),
        3 => any::<bool>().prop_map(Op::Answer),
        3 => (0..40_u64).prop_map(Op::Wait),
        1 => (0..3_u64).prop_map(Op::Revoke),
        2 => any::<usize>().prop_map(Op::Redeliver),
        1 => any::<bool>().prop_map(Op::Pause),
    ];
    proptest::collection::vec(op, 0..200)
}

/// The knowledge of the world outside of the lanes.
struct World {
    lanes: Lanes<u64>,
    now: Instant,
    paused: bool,
    /// Running handlers: the message and its key.
    running: BTreeMap<EntryId, (u64, String)>,
    /// Letters that are being written, and their messages.
    writing: Vec<(EntryId, u64)>,
    /// Every message: its shard and its key.
    messages: Vec<(u64, String)>,
    /// The last token of each message.
    tokens: BTreeMap<u64, u64>,
    next_token: u64,
    /// Messages that a handler finished, or that a letter keeps.
    finished: BTreeSet<u64>,
    settled: BTreeSet<u64>,
    failures: BTreeMap<u64, u32>,
    rests: BTreeMap<u64, Instant>,
    /// Messages that were revoked, or delivered again: their handling may repeat.
    disturbed: BTreeSet<u64>,
    last_started: BTreeMap<String, u64>,
    call: Vec<(u64, Settle)>,
}

const RULES: Rules = Rules {
    concurrency: 3,
    capacity: 9,
    behind: 2,
    behind_bytes: 1000,
    attempts: 3,
    most_redeliveries: 20,
    max_hint: Duration::from_millis(100),
    hold: None,
    by_key: true,
    park: false,
};

impl World {
    fn new(now: Instant) -> Self {
        Self {
            lanes: Lanes::new(RULES),
            now,
            paused: false,
            running: BTreeMap::new(),
            writing: Vec::new(),
            messages: Vec::new(),
            tokens: BTreeMap::new(),
            next_token: 0,
            finished: BTreeSet::new(),
            settled: BTreeSet::new(),
            failures: BTreeMap::new(),
            rests: BTreeMap::new(),
            disturbed: BTreeSet::new(),
            last_started: BTreeMap::new(),
            call: Vec::new(),
        }
    }

    fn deliver(&mut self, message: u64) {
        let Some((shard, key)) = self.messages.get(message as usize).cloned() else { return };
        self.next_token += 1;
        self.tokens.insert(message, self.next_token);
        let mut received = Received::new(self.next_token, Shard(shard), key, message.to_string());
        received.place = Some(Place::Number(message));
        self.lanes.receive(Batch::new(vec![received]));
    }

    fn message_of(content: &Content) -> u64 {
        std::str::from_utf8(&content.payload).unwrap().parse().unwrap()
    }

    fn start(&mut self) {
        let paused = self.paused;
        while let Some(work) = self.lanes.next() {
            match work {
                Work::Handle { id, content, attempt, .. } => {
                    let (message, key) = (Self::message_of(&content), content.key.to_string());
                    assert!(!paused, "started in a pause");
                    let same = self.running.values().any(|(_, other)| *other == key);
                    assert!(!same || key.is_empty(), "two of a key run");
                    if !self.disturbed.contains(&message) {
                        let failures = self.failures.get(&message).copied().unwrap_or(0);
                        assert_eq!(attempt, failures + 1);
                        assert!(self.rests.get(&message).is_none_or(|rest| *rest <= self.now));
                        assert!(!self.finished.contains(&message), "handled again");
                        let last = self.last_started.get(&key).copied().unwrap_or(0);
                        assert!(key.is_empty() || last <= message, "out of order");
                        self.last_started.insert(key.clone(), message);
                    }
                    self.running.insert(id, (message, key));
                }
                Work::Bury { id, content, burial } => {
                    assert!(burial.attempts <= RULES.attempts);
                    self.writing.push((id, Self::message_of(&content)));
                }
                Work::Ask { .. } | Work::Resolve { .. } => panic!("not configured"),
            }
        }
        assert!(self.running.len() <= RULES.concurrency);
    }

    fn end(&mut self, which: usize, how: u8) {
        let Some(id) = self.running.keys().nth(which % self.running.len().max(1)).copied() else {
            return;
        };
        let Some((message, _)) = self.running.remove(&id) else { return };
        let outcome = match how {
            0 | 1 => Outcome::Done,
            2 => Outcome::Dead { reason: Reason::Rejected, error: String::new() },
            _ => Outcome::Failed { error: String::new(), counts: true, hint: None },
        };
        let became = self.lanes.ended(self.now, id, outcome, |_| Duration::from_millis(20));
        match became {
            Became::Done => drop(self.finished.insert(message)),
            Became::Resting => {
                *self.failures.entry(message).or_default() += 1;
                self.rests.insert(message, self.now + Duration::from_millis(20));
            }
            Became::Dead | Became::Gone => {}
            Became::Back => panic!("no drain yet"),
        }
    }

    fn write(&mut self, which: usize) {
        if self.writing.is_empty() {
            return;
        }
        let (id, message) = self.writing.swap_remove(which % self.writing.len());
        self.finished.insert(message);
        self.lanes.written(id);
    }

    fn answer(&mut self, works: bool) {
        let call = std::mem::take(&mut self.call);
        if call.is_empty() {
            return;
        }
        if !works {
            return self.lanes.settle_failed();
        }
        let answers = call.iter().map(|(token, how)| {
            let of = self.tokens.iter().find(|(_, last)| *last == token).map(|(of, _)| *of);
            match (of, how) {
                (Some(of), Settle::Done) => {
                    assert!(self.finished.contains(&of), "settled before it was handled");
                    self.settled.insert(of);
                    Answer::Taken
                }
                (Some(_), Settle::Back) => Answer::Taken,
                (None, _) => Answer::Late,
            }
        });
        let answers: Vec<_> = answers.collect();
        self.lanes.settled(&answers);
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Deliver(shard, key) if self.lanes.room() > 0 => {
                let key = if key == 0 { String::new() } else { format!("{shard}-{key}") };
                self.messages.push((shard, key));
                self.deliver(self.messages.len() as u64 - 1);
            }
            Op::Deliver(..) => {}
            Op::Start => self.start(),
            Op::End(which, how) => self.end(which, how),
            Op::Write(which) => self.write(which),
            Op::Settle if self.call.is_empty() => self.call = self.lanes.settle(),
            Op::Settle => {}
            Op::Answer(works) => self.answer(works),
            Op::Wait(millis) => {
                self.now += Duration::from_millis(millis);
                self.lanes.wake(self.now);
            }
            Op::Revoke(shard) => {
                let of_shard = self.messages.iter().enumerate().filter(|(_, of)| of.0 == shard);
                self.disturbed.extend(of_shard.map(|(message, _)| message as u64));
                self.lanes.receive(Batch { revoked: vec![Shard(shard)], ..Batch::default() });
            }
            Op::Redeliver(which) => {
                let message = which.checked_rem(self.messages.len()).unwrap_or(0) as u64;
                if self.lanes.room() > 0 && !self.settled.contains(&message) {
                    self.disturbed.insert(message);
                    self.deliver(message);
                }
            }
            Op::Pause(paused) => {
                self.paused = paused;
                self.lanes.pause(paused);
            }
        }
        assert!(self.lanes.is_consistent());
        assert!(self.lanes.held() <= RULES.capacity + RULES.behind);
        assert_eq!(self.lanes.running(), self.running.len());
    }

    /// Lets everything end well, with a redelivery of what the transport still has.
    fn finish(&mut self) {
        self.apply(&Op::Pause(false));
        for round in 0.. {
            assert!(round < 2000, "it does not end: {:?}", self.lanes);
            for _ in 0..4 {
                self.apply(&Op::Start);
                self.end(0, 0);
                self.write(0);
            }
            self.apply(&Op::Settle);
            self.answer(true);
            self.apply(&Op::Wait(50));
            if self.lanes.held() == 0 {
                let left = (0..self.messages.len() as u64).find(|of| !self.settled.contains(of));
                match left {
                    Some(message) => self.apply(&Op::Redeliver(message as usize)),
                    None => return,
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Every message is handled, or has become a letter, before it is settled, the keys stay in order, attempts and
    /// rests are kept, and in the end nothing is left.
    #[test]
    fn events_2_any_schedule_keeps_order_and_loses_nothing(ops in ops()) {
        let mut world = World::new(buttress::VirtualClock::new().clock().now());
        for op in &ops {
            world.apply(op);
        }
        world.finish();
        prop_assert_eq!(world.settled.len(), world.messages.len());
    }

    /// A drain at any time settles or returns everything.
    #[test]
    fn events_2_11_a_drain_at_any_time_leaves_nothing(ops in ops()) {
        let mut world = World::new(buttress::VirtualClock::new().clock().now());
        for op in &ops {
            world.apply(op);
        }
        world.lanes.drain();
        world.lanes.abandon();
        world.lanes.settle_failed();
        let call = world.lanes.settle();
        world.lanes.settled(&vec![Answer::Taken; call.len()]);
        prop_assert_eq!((world.lanes.held(), world.lanes.running(), world.lanes.room()), (0, 0, 0));
        prop_assert!(world.lanes.is_consistent());
    }
}
