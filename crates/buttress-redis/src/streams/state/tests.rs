use std::time::{Duration, Instant};

use super::*;

mod model;

const MS: Duration = Duration::from_millis(1);
const RULES: Rules = Rules {
    lease: Duration::from_secs(10),
    every: Duration::from_millis(500),
    handover: Duration::from_secs(30),
    ahead: 8,
    bytes: 1000,
};

fn epoch() -> Instant {
    buttress::VirtualClock::new().clock().now()
}

fn id(number: u64) -> EntryId {
    EntryId::new(number, 0)
}

/// A member of a group, and the time.
struct Member {
    leases: Leases<u64>,
    now: Instant,
}

impl Member {
    fn new(shards: usize) -> Self {
        let now = epoch();
        Self { leases: Leases::new(RULES, shards, now), now }
    }

    fn next(&mut self) -> Step<u64> {
        self.leases.next(self.now)
    }

    fn tick(&mut self, members: usize, free: &[usize]) {
        let Step::Tick(claims) = self.next() else { panic!("a tick is due") };
        let mine = claims.iter().map(|claim| claim.shard).collect();
        let seen = Seen { members, mine, free: free.iter().copied().collect() };
        self.leases.ticked(self.now, self.now, &claims, &seen);
    }

    /// A member that has taken these shards of a group of one.
    fn with(shards: usize) -> Self {
        let mut member = Self::new(shards);
        member.tick(1, &(0..shards).collect::<Vec<_>>());
        for shard in 0..shards {
            let Step::Take(claim) = member.next() else { panic!("a free shard") };
            assert_eq!(claim.shard, shard);
            member.leases.taken(member.now, claim);
        }
        member
    }

    fn reads(&mut self) -> Vec<Read> {
        match self.next() {
            Step::Read(reads) => reads,
            other => panic!("a read, not {other:?}"),
        }
    }

    fn answer(&mut self, read: Read, ids: &[u64]) {
        let entries = ids.iter().map(|number| (id(*number), 10, *number)).collect();
        // A read of more entries does not say where the group is.
        let at = (read.ask != Ask::More).then(|| id(0));
        self.leases.answered(&[read], vec![Some(Page { entries, at, ..Page::default() })]);
    }

    fn deliver(&mut self) -> Vec<(Token, u64)> {
        match self.next() {
            Step::Deliver { entries, revoked, lost } if revoked.is_empty() && lost == 0 => entries,
            other => panic!("a delivery, not {other:?}"),
        }
    }

    /// Reads the pending and the new messages of the only shard.
    fn receive(&mut self, pending: &[u64], new: &[u64]) -> Vec<(Token, u64)> {
        let read = self.reads()[0];
        assert_eq!(read.ask, Ask::Pending(id(0)));
        self.answer(read, pending);
        if !new.is_empty() {
            let read = self.reads()[0];
            assert_eq!(read.ask, Ask::New);
            self.answer(read, new);
        }
        self.leases.want(100);
        let entries = self.deliver();
        self.leases.want(0);
        entries
    }
}

#[test]
fn a_member_renews_then_takes_then_reads_pending_before_new() {
    let mut member = Member::with(1);
    let entries = member.receive(&[3, 4], &[7, 8]);
    let order: Vec<_> = entries.iter().map(|(_, entry)| *entry).collect();
    assert_eq!(order, [3, 4, 7, 8]);
    member.now += 499 * MS;
    assert!(matches!(member.next(), Step::Wait { .. }));
    member.now += MS;
    assert!(matches!(member.next(), Step::Tick(claims) if claims.len() == 1));
}

#[test]
fn shares_are_equal_and_a_shard_is_handed_over_when_it_is_settled() {
    let mut member = Member::with(4);
    let reads = member.reads();
    assert_eq!(reads.iter().map(|read| read.count).collect::<Vec<_>>(), [2; 4]);
    for read in reads {
        let shard = read.claim.shard as u64;
        member.answer(read, if shard < 2 { &[] } else { &[1] });
    }
    member.leases.want(1);
    let held = member.deliver();
    assert_eq!(held[0].0.shard, 2, "shards are buffered in their order");
    member.now += 500 * MS;
    member.tick(2, &[]);
    // Of the third shard, one entry is in the consumer. The fourth has one in the buffer, which is forgotten.
    let Step::Release(claim) = member.next() else { panic!("the fourth shard is free to go") };
    assert_eq!(claim.shard, 3);
    member.leases.released(claim);
    assert!(!matches!(member.next(), Step::Release(_)), "the third waits for its message");
    member.leases.settled(&held[0].0, Settle::Done);
    // Reads of the shards that stay come in between only after the release.
    let Step::Release(claim) = member.next() else { panic!("the third shard is settled") };
    assert_eq!(claim.shard, 2);
    member.leases.released(claim);
    assert_eq!(member.leases.claims().len(), 2);
    assert_eq!(member.leases.revoked, [0; 0], "nothing of them was in the consumer");
}

