//! Two members fight for a shard of a server that a test plays.

use proptest::prelude::*;

use super::*;

/// Redis, as far as leases and entries go.
#[derive(Default)]
struct Server {
    owner: Option<(usize, u64, Instant)>,
    /// Entries that were never read.
    new: Vec<u64>,
    pending: BTreeSet<u64>,
    acknowledged: BTreeSet<u64>,
}

/// A member, what its consumer has, and the read in progress: Redis has answered it, or will.
struct One {
    member: Member,
    held: Vec<(Token, u64)>,
    reading: Option<(Read, Option<Option<Page<u64>>>)>,
}

#[derive(Clone, Debug)]
enum Move {
    /// A member does its next step.
    Step(usize),
    /// A member's next step is done by Redis, and its answer is lost.
    Lose(usize),
    /// Redis does the read in progress.
    Read(usize),
    /// The answer of a read arrives, or is lost.
    Answer(usize, bool),
    Settle(usize, bool),
    Pass(u64),
    Publish,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let member = 0_usize..2;
    let one = prop_oneof![
        8 => member.clone().prop_map(Move::Step),
        1 => member.clone().prop_map(Move::Lose),
        3 => member.clone().prop_map(Move::Read),
        3 => (member.clone(), any::<u8>()).prop_map(|(member, of)| Move::Answer(member, of < 30)),
        4 => (member, any::<bool>()).prop_map(|(member, done)| Move::Settle(member, done)),
        2 => (1_u64..4000).prop_map(Move::Pass),
        2 => Just(Move::Publish),
    ];
    proptest::collection::vec(one, 0..200)
}

impl Server {
    fn owns(&self, member: usize, epoch: u64, now: Instant) -> bool {
        self.owner.is_some_and(|(owner, of, until)| owner == member && of == epoch && until > now)
    }

    /// Does a step, and takes its answer in unless it is lost.
    fn step(&mut self, at: usize, one: &mut One, lose: bool) {
        let One { member, held, reading } = one;
        let now = member.now;
        match member.next() {
            Step::Deliver { entries, revoked, .. } => {
                if !revoked.is_empty() {
                    held.clear();
                }
                for (token, entry) in entries {
                    assert!(
                        !held.iter().any(|(_, known)| *known == entry),
                        "{entry} is held twice"
                    );
                    held.push((token, entry));
                }
                member.leases.want(4);
            }
            Step::Tick(claims) => {
                let free = self.owner.is_none_or(|(.., until)| until <= now);
                let mine = claims.first().is_some_and(|claim| self.owns(at, claim.epoch, now));
                if mine && let Some((.., until)) = &mut self.owner {
                    *until = now + RULES.lease;
                }
                let one = |is: bool| if is { BTreeSet::from([0]) } else { BTreeSet::new() };
                let seen = Seen { members: 1, mine: one(mine), free: one(free) };
                if !lose {
                    member.leases.ticked(now, now, &claims, &seen);
                }
            }
            Step::Take(claim) => {
                if self.owner.is_none_or(|(.., until)| until <= now) {
                    self.owner = Some((at, claim.epoch, now + RULES.lease));
                    if !lose {
                        member.leases.taken(now, claim);
                    }
                }
            }
            Step::Release(claim) => member.leases.released(claim),
            Step::Read(reads) => {
                assert!(reading.is_none(), "one read at a time");
                *reading = Some((reads[0], None));
            }
            Step::Wait { after, .. } => {
                if !self.new.is_empty() {
                    member.leases.woken(&after.iter().map(|(shard, _)| *shard).collect::<Vec<_>>());
                }
            }
        }
    }

    /// Does the read in progress, unless it is done.
    fn read(&mut self, at: usize, one: &mut One) {
        let Some((read, page @ None)) = &mut one.reading else { return };
        if !self.owns(at, read.claim.epoch, one.member.now) {
            *page = Some(None);
            return;
        }
        let entries: Vec<u64> = match read.ask {
            Ask::Pending(from) => {
                let pending = self.pending.iter().copied();
                pending.filter(|entry| id(*entry) >= from).take(read.count).collect()
            }
            Ask::New | Ask::More => {
                let count = read.count.min(self.new.len());
                self.new.drain(..count).collect()
            }
        };
        self.pending.extend(&entries);
        let is_pending = matches!(read.ask, Ask::Pending(_));
        let more = is_pending && entries.len() == read.count;
        let next = entries.last().filter(|_| more).map(|last| id(last + 1));
        let entries = entries.into_iter().map(|entry| (id(entry), 10, entry)).collect();
        let at = (read.ask == Ask::New).then(|| id(0));
        *page = Some(Some(Page { entries, next, at, ..Page::default() }));
    }

    /// Takes in the answer of the read in progress.
    fn answer(&mut self, at: usize, one: &mut One, lose: bool) {
        self.read(at, one);
        let Some((read, Some(page))) = one.reading.take() else { return };
        if lose {
            one.member.leases.failed();
        } else {
            one.member.leases.answered(&[read], vec![page]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]
    /// Two members fight for one shard, and answers are lost. Entries of one lease come in order, no member gets an
    /// entry that it holds, and once a member has peace everything is acknowledged.
    #[test]
    fn no_entry_is_lost_or_held_twice(moves in moves()) {
        let mut server = Server::default();
        let one = || One { member: Member::new(1), held: Vec::new(), reading: None };
        let mut members = [one(), one()];
        let mut published = 0;
        for one in moves {
            match one {
                Move::Step(at) => server.step(at, &mut members[at], false),
                Move::Lose(at) => server.step(at, &mut members[at], true),
                Move::Read(at) => server.read(at, &mut members[at]),
                Move::Answer(at, lose) => server.answer(at, &mut members[at], lose),
                Move::Settle(at, done) => {
                    let One { member, held, .. } = &mut members[at];
                    let Some((token, entry)) = held.first().copied() else { continue };
                    held.remove(0);
                    if member.leases.is_current(&token) && server.owns(at, token.epoch, member.now) {
                        if done {
                            server.pending.remove(&entry);
                            server.acknowledged.insert(entry);
                        }
                        member.leases.settled(&token, if done { Settle::Done } else { Settle::Back });
                    }
                }
                Move::Pass(millis) => {
                    members.iter_mut().for_each(|one| one.member.now += MS * millis as u32);
                }
                Move::Publish => {
                    published += 1;
                    server.new.push(published);
                }
            }
        }
        // The first member is gone. The second one acknowledges what it gets.
        let one = &mut members[1];
        one.member.leases.want(4);
        for _ in 0..2000 {
            server.step(1, one, false);
            server.answer(1, one, false);
            for (token, entry) in std::mem::take(&mut one.held) {
                let now = one.member.now;
                if one.member.leases.is_current(&token) && server.owns(1, token.epoch, now) {
                    server.pending.remove(&entry);
                    server.acknowledged.insert(entry);
                    one.member.leases.settled(&token, Settle::Done);
                }
            }
            one.member.now += 50 * MS;
        }
        prop_assert_eq!(server.acknowledged, (1..=published).collect());
    }
}
