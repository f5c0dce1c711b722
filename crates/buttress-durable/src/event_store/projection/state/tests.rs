use super::*;
use crate::event_store::batch::NewEvent;
use crate::event_store::checkpoint::ProjectorId;
use crate::event_store::recorded::Recorded;
use crate::event_store::stream::{StreamId, Version};
use crate::outbox::MessageId;

const MS: Duration = Duration::from_millis(1);
const RULES: Rules = Rules {
    batch: 4,
    attempts: 3,
    lease: Duration::from_secs(15),
    poll: Duration::from_millis(100),
    is_live_only: false,
};

fn start() -> (Progress, Instant) {
    let now = buttress::Clock::default().now();
    (Progress::new(RULES, now), now)
}

fn leased(epoch: u64, checkpoint: u64, seen: u64) -> Option<Leased> {
    let lease = ProjectionLease::new("list", ProjectorId::new(1), epoch);
    Some(Leased::new(lease, Position::new(checkpoint), Position::new(seen)))
}

fn page(positions: &[u64], through: u64) -> Page {
    let events = positions.iter().map(|position| {
        let event = NewEvent::new(MessageId::new(u128::from(*position)), "kind", "");
        let stream = StreamId::new("order", "7");
        let event = Recorded::new(stream, Version::new(*position), event, Duration::ZERO);
        Ordered::new(Position::new(*position), event)
    });
    // The log of these tests ends with a page that is not full.
    Page::new(events.collect(), Position::new(through), positions.len() < RULES.batch)
}

/// A page of a filter that matches few events, or of a store that examines few positions at a time.
fn part(positions: &[u64], through: u64) -> Page {
    Page { is_end: false, ..page(positions, through) }
}

/// Returns a projection that owns the lease and has read a page.
fn reading(positions: &[u64], through: u64) -> (Progress, Instant) {
    let (mut progress, now) = start();
    progress.leased(leased(1, 0, 0), now);
    assert_eq!(progress.next(false, now), Next::Read(Position::START));
    progress.read(page(positions, through), now);
    (progress, now)
}

fn handle(events: usize, to: u64) -> Next {
    Next::Handle { events, to: Position::new(to) }
}

/// Fails the next call, whose wait is 200 ms.
fn fail(progress: &mut Progress, events: usize, now: Instant) -> After {
    progress.failed(events, true, false, |_| 200 * MS, now)
}

#[test]
fn events_are_handled_in_batches_and_then_read_again() {
    let (mut progress, now) = reading(&[1, 2, 3, 4], 4);
    assert_eq!(progress.next(false, now), handle(4, 4));
    progress.handled(4, Position::new(4));
    assert_eq!(progress.next(false, now), Next::Read(Position::new(4)), "a full page has a next");
    progress.read(page(&[5, 7], 9), now);
    assert!(!progress.has_caught_up());
    assert_eq!(progress.next(false, now), handle(2, 9), "past events that the filter left out");
    progress.handled(2, Position::new(9));
    assert!(progress.has_caught_up());
    assert_eq!(progress.next(false, now), Next::Wait(Some(now + 100 * MS)));
    progress.woken(now + MS);
    assert_eq!(progress.next(false, now + MS), Next::Read(Position::new(9)));
}

#[test]
fn events_that_are_not_for_the_handler_move_the_checkpoint_once_a_second() {
    let (mut progress, now) = reading(&[], 30);
    assert_eq!(progress.next(false, now), Next::Wait(Some(now + 100 * MS)));
    for poll in 1..10 {
        let now = now + poll * 100 * MS;
        assert_eq!(progress.next(false, now), Next::Read(Position::new(29 + u64::from(poll))));
        progress.read(page(&[], 30 + u64::from(poll)), now);
    }
    let now = now + 1000 * MS;
    assert_eq!(progress.next(false, now - MS), Next::Wait(Some(now)));
    assert_eq!(progress.next(false, now), Next::Advance(Position::new(39)));
    progress.handled(0, Position::new(39));
    progress.read(part(&[], 10_039), now);
    assert_eq!(progress.next(false, now), Next::Advance(Position::new(10_039)), "many of them");
    progress.handled(0, Position::new(10_039));
    // The next events for the handler take the checkpoint with them.
    progress.read(page(&[], 10_040), now);
    progress.read(page(&[10_041], 10_042), now);
    assert_eq!(progress.next(false, now), handle(1, 10_042));
}

#[test]
fn events_6_11_a_page_with_few_events_is_not_the_end_of_the_log() {
    let (mut progress, now) = start();
    progress.leased(leased(1, 0, 0), now);
    progress.read(part(&[2], 20_000), now);
    progress.handled(1, Position::new(20_000));
    assert!(!progress.has_caught_up(), "a rebuild would swap too early");
    assert_eq!(progress.next(false, now), Next::Read(Position::new(20_000)), "without a wait");
    progress.read(part(&[], 20_000), now);
    assert!(!progress.has_caught_up(), "another reader gives positions");
    assert_eq!(progress.next(false, now), Next::Wait(Some(now + 100 * MS)), "no hot loop");
    progress.read(page(&[], 20_000), now);
    assert!(progress.has_caught_up());
}

