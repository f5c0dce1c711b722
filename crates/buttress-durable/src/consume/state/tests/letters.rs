//! Dead letters: parked keys, replays, claims.

use super::*;
use crate::consume::letter::LetterId;

#[tokio::test(start_paused = true)]
async fn parked_keys_wait_for_the_store_and_their_messages_become_letters() {
    let (mut lanes, now) = (Lanes::new(Rules { park: true, attempts: 1, ..rules() }), now());
    lanes.receive(batch(&[(1, "a"), (2, "a"), (3, "b")]));
    let ask = |lanes: &mut Lanes<u64>, held: bool| {
        let Some(Work::Ask { key, ask }) = lanes.next() else { panic!() };
        lanes.asked(&key, ask, held);
        key
    };
    assert_eq!(&*ask(&mut lanes, false), "a");
    let Some(Work::Ask { key, ask: of_b }) = lanes.next() else { panic!() };
    let started = start(&mut lanes);
    assert_eq!(names(&started), ["1"], "b is still asked for");
    lanes.asked(&key, of_b, true);
    let Some(Work::Bury { id, burial, .. }) = lanes.next() else { panic!() };
    assert_eq!((burial.reason, burial.attempts, burial.holds_key), (Reason::Parked, 0, true));
    lanes.written(id);
    settle_all(&mut lanes);
    assert_eq!(end(&mut lanes, now, started[0].1, failed()), Became::Dead);
    let Some(Work::Bury { id, .. }) = lanes.next() else { panic!() };
    lanes.written(id);
    settle_all(&mut lanes);
    // The next of the key asks again: its letter may have been removed.
    assert_eq!(&*ask(&mut lanes, true), "a");
    let Some(Work::Bury { content, burial, .. }) = lanes.next() else { panic!() };
    assert_eq!((&*content.payload, burial.reason), (&b"2"[..], Reason::Parked));
}

#[tokio::test(start_paused = true)]
async fn events_2_16_a_replayed_letter_is_removed_or_written_again_with_its_count() {
    let (mut lanes, now) = (Lanes::<u64>::new(Rules { attempts: 1, ..rules() }), now());
    let letter = |id, key: &str| {
        let letter = Letter::new(LetterId::new(id), "billing", "bus", key, Reason::Exhausted);
        Letter { replays: 3, ..letter }
    };
    let claim = ReplayId::new(1);
    lanes.replay(claim, letter(7, "a"));
    lanes.replay(claim, letter(8, "b"));
    let mut handles = Vec::new();
    while let Some(Work::Handle { id, replays, .. }) = lanes.next() {
        assert_eq!(replays, 3);
        handles.push(id);
    }
    assert_eq!(end(&mut lanes, now, handles[0], Outcome::Done), Became::Done);
    assert_eq!(end(&mut lanes, now, handles[1], failed()), Became::Dead);
    assert_eq!(lanes.held_replays(), [], "each claim ends with its write");
    let Some(Work::Resolve { id, replay }) = lanes.next() else { panic!() };
    assert_eq!(replay, Replay::new(claim, LetterId::new(7)));
    lanes.written(id);
    let Some(Work::Bury { id, burial, .. }) = lanes.next() else { panic!() };
    assert_eq!((burial.replay, burial.replays), (Some(Replay::new(claim, LetterId::new(8))), 3));
    lanes.written(id);
    assert_eq!((lanes.held(), settle_all(&mut lanes)), (0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_not_kept_is_forgotten() {
    let (mut lanes, now) = (Lanes::new(rules()), now());
    lanes.receive(batch(&[(1, "a"), (2, "a")]));
    let started = start(&mut lanes);
    let mut held = lanes.held_tokens();
    held.sort_unstable();
    assert_eq!(held.iter().map(|(_, token)| *token).collect::<Vec<_>>(), [1, 2]);
    let forgotten = held.iter().map(|(held, _)| lanes.not_kept(*held)).collect::<Vec<_>>();
    assert_eq!(forgotten, [false, true], "the first one runs");
    assert_eq!((lanes.held(), lanes.held_tokens().len()), (1, 0));
    assert_eq!(end(&mut lanes, now, started[0].1, Outcome::Done), Became::Gone);
    assert_eq!(lanes.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn events_2_16_a_letter_that_another_consumer_has_claimed_is_forgotten() {
    let (mut lanes, now) = (Lanes::<u64>::new(rules()), now());
    let claim = ReplayId::new(1);
    for id in [7, 8] {
        let letter = Letter::new(LetterId::new(id), "billing", "bus", "a", Reason::Exhausted);
        lanes.replay(claim, letter);
    }
    let Some(Work::Handle { id, .. }) = lanes.next() else { panic!() };
    let mut held = lanes.held_replays();
    held.sort_unstable();
    let letters: Vec<_> = held.iter().map(|(_, replay)| replay.letter).collect();
    assert_eq!(letters, [LetterId::new(7), LetterId::new(8)]);
    let forgotten = held.iter().map(|(held, _)| lanes.not_kept(*held)).collect::<Vec<_>>();
    assert_eq!(forgotten, [false, true], "the first one runs");
    assert_eq!((lanes.held(), lanes.held_replays().len()), (1, 0), "7 still runs");
    assert_eq!(end(&mut lanes, now, id, Outcome::Done), Became::Gone);
    assert_eq!((lanes.held(), lanes.take_released()), (0, vec![]), "not ours to release");
}

#[tokio::test(start_paused = true)]
async fn events_2_11_a_drain_releases_the_claims_on_letters() {
    let (mut lanes, now) = (Lanes::<u64>::new(rules()), now());
    let claim = ReplayId::new(1);
    let letter = |id| Letter::new(LetterId::new(id), "billing", "bus", "a", Reason::Exhausted);
    lanes.replay(claim, letter(7));
    lanes.replay(claim, letter(8));
    let Some(Work::Handle { id, .. }) = lanes.next() else { panic!() };
    lanes.drain();
    lanes.replay(claim, letter(9));
    assert_eq!(end(&mut lanes, now, id, failed()), Became::Back);
    let released: Vec<_> = lanes.take_released().iter().map(|replay| replay.letter.get()).collect();
    assert_eq!((lanes.held(), released), (0, vec![8, 9, 7]));
}