#[test]
fn a_shard_that_is_not_settled_in_time_is_handed_over_and_revoked() {
    let mut member = Member::with(2);
    let reads = member.reads();
    member.answer(reads[0], &[]);
    member.answer(reads[1], &[1]);
    member.leases.want(1);
    let held = member.deliver();
    let begun = member.now + 500 * MS;
    member.now = begun;
    member.tick(2, &[]);
    while member.now < begun + RULES.handover {
        assert!(!matches!(member.next(), Step::Release(_)), "{:?}", member.now - begun);
        member.now += 500 * MS;
        member.tick(2, &[]);
    }
    let Step::Release(claim) = member.next() else { panic!("its time is over") };
    member.leases.released(claim);
    assert!(matches!(member.next(), Step::Deliver { revoked, .. } if revoked == [1]));
    assert!(!member.leases.is_current(&held[0].0), "a late acknowledgement");
}

#[test]
fn a_lease_that_is_not_renewed_ends_at_its_instant_and_is_revoked() {
    let mut member = Member::with(1);
    let entries = member.receive(&[1], &[]);
    member.now += RULES.lease - MS;
    assert!(matches!(member.next(), Step::Tick(_)));
    assert!(member.leases.is_current(&entries[0].0));
    member.now += MS;
    assert!(matches!(member.next(), Step::Deliver { revoked, .. } if revoked == [0]));
    assert!(!member.leases.is_current(&entries[0].0));
}

#[test]
fn the_next_lease_of_a_shard_has_another_epoch() {
    let mut member = Member::with(1);
    let old = member.receive(&[1], &[])[0].0;
    member.leases.fenced(Claim { shard: 0, epoch: old.epoch });
    assert!(matches!(member.next(), Step::Deliver { revoked, .. } if revoked == [0]));
    member.now += 500 * MS;
    member.tick(1, &[0]);
    let Step::Take(claim) = member.next() else { panic!("it is free") };
    member.leases.taken(member.now, claim);
    assert_ne!(claim.epoch, old.epoch);
    assert!(!member.leases.is_current(&old));
    let again = member.receive(&[1], &[]);
    assert_eq!(again.len(), 1, "pending: delivered again");
}

#[test]
fn entries_in_the_consumer_and_just_settled_ones_are_skipped() {
    let mut member = Member::with(1);
    let entries = member.receive(&[1, 2, 3], &[]);
    // An answer was lost: the pending messages are read again.
    member.leases.failed();
    let read = member.reads()[0];
    assert_eq!(read.ask, Ask::Pending(id(0)));
    member.leases.settled(&entries[0].0, Settle::Done);
    member.leases.settled(&entries[1].0, Settle::Back);
    member.answer(read, &[1, 2, 3, 4]);
    member.leases.want(100);
    let order: Vec<_> = member.deliver().iter().map(|(_, entry)| *entry).collect();
    assert_eq!(order, [2, 4], "the first is settled, the third is in the consumer");
    assert_eq!(member.reads()[0].ask, Ask::Pending(id(0)), "one was returned meanwhile");
}

#[test]
fn a_returned_entry_is_read_again() {
    let mut member = Member::with(1);
    let entries = member.receive(&[1], &[]);
    member.leases.settled(&entries[0].0, Settle::Back);
    let again = member.receive(&[1], &[]);
    assert_eq!(again.len(), 1);
}

