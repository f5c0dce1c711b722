//! How much room a consumer has while keys stand still.

use super::*;

fn crowded(behind: usize, behind_bytes: usize) -> Rules {
    Rules { behind, behind_bytes, ..rules() }
}

/// A lane whose head rests, and as many messages behind it.
fn standing(rules: Rules, behind: u64) -> Lanes<u64> {
    let (mut lanes, now) = (Lanes::new(rules), now());
    lanes.receive(batch(&[(1, "a")]));
    let started = start(&mut lanes);
    end(&mut lanes, now, started[0].1, failed());
    let rest: Vec<_> = (2..2 + behind).map(|token| (token, "a")).collect();
    lanes.receive(batch(&rest));
    lanes
}

#[tokio::test(start_paused = true)]
async fn events_2_3_messages_behind_a_resting_one_take_no_room_up_to_their_number() {
    let mut lanes = standing(crowded(5, 100), 5);
    assert_eq!((lanes.held(), lanes.room()), (6, 7), "only the first counts");
    lanes.receive(batch(&[(10, "b")]));
    assert_eq!(names(&start(&mut lanes)), ["10"], "the other key continues");
    assert_eq!(lanes.room(), 6);
    lanes.receive(batch(&[(11, "a"), (12, "a")]));
    assert_eq!(lanes.room(), 4, "further ones take room");
    let mut without = standing(crowded(0, 100), 7);
    assert_eq!((without.held(), without.room(), start(&mut without).len()), (8, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn events_2_13_messages_behind_others_are_bounded_in_bytes() {
    // Each has one byte.
    let lanes = standing(crowded(5, 3), 5);
    assert_eq!((lanes.held(), lanes.room()), (6, 5), "three of five are held besides");
}

#[tokio::test(start_paused = true)]
async fn room_is_the_same_again_once_a_key_goes_on_or_goes_away() {
    let mut lanes = standing(crowded(5, 100), 3);
    let later = now() + 10_000 * MS;
    lanes.wake(later);
    for left in [3, 2, 1, 0] {
        let started = start(&mut lanes);
        assert_eq!((started.len(), lanes.room()), (1, 7));
        end(&mut lanes, later, started[0].1, Outcome::Done);
        settle_all(&mut lanes);
        assert_eq!(lanes.held(), left);
    }
    assert_eq!(lanes.room(), 8);
    let mut lanes = standing(crowded(5, 100), 3);
    assert_eq!(lanes.receive(revoked(0)).forgotten, 4);
    assert_eq!((lanes.held(), lanes.room()), (0, 8));
}