#[test]
fn the_lease_comes_first_and_is_renewed_after_a_third() {
    let (mut progress, now) = start();
    assert_eq!(progress.next(false, now), Next::Lease);
    progress.leased(None, now);
    let second = now + Duration::from_secs(1);
    assert_eq!(progress.next(false, now), Next::Wait(Some(second)), "standby");
    assert_eq!(progress.next(false, second), Next::Lease);
    progress.leased(leased(1, 0, 0), second);
    progress.read(page(&[1], 1), second);
    let third = second + Duration::from_secs(5);
    assert_eq!(progress.next(false, third - MS), handle(1, 1));
    assert_eq!(progress.next(true, third - MS), Next::Wait(Some(third)), "paused");
    assert_eq!(progress.next(true, third), Next::Lease, "also in a pause");
    progress.leased(leased(1, 0, 0), third);
    assert_eq!(progress.next(false, third), handle(1, 1), "a renewal keeps what was read");
}

#[test]
fn events_6_8_a_fenced_projection_forgets_what_it_read() {
    let (mut progress, now) = reading(&[1, 2], 2);
    progress.fenced(now);
    assert_eq!(progress.lease(), None);
    assert_eq!(progress.next(false, now), Next::Lease);
    progress.leased(leased(3, 1, 1), now);
    assert_eq!(progress.next(false, now), Next::Read(Position::new(1)), "from the new checkpoint");
}

#[test]
fn after_a_failure_of_the_store_the_checkpoint_is_read_again() {
    let (mut progress, now) = reading(&[1, 2], 2);
    progress.troubled(now + 400 * MS);
    assert_eq!(progress.next(false, now), Next::Wait(Some(now + 400 * MS)));
    assert_eq!(progress.next(false, now + 400 * MS), Next::Lease);
    // The commit whose answer was lost had moved it.
    progress.leased(leased(1, 2, 2), now + 400 * MS);
    assert_eq!(progress.next(false, now + 400 * MS), Next::Read(Position::new(2)));
}

#[test]
fn a_failed_batch_is_handled_singly_and_the_next_one_whole() {
    let (mut progress, now) = reading(&[1, 2, 3, 4], 4);
    assert_eq!(fail(&mut progress, 4, now), After::Singly);
    for position in 1..=4 {
        assert_eq!(progress.next(false, now), handle(1, position));
        progress.handled(1, Position::new(position));
    }
    progress.read(page(&[5, 6], 6), now);
    assert_eq!(progress.next(false, now), handle(2, 6));
}

#[test]
fn an_event_is_attempted_as_often_as_configured() {
    let (mut progress, now) = reading(&[1, 2], 2);
    fail(&mut progress, 2, now);
    assert_eq!(fail(&mut progress, 1, now), After::Again(now + 200 * MS));
    assert_eq!(progress.next(false, now), Next::Wait(Some(now + 200 * MS)));
    let now = now + 200 * MS;
    assert_eq!(progress.next(false, now), handle(1, 1));
    assert_eq!(progress.failed(1, false, false, |_| MS, now), After::Again(now + MS), "no attempt");
    assert_eq!(fail(&mut progress, 1, now), After::Again(now + 200 * MS));
    assert_eq!(fail(&mut progress, 1, now), After::GiveUp, "the third");
    progress.handled(1, Position::new(1));
    assert_eq!(progress.next(false, now), handle(1, 2), "the next has all its attempts");
    assert_eq!(progress.failed(1, true, true, |_| MS, now), After::GiveUp, "no attempt can help");
}

#[test]
fn attempts_survive_a_renewal_and_an_outage_and_not_a_takeover() {
    let (mut progress, now) = reading(&[1], 1);
    for _ in 0..2 {
        fail(&mut progress, 1, now);
        progress.troubled(now);
        progress.leased(leased(1, 0, 0), now);
        progress.read(page(&[1], 1), now);
    }
    assert_eq!(fail(&mut progress, 1, now), After::GiveUp);
    progress.leased(leased(3, 0, 0), now);
    progress.read(page(&[1], 1), now);
    assert_eq!(fail(&mut progress, 1, now), After::Again(now + 200 * MS));
}

#[test]
fn events_6_9_a_stopped_projection_waits_for_an_operator() {
    let (mut progress, now) = reading(&[1, 2], 2);
    progress.stop();
    let later = now + Duration::from_secs(3600);
    assert_eq!(progress.next(false, later), Next::Wait(None));
    assert_eq!(progress.lease(), None, "another worker may have the cure");
    progress.resume(later);
    assert_eq!(progress.next(false, later), Next::Lease);
    progress.leased(leased(2, 0, 0), later);
    assert_eq!(progress.next(false, later), Next::Read(Position::START));
    progress.resume(later);
    assert_eq!(progress.next(false, later), Next::Read(Position::START), "no effect otherwise");
}

#[test]
fn events_6_11_live_effects_get_no_replayed_event() {
    let (_, now) = start();
    let rules = Rules { is_live_only: true, ..RULES };
    let mut progress = Progress::new(rules, now);
    progress.leased(leased(1, 2, 5), now);
    progress.read(page(&[3, 4, 5, 6], 6), now);
    assert_eq!(progress.next(false, now), handle(1, 6));
    assert_eq!(progress.waiting(9).len(), 1);
    let mut rebuilding = Progress::new(rules, now);
    rebuilding.rebuild();
    rebuilding.leased(leased(1, 0, 0), now);
    rebuilding.read(page(&[1, 2, 3], 3), now);
    assert_eq!(rebuilding.next(false, now), Next::Advance(Position::new(3)));
}
