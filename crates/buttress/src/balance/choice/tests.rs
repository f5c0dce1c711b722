use super::*;
use crate::balance::state::State;
use crate::discover::Instance;
use crate::vocabulary::rng::Rng;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;

fn set(instances: &[Instance]) -> (State, Plan) {
    let mut state = State::default();
    state.replace(instances, 0, 0);
    let plan = Plan::new(&state.members, &state.choices());
    (state, plan)
}

fn some(count: usize) -> Vec<Instance> {
    (0..count).map(|number| Instance::at(format!("10.0.0.{number}"))).collect()
}

/// How often each of the endpoints is chosen.
fn counts(plan: &Plan, policy: Policy, calls: u64, now: u64) -> Vec<u64> {
    let (rng, turn) = (Rng::seeded(7), AtomicU64::new(0));
    let mut counts = vec![0; plan.seats.len()];
    for _ in 0..calls {
        let choice = Choice { policy, draw: rng.next_u64(), now, turn: &turn };
        counts[plan.choose(choice).unwrap()] += 1;
    }
    counts
}

#[test]
fn edge_5_11_weights_of_three_to_one_are_exact_over_4000_calls() {
    let (_, plan) = set(&[Instance::at("a").with_weight(3), Instance::at("b")]);
    assert_eq!(counts(&plan, Policy::RoundRobin, 4_000, 0), [3_000, 1_000]);
    // And in each round, spread over it.
    let turn = AtomicU64::new(0);
    let choice = Choice { policy: Policy::RoundRobin, draw: 0, now: 0, turn: &turn };
    let places: Vec<_> = (0..8).map(|_| plan.choose(choice).unwrap()).collect();
    assert_eq!(places, [0, 1, 0, 0, 0, 1, 0, 0]);
}

#[test]
fn a_round_has_exactly_the_turns_of_its_weights() {
    proptest::proptest!(|(weights in proptest::collection::vec(1_u32..50, 1..20))| {
        let instances: Vec<_> =
            some(weights.len()).into_iter().zip(&weights).map(|(it, weight)| it.with_weight(*weight)).collect();
        let (_, plan) = set(&instances);
        let round = weights.iter().map(|weight| u64::from(*weight)).sum();
        let expected: Vec<u64> = weights.iter().map(|weight| u64::from(*weight)).collect();
        proptest::prop_assert_eq!(counts(&plan, Policy::RoundRobin, round, 0), expected);
    });
}

#[test]
fn edge_5_12_an_endpoint_that_goes_moves_its_own_keys_only() {
    let all = some(10);
    let (_, before) = set(&all);
    let (_, after) = set(&all[1..]);
    let mut moved = 0;
    for key in 0..10_000 {
        let old = before.rendezvous(key, |_| true).unwrap();
        let new = after.rendezvous(key, |_| true).unwrap() + 1;
        if old == 0 {
            moved += 1;
        } else {
            assert_eq!(old, new, "key {key}");
        }
    }
    assert!((900..=1_100).contains(&moved), "{moved} of 10 000 keys moved, a tenth is expected");
}

#[test]
fn edge_5_12_keys_follow_the_weights() {
    let (_, plan) = set(&[Instance::at("a").with_weight(3), Instance::at("b")]);
    let to_a = (0..10_000).filter(|key| plan.rendezvous(*key, |_| true) == Some(0)).count();
    assert!((7_300..=7_700).contains(&to_a), "{to_a} of 10 000");
}

#[test]
fn two_drawn_places_differ_and_are_even() {
    for count in [2, 3, 7, 100] {
        let (_, plan) = set(&some(count));
        let (rng, mut drawn) = (Rng::seeded(3), vec![0_u32; count]);
        for _ in 0..count * 1_000 {
            let (one, two) = plan.draw_two(rng.next_u64(), &|_| true).unwrap();
            assert_ne!(one, two);
            drawn[one] += 1;
            drawn[two] += 1;
        }
        assert!(drawn.iter().all(|times| (1_800..=2_200).contains(times)), "{drawn:?}");
    }
}

#[test]
fn places_that_may_not_be_used_are_not_drawn_and_the_others_are_drawn_evenly() {
    let (state, plan) = set(&some(6));
    let barred = [state.members[1].history.serial, state.members[4].history.serial];
    let (rng, turn, mut drawn) = (Rng::seeded(5), AtomicU64::new(0), [0_u32; 6]);
    for _ in 0..4_000 {
        let choice =
            Choice { policy: Policy::LeastPending, draw: rng.next_u64(), now: 0, turn: &turn };
        let may = |serial: u64| !barred.contains(&serial);
        drawn[plan.choose_among(choice, may).unwrap()] += 1;
    }
    assert_eq!((drawn[1], drawn[4]), (0, 0));
    assert!([0, 2, 3, 5].iter().all(|place| (850..=1_150).contains(&drawn[*place])), "{drawn:?}");
    let choice = Choice { policy: Policy::LeastPending, draw: 0, now: 0, turn: &turn };
    assert_eq!(plan.choose_among(choice, |_| false), None);
}

#[test]
fn the_smaller_load_is_chosen_but_for_one_call_in_256() {
    let (state, plan) = set(&some(2));
    state.members[0].history.measure.took(0, 100 * MS);
    state.members[1].history.measure.took(0, 10 * MS);
    let chosen = counts(&plan, Policy::PeakEwma, 25_600, 0);
    assert!((70..=130).contains(&chosen[0]), "{chosen:?}");
    // 10 ms for each of 11 calls are more than 100 ms.
    (0..10).for_each(|_| state.members[1].history.begin());
    assert!(counts(&plan, Policy::PeakEwma, 25_600, 0)[0] > 25_400);
    (0..10).for_each(|_| state.members[1].history.end());
    assert_eq!(counts(&plan, Policy::LeastPending, 100, 0).iter().sum::<u64>(), 100);
}

#[test]
fn fewer_pending_calls_for_the_weight_are_chosen() {
    let (state, plan) = set(&[Instance::at("a").with_weight(3), Instance::at("b")]);
    (0..2).for_each(|_| state.members[0].history.begin());
    state.members[1].history.begin();
    // 3 of 3 against 2 of 1.
    assert_eq!(counts(&plan, Policy::LeastPending, 100, 0), [100, 0]);
    (0..4).for_each(|_| state.members[0].history.begin());
    assert_eq!(counts(&plan, Policy::LeastPending, 100, 0), [0, 100]);
}

#[test]
fn a_new_endpoint_gets_its_share_step_by_step() {
    let mut state = State::default();
    state.replace(&some(1), 0, 0);
    state.replace(&some(2), 0, 10 * SECOND);
    let plan = Plan::new(&state.members, &state.choices());
    for (now, expected) in
        [(0, 500), (5 * SECOND, 2_500), (9 * SECOND, 4_500), (10 * SECOND, 5_000)]
    {
        for policy in [Policy::RoundRobin, Policy::LeastPending] {
            let new = counts(&plan, policy, 10_000, now)[1];
            assert!(new.abs_diff(expected) < 250, "{policy} at {now}: {new} of 10 000");
        }
    }
}

#[test]
fn an_empty_set_has_no_choice() {
    let (_, plan) = set(&[]);
    let turn = AtomicU64::new(0);
    for policy in [Policy::PeakEwma, Policy::LeastPending, Policy::RoundRobin] {
        let choice = Choice { policy, draw: 0, now: 0, turn: &turn };
        assert_eq!(plan.choose(choice), None);
    }
    assert_eq!(plan.rendezvous(1, |_| true), None);
}
