mod claims;
mod letters;
mod model;
mod room;

use super::*;
use crate::consume::source::Answer;

const MS: Duration = Duration::from_millis(1);

pub(super) fn now() -> Instant {
    buttress::Clock::default().now()
}

pub(super) fn rules() -> Rules {
    Rules {
        concurrency: 4,
        capacity: 8,
        behind: 0,
        behind_bytes: 100,
        attempts: 3,
        most_redeliveries: 20,
        max_hint: 1000 * MS,
        hold: None,
        by_key: true,
        park: false,
    }
}

/// Message `token` of `key` in shard `token / 100`, at place `token`.
fn message(token: u64, key: &str) -> Received<u64> {
    let mut received = Received::new(token, Shard(token / 100), key, token.to_string());
    received.place = Some(Place::Number(token));
    received
}

pub(super) fn batch(messages: &[(u64, &str)]) -> Batch<u64> {
    Batch::new(messages.iter().map(|(token, key)| message(*token, key)).collect())
}

pub(super) fn revoked(shard: u64) -> Batch<u64> {
    Batch { revoked: vec![Shard(shard)], ..Batch::default() }
}

/// Starts everything that may start. Returns the payloads with their attempts.
pub(super) fn start(lanes: &mut Lanes<u64>) -> Vec<(String, EntryId, u32)> {
    let mut started = Vec::new();
    while let Some(Work::Handle { id, content, attempt, .. }) = lanes.next() {
        started.push((String::from_utf8(content.payload.clone()).unwrap(), id, attempt));
    }
    assert!(lanes.is_consistent());
    started
}

pub(super) fn names(started: &[(String, EntryId, u32)]) -> Vec<&str> {
    started.iter().map(|(name, _, _)| &**name).collect()
}

pub(super) fn failed() -> Outcome {
    Outcome::Failed { error: "away".to_owned(), counts: true, hint: None }
}

pub(super) fn end(lanes: &mut Lanes<u64>, now: Instant, id: EntryId, outcome: Outcome) -> Became {
    let became = lanes.ended(now, id, outcome, |attempts| attempts * 10 * MS);
    assert!(lanes.is_consistent());
    became
}

pub(super) fn settle_all(lanes: &mut Lanes<u64>) -> Vec<(u64, Settle)> {
    let call = lanes.settle();
    assert_eq!(lanes.settled(&vec![Answer::Taken; call.len()]), 0);
    call
}

#[tokio::test(start_paused = true)]
async fn events_2_3_a_key_runs_one_after_the_other_and_other_keys_beside_it() {
    let (mut lanes, now) = (Lanes::new(rules()), now());
    lanes.receive(batch(&[(1, "a"), (2, "a"), (3, "b"), (4, ""), (5, "")]));
    let first = start(&mut lanes);
    assert_eq!(names(&first), ["1", "3", "4", "5"], "an empty key has no order");
    assert_eq!(end(&mut lanes, now, first[0].1, failed()), Became::Resting);
    assert_eq!(end(&mut lanes, now, first[1].1, Outcome::Done), Became::Done);
    assert_eq!(start(&mut lanes).len(), 0, "2 waits behind 1, which rests");
    assert_eq!(lanes.next_attempt(), Some(now + 10 * MS));
    lanes.wake(now + 9 * MS);
    assert_eq!(start(&mut lanes).len(), 0, "not before its backoff");
    lanes.wake(now + 10 * MS);
    let again = start(&mut lanes);
    assert_eq!((names(&again), again[0].2), (vec!["1"], 2));
    end(&mut lanes, now, again[0].1, Outcome::Done);
    assert_eq!(names(&start(&mut lanes)), ["2"]);
    assert_eq!(settle_all(&mut lanes), [(3, Settle::Done), (1, Settle::Done)]);
}

