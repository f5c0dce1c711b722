//! Letters that are replayed, and answers that come after a newer claim.

use super::*;
use crate::consume::letter::LetterId;

fn letter(id: u128, key: &str, reason: Reason, attempts: u32) -> Letter {
    let letter = Letter::new(LetterId::new(id), "billing", "bus", key, reason);
    Letter { attempts, payload: id.to_string().into(), ..letter }
}

fn parking() -> Rules {
    Rules { park: true, attempts: 1, ..rules() }
}

#[tokio::test(start_paused = true)]
async fn events_2_5_a_letter_that_waited_for_its_time_goes_on_with_its_attempts() {
    let (mut lanes, now) = (Lanes::<u64>::new(rules()), now());
    lanes.replay(ReplayId::new(1), letter(7, "a", Reason::Delayed, 2));
    lanes.replay(ReplayId::new(1), letter(8, "b", Reason::Exhausted, 3));
    let started = start(&mut lanes);
    assert_eq!(started.iter().map(|(_, _, attempt)| *attempt).collect::<Vec<_>>(), [3, 1]);
    assert_eq!(end(&mut lanes, now, started[0].1, failed()), Became::Dead);
    let Some(Work::Bury { burial, .. }) = lanes.next() else { panic!() };
    assert_eq!((burial.reason, burial.attempts), (Reason::Exhausted, 3));
    // An operator's replay begins again, with no attempts.
    assert_eq!(end(&mut lanes, now, started[1].1, failed()), Became::Resting);
}

#[tokio::test(start_paused = true)]
async fn events_2_16_the_letters_behind_one_that_dies_again_stay_dead() {
    let (mut lanes, now) = (Lanes::<u64>::new(parking()), now());
    for id in 1..=3 {
        lanes.replay(ReplayId::new(9), letter(id, "a", Reason::Parked, 0));
    }
    lanes.replay(ReplayId::new(9), letter(4, "b", Reason::Parked, 0));
    let started = start(&mut lanes);
    assert_eq!(names(&started), ["1", "4"]);
    assert_eq!(end(&mut lanes, now, started[0].1, failed()), Became::Dead);
    let released: Vec<_> = lanes.take_released().iter().map(|replay| replay.letter).collect();
    assert_eq!(released, [LetterId::new(3), LetterId::new(2)]);
    let Some(Work::Bury { id, .. }) = lanes.next() else { panic!() };
    lanes.written(id);
    assert_eq!((names(&start(&mut lanes)), lanes.held()), (vec![], 1));
}

/// Returns the stops: replay, key, and how many letters are left out.
fn stops(lanes: &mut Lanes<u64>) -> Vec<(u128, String, usize)> {
    let stops = lanes.take_stops().into_iter();
    stops.map(|stop| (stop.replay.get(), stop.key.to_string(), stop.left_out)).collect()
}

fn released(lanes: &mut Lanes<u64>) -> Vec<u128> {
    lanes.take_released().iter().map(|replay| replay.letter.get()).collect()
}