#[test]
fn buffered_entries_are_delivered_while_a_read_is_under_way() {
    let mut member = Member::with(1);
    let read = member.reads()[0];
    member.answer(read, &[1, 2, 3, 4]);
    let read = member.reads()[0];
    assert_eq!((read.ask, read.count), (Ask::New, 4));
    member.leases.want(3);
    let first = member.deliver();
    assert_eq!(first.len(), 3);
    assert!(matches!(member.next(), Step::Wait { .. }), "one read at a time");
    member.answer(read, &[5, 6, 7, 8]);
    member.leases.want(9);
    let order: Vec<_> = member.deliver().iter().map(|(_, entry)| *entry).collect();
    assert_eq!(order, [4, 5, 6, 7, 8]);
    // As many as it asked for: there are probably more, and the next read need not say where the group is.
    let read = member.reads()[0];
    assert_eq!(read.ask, Ask::More);
    member.answer(read, &[]);
    let read = member.reads()[0];
    assert_eq!(read.ask, Ask::New, "nothing, and no place to wait behind");
    member.answer(read, &[]);
    assert!(matches!(member.next(), Step::Wait { after, .. } if after == [(0, id(0))]));
    member.leases.woken(&[0]);
    assert_eq!(member.reads()[0].ask, Ask::More);
}

#[test]
fn a_read_whose_answer_was_lost_is_repeated_from_the_pending_ones() {
    let mut member = Member::with(1);
    member.receive(&[1], &[]);
    let lost = member.reads()[0];
    assert_eq!(lost.ask, Ask::New);
    member.leases.failed();
    assert_eq!(member.reads()[0].ask, Ask::Pending(id(0)));
}

#[test]
fn a_page_of_an_earlier_lease_is_ignored() {
    let mut member = Member::with(1);
    let read = member.reads()[0];
    member.leases.fenced(read.claim);
    member.now += 500 * MS;
    member.tick(1, &[0]);
    let Step::Take(claim) = member.next() else { panic!("it is free") };
    member.leases.taken(member.now, claim);
    member.answer(read, &[1, 2]);
    assert_eq!(member.receive(&[1, 2], &[]).len(), 2, "as pending entries of the next lease");
}

#[test]
fn trimmed_entries_are_lost_unless_the_consumer_has_them() {
    let mut member = Member::with(1);
    let entries = member.receive(&[1], &[]);
    member.leases.failed();
    let read = member.reads()[0];
    let deleted = vec![id(1), id(2), id(3)];
    member.leases.answered(&[read], vec![Some(Page { deleted, ..Page::default() })]);
    assert!(matches!(member.next(), Step::Deliver { lost: 2, .. }), "the first is in the consumer");
    assert!(member.leases.is_current(&entries[0].0));
}

#[test]
fn room_bounds_a_delivery_and_the_buffer_bounds_a_read() {
    let mut member = Member::with(1);
    let read = member.reads()[0];
    assert_eq!(read.count, RULES.ahead);
    member.answer(read, &[1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(
        matches!(member.next(), Step::Wait { .. }),
        "without room nothing is delivered or read"
    );
    member.leases.want(3);
    assert_eq!(member.deliver().len(), 3);
    assert!(
        matches!(member.next(), Step::Wait { .. }),
        "the room is used, the buffer is more than half full"
    );
    member.leases.want(1);
    assert_eq!(member.deliver().len(), 1);
    assert_eq!(member.reads()[0].count, 4);
}

#[test]
fn large_entries_are_read_one_at_a_time() {
    let mut member = Member::with(1);
    let read = member.reads()[0];
    let page = |first, size| {
        let entries = vec![(id(first), size, first)];
        Page { entries, next: Some(id(first + 1)), ..Page::default() }
    };
    member.leases.answered(&[read], vec![Some(page(1, 600))]);
    assert!(matches!(member.next(), Step::Wait { .. }), "another one would be too much");
    member.leases.want(1);
    assert_eq!(member.deliver().len(), 1);
    assert_eq!(member.reads()[0].count, 1);
}

#[test]
fn an_idle_shard_is_waited_for_only_if_no_other_has_entries() {
    let mut member = Member::with(2);
    let reads = member.reads();
    member.answer(reads[0], &[1]);
    member.answer(reads[1], &[]);
    let reads = member.reads();
    member.answer(reads[0], &[]);
    member.answer(reads[1], &[2, 3, 4]);
    // The second shard found as many as it asked for: it may have more.
    let reads = member.reads();
    assert_eq!(reads.len(), 2, "the idle one is asked besides");
    let idle: Vec<_> = reads.iter().filter(|read| read.count == 1).collect();
    assert_eq!(idle.len(), 1);
    for read in reads {
        member.answer(read, &[]);
    }
    // It has none, and does not know where to wait.
    for read in member.reads() {
        member.answer(read, &[]);
    }
    let Step::Wait { after, .. } = member.next() else { panic!("nothing is there") };
    assert_eq!(after.len(), 2);
    member.leases.woken(&[0]);
    assert!(member.reads().iter().any(|read| read.claim.shard == 0));
}