#[tokio::test(start_paused = true)]
async fn events_2_8_a_message_that_failed_rests_until_its_next_attempt() {
    let (mut lanes, mut at) = (Lanes::new(rules()), now());
    lanes.receive(batch(&[(1, "a")]));
    for wait in [10, 20] {
        let started = start(&mut lanes);
        assert_eq!(end(&mut lanes, at, started[0].1, failed()), Became::Resting);
        lanes.wake(at + wait * MS - Duration::from_nanos(1));
        assert_eq!((start(&mut lanes).len(), lanes.next_attempt()), (0, Some(at + wait * MS)));
        at += wait * MS;
        lanes.wake(at);
    }
    assert_eq!(start(&mut lanes).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_order_the_messages_of_a_key_run_together() {
    let mut lanes = Lanes::new(Rules { by_key: false, ..rules() });
    lanes.receive(batch(&[(1, "a"), (2, "a")]));
    assert_eq!(names(&start(&mut lanes)), ["1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn events_2_5_the_last_attempt_makes_a_letter_and_the_key_waits_for_both() {
    let (mut lanes, now) = (Lanes::new(rules()), now());
    lanes.receive(batch(&[(1, "a"), (2, "a")]));
    let mut at = now;
    for attempt in 1..=3 {
        let started = start(&mut lanes);
        assert_eq!((names(&started), started[0].2), (vec!["1"], attempt));
        let became = end(&mut lanes, at, started[0].1, failed());
        assert_eq!(became, if attempt == 3 { Became::Dead } else { Became::Resting });
        at += 100 * MS;
        lanes.wake(at);
    }
    let Some(Work::Bury { id, content, burial }) = lanes.next() else { panic!() };
    assert_eq!(content.payload, b"1");
    assert_eq!((burial.reason, burial.attempts, &*burial.error), (Reason::Exhausted, 3, "away"));
    assert_eq!((start(&mut lanes).len(), settle_all(&mut lanes)), (0, vec![]), "not written yet");
    lanes.written(id);
    assert_eq!(start(&mut lanes).len(), 0, "the transport was not notified yet");
    assert_eq!(lanes.settle(), [(1, Settle::Done)]);
    assert_eq!(start(&mut lanes).len(), 0, "it has not answered yet");
    lanes.settled(&[Answer::Taken]);
    assert_eq!(names(&start(&mut lanes)), ["2"]);
}

#[tokio::test(start_paused = true)]
async fn events_2_8_failures_that_do_not_count_use_up_no_attempt_and_their_waits_grow() {
    let (mut lanes, now) = (Lanes::new(rules()), now());
    lanes.receive(batch(&[(1, "a")]));
    for (hint, wait) in [(None, 10), (None, 20), (None, 30), (Some(50), 50), (Some(5000), 1000)] {
        let started = start(&mut lanes);
        let hint = hint.map(|millis| millis * MS);
        let refused = Outcome::Failed { error: String::new(), counts: false, hint };
        assert_eq!(
            (started[0].2, end(&mut lanes, now, started[0].1, refused)),
            (1, Became::Resting)
        );
        assert_eq!(lanes.next_attempt(), Some(now + wait * MS));
        lanes.wake(now + 2000 * MS);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_beyond_what_the_transport_holds_becomes_a_letter_with_a_due_time() {
    let (mut lanes, now) = (Lanes::new(Rules { hold: Some(60 * MS), ..rules() }), now());
    lanes.receive(batch(&[(1, "a"), (2, "b")]));
    let started = start(&mut lanes);
    let hint = |millis| Outcome::Failed {
        error: "busy".to_owned(),
        counts: false,
        hint: Some(millis * MS),
    };
    assert_eq!(end(&mut lanes, now, started[0].1, hint(60)), Became::Resting);
    assert_eq!(end(&mut lanes, now, started[1].1, hint(61)), Became::Dead);
    let Some(Work::Bury { burial, .. }) = lanes.next() else { panic!() };
    assert_eq!((burial.reason, burial.due_in), (Reason::Delayed, Some(61 * MS)));
}

#[tokio::test(start_paused = true)]
async fn events_2_6_what_cannot_be_decoded_is_dead_at_the_first_attempt() {
    let (mut lanes, now) = (Lanes::new(rules()), now());
    lanes.receive(batch(&[(1, "a")]));
    let started = start(&mut lanes);
    let dead = Outcome::Dead { reason: Reason::Undecodable, error: "no id".to_owned() };
    assert_eq!(end(&mut lanes, now, started[0].1, dead), Became::Dead);
    let Some(Work::Bury { burial, .. }) = lanes.next() else { panic!() };
    assert_eq!((burial.reason, burial.attempts), (Reason::Undecodable, 1));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_no_delivery_ended_is_not_handled_again() {
    let mut lanes = Lanes::new(Rules { most_redeliveries: 2, ..rules() });
    let redelivered = |token, times| Received { redeliveries: Some(times), ..message(token, "") };
    lanes.receive(Batch::new(vec![redelivered(1, 1), redelivered(2, 2)]));
    let Some(Work::Handle { content, .. }) = lanes.next() else { panic!() };
    assert_eq!(content.payload, b"1");
    let Some(Work::Bury { burial, .. }) = lanes.next() else { panic!() };
    assert_eq!(burial.reason, Reason::Poison);
}

#[tokio::test(start_paused = true)]
async fn events_2_10_a_pause_starts_nothing_and_loses_nothing() {
    let (mut lanes, now) = (Lanes::new(rules()), now());
    lanes.receive(batch(&[(1, "a")]));
    let running = start(&mut lanes);
    lanes.pause(true);
    lanes.receive(batch(&[(2, "a"), (3, "b")]));
    assert_eq!((lanes.room(), start(&mut lanes).len()), (0, 0));
    end(&mut lanes, now, running[0].1, failed());
    lanes.wake(now + 100 * MS);
    assert_eq!(start(&mut lanes).len(), 0);
    lanes.pause(false);
    assert_eq!(lanes.room(), 5);
    assert_eq!(names(&start(&mut lanes)), ["3", "1"]);
}

#[tokio::test(start_paused = true)]
async fn events_2_11_a_drain_settles_what_ended_and_returns_the_rest() {
    let (mut lanes, now) = (Lanes::new(rules()), now());
    lanes.receive(batch(&[(1, "a"), (2, "a"), (3, "b"), (4, "c"), (5, "d")]));
    let started = start(&mut lanes);
    assert_eq!(names(&started), ["1", "3", "4", "5"]);
    end(&mut lanes, now, started[1].1, failed());
    end(&mut lanes, now, started[2].1, Outcome::Done);
    lanes.drain();
    assert_eq!(settle_all(&mut lanes), [(4, Settle::Done), (2, Settle::Back), (3, Settle::Back)]);
    assert_eq!(end(&mut lanes, now, started[0].1, failed()), Became::Back, "no rest in a drain");
    lanes.receive(batch(&[(6, "z")]));
    assert_eq!(settle_all(&mut lanes), [(1, Settle::Back), (6, Settle::Back)]);
    assert_eq!((lanes.held(), lanes.running()), (1, 1));
    lanes.abandon();
    assert_eq!(settle_all(&mut lanes), [(5, Settle::Back)]);
    assert_eq!((lanes.held(), lanes.running()), (0, 0));
    assert_eq!(end(&mut lanes, now, started[3].1, Outcome::Done), Became::Gone);
}

#[tokio::test(start_paused = true)]
async fn events_2_13_no_more_is_held_than_there_is_room_for() {
    let (mut lanes, now) = (Lanes::new(rules()), now());
    assert_eq!(lanes.room(), 8);
    let all: Vec<(u64, String)> = (1..=8).map(|n| (n, format!("k{n}"))).collect();
    lanes.receive(batch(&all.iter().map(|(n, key)| (*n, &**key)).collect::<Vec<_>>()));
    assert_eq!(lanes.room(), 0);
    let started = start(&mut lanes);
    assert_eq!(started.len(), 4, "the concurrency");
    end(&mut lanes, now, started[0].1, Outcome::Done);
    assert_eq!(lanes.room(), 0, "held until the transport was notified");
    settle_all(&mut lanes);
    assert_eq!(lanes.room(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_revoked_shard_is_forgotten_and_what_runs_blocks_its_lane_until_it_ends() {
    let (mut lanes, now) = (Lanes::new(rules()), now());
    lanes.receive(batch(&[(1, "a"), (2, "a"), (3, "b"), (101, "c"), (102, "a")]));
    let started = start(&mut lanes);
    assert_eq!(names(&started), ["1", "3", "101"]);
    end(&mut lanes, now, started[1].1, failed());
    assert_eq!(lanes.receive(revoked(0)), Took { forgotten: 2, ..Took::default() });
    assert_eq!((lanes.held(), lanes.next_attempt()), (3, None));
    assert_eq!(start(&mut lanes).len(), 0, "102 waits behind 1, which still runs here");
    assert_eq!(end(&mut lanes, now, started[0].1, Outcome::Done), Became::Gone);
    assert_eq!(settle_all(&mut lanes), [], "another consumer owns it");
    assert_eq!(names(&start(&mut lanes)), ["102"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_held_and_delivered_again_replaces_its_token() {
    let (mut lanes, now) = (Lanes::new(rules()), now());
    let again = |token, place| message(place, "a").with_token(token);
    lanes.receive(batch(&[(1, "a"), (2, "a")]));
    let started = start(&mut lanes);
    lanes.receive(revoked(0));
    // The shard comes back: the one that runs is joined, the one that was forgotten is new.
    let took = lanes.receive(Batch::new(vec![again(11, 1), again(12, 2)]));
    assert_eq!(took, Took { new: 1, joined: 1, forgotten: 0 });
    assert_eq!(start(&mut lanes).len(), 0, "no second handler of the key");
    assert_eq!(end(&mut lanes, now, started[0].1, Outcome::Done), Became::Done);
    // Delivered again while it waits to be settled, and during the report to the transport.
    lanes.receive(Batch::new(vec![again(21, 1)]));
    assert_eq!(lanes.settle(), [(21, Settle::Done)]);
    assert_eq!(lanes.receive(Batch::new(vec![again(31, 1)])).joined, 1);
    assert_eq!(lanes.settled(&[Answer::Late]), 1);
    assert_eq!(settle_all(&mut lanes), [(31, Settle::Done)], "settled again, not handled again");
    assert_eq!(lanes.receive(Batch::new(vec![again(41, 1)])).new, 1, "forgotten by now");
}

#[tokio::test(start_paused = true)]
async fn a_settle_call_that_failed_is_repeated_before_all_others() {
    let (mut lanes, now) = (Lanes::new(rules()), now());
    lanes.receive(batch(&[(1, "a"), (2, "b"), (3, "c")]));
    let started = start(&mut lanes);
    end(&mut lanes, now, started[0].1, Outcome::Done);
    end(&mut lanes, now, started[1].1, Outcome::Done);
    assert_eq!(lanes.settle(), [(1, Settle::Done), (2, Settle::Done)]);
    end(&mut lanes, now, started[2].1, Outcome::Done);
    assert_eq!((lanes.settle(), lanes.has_settles()), (vec![], false), "one call at a time");
    lanes.settle_failed();
    assert_eq!(lanes.settle().iter().map(|(token, _)| *token).collect::<Vec<_>>(), [1, 2, 3]);
}