#[tokio::test(start_paused = true)]
async fn events_2_16_a_replay_stops_at_the_key_of_a_letter_that_dies_again() {
    let (mut lanes, now) = (Lanes::<u64>::new(parking()), now());
    for id in 1..=3 {
        lanes.replay(ReplayId::new(9), letter(id, "a", Reason::Parked, 0));
    }
    let started = start(&mut lanes);
    assert_eq!(end(&mut lanes, now, started[0].1, failed()), Became::Dead);
    let of_a = |left_out| (9, "a".to_owned(), left_out);
    assert_eq!(stops(&mut lanes), [of_a(0), of_a(1), of_a(1)]);
    assert_eq!(released(&mut lanes), [3, 2]);
    assert_eq!(stops(&mut lanes), []);
    // A key that continues after dead letters does not stop.
    let mut lanes = Lanes::<u64>::new(Rules { park: false, ..parking() });
    for id in 1..=2 {
        lanes.replay(ReplayId::new(9), letter(id, "a", Reason::Parked, 0));
    }
    let started = start(&mut lanes);
    assert_eq!(end(&mut lanes, now, started[0].1, failed()), Became::Dead);
    assert_eq!((stops(&mut lanes), released(&mut lanes)), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn events_2_16_the_letters_behind_a_lost_one_are_released() {
    let (mut lanes, now) = (Lanes::<u64>::new(rules()), now());
    for (id, key) in [(1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, ""), (6, "a")] {
        lanes.replay(ReplayId::new(9), letter(id, key, Reason::Exhausted, 0));
    }
    let started = start(&mut lanes);
    assert_eq!(names(&started), ["1", "4", "5"]);
    let mut held = lanes.held_replays();
    held.sort_unstable();
    let held: Vec<_> = held.iter().map(|(held, _)| *held).collect();
    assert_eq!(lanes.lost(&[held[1], held[2], held[4]]), 2, "5 runs");
    assert_eq!(
        (stops(&mut lanes).last(), released(&mut lanes)),
        (Some(&(9, "a".into(), 0)), vec![6])
    );
    assert!(lanes.is_consistent());
    assert_eq!(end(&mut lanes, now, started[0].1, Outcome::Done), Became::Done);
    // The write of letter 1 ends its claim: a renewal that comes late has lost nothing.
    lanes.replay(ReplayId::new(9), letter(7, "a", Reason::Exhausted, 0));
    assert_eq!(lanes.lost(&[held[0]]), 0);
    assert_eq!((stops(&mut lanes), released(&mut lanes)), (vec![], vec![]));
    let Some(Work::Resolve { id, .. }) = lanes.next() else { panic!() };
    lanes.fenced(id);
    lanes.written(id);
    assert_eq!(stops(&mut lanes), [(9, "a".into(), 0), (9, "a".into(), 1)]);
    assert_eq!((released(&mut lanes), start(&mut lanes).len()), (vec![7], 0));
    assert_eq!(lanes.held(), 2, "4 and 5");
}

#[tokio::test(start_paused = true)]
async fn events_2_16_a_letter_that_is_claimed_again_while_it_is_written_comes_before_the_next_one()
{
    let (mut lanes, now) = (Lanes::<u64>::new(parking()), now());
    lanes.replay(ReplayId::new(1), letter(7, "a", Reason::Parked, 0));
    let started = start(&mut lanes);
    assert_eq!(end(&mut lanes, now, started[0].1, failed()), Became::Dead);
    let Some(Work::Bury { id, .. }) = lanes.next() else { panic!() };
    // The store has the letter, and another replay claims it before the consumer has the answer.
    for id in [7, 8] {
        lanes.replay(ReplayId::new(2), letter(id, "a", Reason::Parked, 0));
    }
    lanes.written(id);
    let started = start(&mut lanes);
    assert_eq!(names(&started), ["7"], "the letter again, and not the next one");
    assert_eq!(end(&mut lanes, now, started[0].1, Outcome::Done), Became::Done);
    let Some(Work::Resolve { id, replay }) = lanes.next() else { panic!() };
    assert_eq!(replay, Replay::new(ReplayId::new(2), LetterId::new(7)));
    lanes.written(id);
    assert_eq!(names(&start(&mut lanes)), ["8"]);
}

#[tokio::test(start_paused = true)]
async fn events_2_16_a_lost_letter_that_is_claimed_again_is_held() {
    let (mut lanes, now) = (Lanes::<u64>::new(parking()), now());
    lanes.replay(ReplayId::new(1), letter(7, "a", Reason::Parked, 0));
    let started = start(&mut lanes);
    let held = lanes.held_replays();
    assert_eq!(lanes.lost(&[held[0].0]), 0, "it runs");
    for id in [7, 8] {
        lanes.replay(ReplayId::new(2), letter(id, "a", Reason::Parked, 0));
    }
    assert_eq!(end(&mut lanes, now, started[0].1, Outcome::Done), Became::Done);
    let Some(Work::Resolve { id, replay }) = lanes.next() else { panic!() };
    assert_eq!(replay, Replay::new(ReplayId::new(2), LetterId::new(7)));
    assert_eq!(start(&mut lanes).len(), 0, "the next one waits until the letter is removed");
    lanes.written(id);
    assert_eq!(names(&start(&mut lanes)), ["8"]);
}

#[tokio::test(start_paused = true)]
async fn events_2_16_letters_are_handled_although_a_new_message_of_their_key_came_first() {
    let (mut lanes, now) = (Lanes::<u64>::new(parking()), now());
    lanes.receive(batch(&[(1, "a"), (2, "a")]));
    for id in [7, 8] {
        lanes.replay(ReplayId::new(9), letter(id, "a", Reason::Parked, 0));
    }
    // The letters are earlier than both messages, which are parked one after the other.
    for message in [1, 2] {
        let Some(Work::Ask { key, ask }) = lanes.next() else { panic!() };
        lanes.asked(&key, ask, true);
        let Some(Work::Bury { id, burial, .. }) = lanes.next() else { panic!() };
        assert_eq!(burial.reason, Reason::Parked);
        lanes.written(id);
        assert_eq!(settle_all(&mut lanes), [(message, Settle::Done)]);
    }
    assert_eq!((stops(&mut lanes), released(&mut lanes)), (vec![], vec![]));
    for name in ["7", "8"] {
        let started = start(&mut lanes);
        assert_eq!(names(&started), [name]);
        assert_eq!(end(&mut lanes, now, started[0].1, Outcome::Done), Became::Done);
        let Some(Work::Resolve { id, .. }) = lanes.next() else { panic!() };
        lanes.written(id);
    }
    assert_eq!(lanes.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn events_2_16_a_letter_is_not_parked_behind_itself() {
    let (mut lanes, _) = (Lanes::<u64>::new(parking()), now());
    lanes.receive(batch(&[(1, "a")]));
    lanes.replay(ReplayId::new(9), letter(7, "a", Reason::Parked, 0));
    let Some(Work::Ask { key, ask }) = lanes.next() else { panic!() };
    lanes.receive(revoked(0));
    lanes.asked(&key, ask, true);
    assert_eq!(names(&start(&mut lanes)), ["7"]);
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_is_claimed_again_is_held_once() {
    let (mut lanes, now) = (Lanes::<u64>::new(rules()), now());
    lanes.replay(ReplayId::new(1), letter(7, "", Reason::Exhausted, 3));
    let started = start(&mut lanes);
    let old = lanes.held_replays();
    lanes.replay(ReplayId::new(2), letter(7, "", Reason::Exhausted, 3));
    assert_eq!((start(&mut lanes).len(), lanes.held()), (0, 1));
    assert!(!lanes.not_kept(old[0].0), "the answer is about the earlier claim");
    assert_eq!(end(&mut lanes, now, started[0].1, Outcome::Done), Became::Done);
    let Some(Work::Resolve { replay, .. }) = lanes.next() else { panic!() };
    assert_eq!(replay, Replay::new(ReplayId::new(2), LetterId::new(7)));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_message_leaves_its_place_to_a_later_message_that_has_it() {
    let (mut lanes, now) = (Lanes::new(rules()), now());
    lanes.receive(batch(&[(1, "a")]));
    let started = start(&mut lanes);
    // The stream was created again: another message has the place.
    let mut other = batch(&[(1, "b")]);
    assert_eq!(lanes.receive(other.clone()).new, 1);
    assert_eq!(end(&mut lanes, now, started[0].1, Outcome::Done), Became::Done);
    assert_eq!(settle_all(&mut lanes), [(1, Settle::Done)]);
    other.messages[0].token = 2;
    assert_eq!(lanes.receive(other).joined, 1, "a repeated delivery of the other message");
}

#[tokio::test(start_paused = true)]
async fn an_answer_about_an_earlier_token_does_not_forget_the_message() {
    let (mut lanes, now) = (Lanes::new(rules()), now());
    lanes.receive(batch(&[(1, "a")]));
    let started = start(&mut lanes);
    let asked = lanes.held_tokens();
    lanes.receive(batch(&[(1, "a")]));
    assert!(!lanes.not_kept(asked[0].0));
    assert_eq!(end(&mut lanes, now, started[0].1, Outcome::Done), Became::Done);
    assert_eq!(settle_all(&mut lanes), [(1, Settle::Done)]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_an_earlier_question_does_not_open_a_key() {
    let (mut lanes, _) = (Lanes::<u64>::new(parking()), now());
    lanes.receive(batch(&[(1, "a")]));
    let Some(Work::Ask { key, ask: first }) = lanes.next() else { panic!() };
    lanes.receive(revoked(0));
    lanes.receive(batch(&[(2, "a")]));
    let Some(Work::Ask { ask: second, .. }) = lanes.next() else { panic!() };
    lanes.asked(&key, first, false);
    assert_eq!(start(&mut lanes).len(), 0);
    lanes.asked(&key, second, true);
    let Some(Work::Bury { burial, .. }) = lanes.next() else { panic!() };
    assert_eq!(burial.reason, Reason::Parked);
}

#[tokio::test(start_paused = true)]
async fn every_message_ends_in_one_number() {
    let (mut lanes, now) = (Lanes::new(Rules { attempts: 1, ..rules() }), now());
    lanes.receive(batch(&[(1, "a"), (2, "b"), (3, "b"), (4, "c")]));
    let started = start(&mut lanes);
    end(&mut lanes, now, started[0].1, failed());
    end(&mut lanes, now, started[1].1, Outcome::Done);
    lanes.drain();
    lanes.abandon();
    assert_eq!(lanes.take_ends(), Ends { dead: 1, returned: 3, revoked: 0 });
    assert_eq!(lanes.take_ends(), Ends::default());
}
