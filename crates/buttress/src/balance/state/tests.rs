use super::*;
use proptest::prelude::*;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;

fn instances(ids: &[&str]) -> Vec<Instance> {
    ids.iter().map(|id| Instance::at(*id)).collect()
}

fn of(ids: &[&str]) -> State {
    let mut state = State::default();
    state.replace(&instances(ids), 0, 0);
    state
}

fn serial(state: &State, id: &str) -> u64 {
    state.members.iter().find(|it| it.instance.id() == id).unwrap().history.serial
}

fn state_of(state: &State, id: &str) -> EndpointState {
    state.members.iter().find(|it| it.instance.id() == id).unwrap().standing.state()
}

fn eject(state: &mut State, id: &str, now: u64) -> Decision {
    let serial = serial(state, id);
    state.eject(serial, now, &Outliers::new(), 0.0)
}

fn away(seconds: u64) -> Decision {
    Decision::Ejected(Duration::from_secs(seconds))
}

#[test]
fn edge_5_7_at_most_half_of_the_endpoints_go_rounded_down() {
    for (count, most) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (10, 5)] {
        let ids: Vec<String> = (0..count).map(|id| id.to_string()).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let mut state = of(&ids);
        let verdicts: Vec<Decision> = ids.iter().map(|id| eject(&mut state, id, 0)).collect();
        let out = verdicts.iter().filter(|it| **it == away(10)).count();
        assert_eq!(out, most, "of {count}");
        assert_eq!(verdicts.iter().filter(|it| **it == Decision::Spared).count(), count - most);
        assert!(!state.choices().panic);
    }
}

#[test]
fn edge_5_7_a_set_that_shrinks_takes_ejected_endpoints_back() {
    let mut state = of(&["a", "b", "c", "d"]);
    assert_eq!(eject(&mut state, "b", 0), away(10));
    assert_eq!(eject(&mut state, "a", SECOND), away(10));
    state.replace(&instances(&["a", "b"]), 2 * SECOND, 0);
    assert_eq!(state_of(&state, "b"), EndpointState::In, "its time would have come first");
    assert_eq!(state_of(&state, "a"), EndpointState::Ejected);
}

#[test]
fn edge_5_10_an_ejected_endpoint_returns_at_its_time_and_is_away_longer_each_time() {
    let mut state = of(&["a", "b"]);
    assert_eq!(eject(&mut state, "a", 0), away(10));
    assert_eq!(eject(&mut state, "a", SECOND), Decision::Nothing, "it is out");
    assert_eq!(state.choices().next, 10 * SECOND);
    assert_eq!(state.turn(10 * SECOND - 1), [0_usize; 0]);
    assert_eq!(state_of(&state, "a"), EndpointState::Ejected);
    assert_eq!(state.turn(10 * SECOND), [0]);
    assert_eq!(state_of(&state, "a"), EndpointState::In);
    assert_eq!(state.choices().next, u64::MAX);

    // It fails again within a sweep.
    assert_eq!(eject(&mut state, "a", 20 * SECOND - 1), away(20));
    state.turn(40 * SECOND);
    assert_eq!(eject(&mut state, "a", 40 * SECOND), away(30));
}

#[test]
fn edge_5_10_the_count_falls_by_one_for_each_sweep_that_it_stays_in() {
    for (stayed, expected) in
        [(0, 40), (9_999, 40), (10_000, 30), (20_000, 20), (30_000, 10), (99_000, 10)]
    {
        let (mut state, mut now) = (of(&["a", "b"]), 0);
        for times in 1..=3 {
            assert_eq!(eject(&mut state, "a", now), away(10 * times));
            now += times * 10 * SECOND;
            state.turn(now);
        }
        assert_eq!(eject(&mut state, "a", now + stayed * MS), away(expected), "{stayed} ms");
    }
}

#[test]
fn edge_5_10_an_ejection_lasts_at_most_300_seconds_and_is_jittered_by_a_tenth() {
    let (mut state, mut now) = (of(&["a", "b"]), 0);
    for times in 1..=40 {
        let expected = (10 * times).min(300);
        assert_eq!(eject(&mut state, "a", now), away(expected));
        now += expected * SECOND;
        state.turn(now);
    }
    for (jitter, expected) in [(-1.0, 9_000), (0.5, 10_500), (1.0, 11_000)] {
        let mut state = of(&["a", "b"]);
        let serial = serial(&state, "a");
        let verdict = state.eject(serial, 0, &Outliers::new(), jitter);
        assert_eq!(verdict, Decision::Ejected(Duration::from_millis(expected)));
    }
}

#[test]
fn edge_5_5_an_endpoint_that_is_not_ready_rests_longer_each_time_up_to_10_seconds() {
    let mut state = of(&["a"]);
    let serial = serial(&state, "a");
    let mut now = 0;
    for expected in [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000] {
        assert_eq!(state.rest(serial, now, 0.0), Some(Duration::from_millis(expected)));
        assert_eq!(state.rest(serial, now + MS, 0.0), None, "another call met it at that time");
        assert_eq!(state.choices().places, [0_usize; 0]);
        assert_eq!(state.choices().next, now + expected * MS);
        now += expected * MS;
        state.turn(now);
        assert_eq!(state.choices().places, [0]);
    }
    state.members[0].history.was_ready();
    assert_eq!(state.rest(serial, now, 0.0), Some(Duration::from_millis(100)));
}

#[test]
fn edge_5_8_if_none_is_in_those_that_are_out_are_used_but_not_those_that_rest() {
    let mut state = of(&["a", "b", "c"]);
    assert_eq!(eject(&mut state, "a", 0), away(10));
    assert_eq!(state.mark("b", true), Some(true));
    assert_eq!(state.choices(), Choices { places: vec![2], panic: false, next: 10 * SECOND });
    assert_eq!(state.mark("c", true), Some(true));
    assert_eq!(state.choices(), Choices { places: vec![0, 1, 2], panic: true, next: 10 * SECOND });
    let c = serial(&state, "c");
    assert!(state.rest(c, 0, 0.0).is_some());
    assert_eq!(state.choices(), Choices { places: vec![0, 1], panic: true, next: 100 * MS });
    assert_eq!(state.mark("b", false), Some(true));
    assert_eq!(state.choices(), Choices { places: vec![1], panic: false, next: 100 * MS });
    assert_eq!(state.mark("b", false), None, "nothing changed");
    assert_eq!(state.mark("d", true), Some(false), "it does not exist");
}

#[test]
fn edge_5_3_an_endpoint_that_comes_back_under_its_address_is_known() {
    let at = |address: &str| Instance::new("a", address);
    let b = Instance::at("b");
    let mut state = State::default();
    state.replace(&[at("1"), b.clone()], 0, 0);
    let first = serial(&state, "a");
    assert_eq!(eject(&mut state, "a", 0), away(10));

    state.replace(std::slice::from_ref(&b), SECOND, 0);
    state.replace(&[b.clone(), at("1")], 2 * SECOND, 0);
    assert_eq!(serial(&state, "a"), first);
    assert_eq!(state_of(&state, "a"), EndpointState::Ejected, "its time is not over");

    state.replace(&[b.clone(), at("2")], 3 * SECOND, 0);
    assert_ne!(serial(&state, "a"), first, "another address");
    assert_eq!(state_of(&state, "a"), EndpointState::In);
    state.replace(&[b.clone(), at("1")], 4 * SECOND, 0);
    assert_ne!(serial(&state, "a"), first, "what was at this address is forgotten");
}

#[test]
fn removed_endpoints_are_forgotten_the_oldest_first() {
    let mut state = of(&["a", "b"]);
    let (a, b) = (serial(&state, "a"), serial(&state, "b"));
    state.replace(&instances(&["b"]), 0, 0);
    for number in 0..=REMEMBERED {
        state.replace(&[Instance::at(format!("x{number}"))], 0, 0);
    }
    assert_eq!(state.removed.len(), REMEMBERED);
    state.replace(&instances(&["a", "b"]), 0, 0);
    assert_ne!(serial(&state, "a"), a);
    assert_ne!(serial(&state, "b"), b);
}

#[test]
fn a_change_keeps_stacks_and_says_what_it_adds() {
    let mut state = of(&["a", "b"]);
    assert_eq!(state.change_to(&instances(&["a", "b"])), None);
    let change = |wanted: &[Instance], state: &State| state.change_to(wanted).unwrap();
    let expected = Change { stacks: vec![Stack::Kept(1), Stack::New], added: 1, removed: 1 };
    assert_eq!(change(&instances(&["b", "c"]), &state), expected);
    // A weight needs no new stack, and metadata do.
    let wanted = [Instance::at("a").with_weight(2), Instance::at("b").with_metadata("zone", "x")];
    let expected = Change { stacks: vec![Stack::Kept(0), Stack::New], added: 0, removed: 0 };
    assert_eq!(change(&wanted, &state), expected);
    let before = serial(&state, "b");
    state.replace(&wanted, 0, 0);
    assert_eq!(serial(&state, "b"), before);
    assert_eq!(state.change_to(&wanted), None);
}

#[test]
fn endpoints_that_join_others_are_new() {
    let mut state = of(&["a"]);
    state.replace(&instances(&["a", "b"]), 5, 7);
    let new: Vec<_> = state.members.iter().map(|it| it.standing.new).collect();
    assert_eq!(new, [None, Some((5, 7))]);
}

proptest! {
    /// However failures, marks and changes of the set follow each other, at most half are ejected, no endpoint is
    /// out beyond its time, and calls have an endpoint as long as one does not rest.
    #[test]
    fn any_course_keeps_at_most_half_ejected(
        steps in proptest::collection::vec((0_u8..6, 0_usize..6, 0_u64..30_000), 1..200)
    ) {
        let ids = ["a", "b", "c", "d", "e", "f"];
        let (mut state, mut now) = (of(&ids[..3]), 0);
        for (step, which, wait) in steps {
            now += wait * MS;
            state.turn(now);
            let id = ids[which];
            let here = state.members.iter().find(|it| it.instance.id() == id);
            let serial = here.map_or(0, |it| it.history.serial);
            match step {
                0 | 1 => drop(state.eject(serial, now, &Outliers::new(), 1.0)),
                2 => drop(state.rest(serial, now, -1.0)),
                3 => drop(state.mark(id, true)),
                4 => drop(state.mark(id, false)),
                _ => {
                    let mut next: Vec<Instance> = state.members.iter().map(|it| it.instance.clone()).collect();
                    match next.iter().position(|it| it.id() == id) {
                        Some(place) => drop(next.remove(place)),
                        None => next.push(Instance::at(id)),
                    }
                    state.replace(&next, now, 0);
                }
            }
            prop_assert!(state.ejected() <= state.members.len() / 2);
            let choices = state.choices();
            let resting = |it: &Member| it.standing.rests_until.is_some();
            prop_assert_eq!(choices.places.is_empty(), state.members.iter().all(resting));
            prop_assert!(choices.next > now);
            let is_in = |place: &usize| state.members[*place].standing.state() == EndpointState::In;
            prop_assert_eq!(choices.panic, !choices.places.is_empty() && !choices.places.iter().any(is_in));
        }
    }
}
