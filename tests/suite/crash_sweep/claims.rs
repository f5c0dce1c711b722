//! Several workers that share one store of claims and results, and all faults between them and the
//! store.

use std::time::Duration;

use buttress_sim::Seed;
use buttress_sim::crash::{Schedule, Trouble, each_pair, each_seed, each_trouble};

use self::workers::{LEASE, MOST_STRIKES, Scenario, run};

mod store;
mod workers;

/// Longer than any run.
const KEPT_LONG: Duration = Duration::from_secs(3_600);
/// So short that results expire, and are swept, while others call.
const KEPT_BRIEFLY: Duration = Duration::from_secs(15);

fn scenario() -> Scenario {
    Scenario {
        processes: 2,
        keys: 1,
        takes: Duration::from_secs(4),
        fails: 5,
        transactional: false,
        detached: false,
        patience: Duration::from_secs(30),
        lifetime: KEPT_LONG,
        again: (Duration::ZERO, 0),
        ties: None,
    }
}

fn drawn(seed: Seed) -> Scenario {
    let rng = seed.named("scenario");
    let one_of = |count: u64| rng.between(0, count - 1);
    let expires = one_of(3) == 0;
    Scenario {
        lifetime: if expires { KEPT_BRIEFLY } else { KEPT_LONG },
        again: if expires {
            (Duration::from_secs([5, 16][one_of(2) as usize]), 3)
        } else {
            (Duration::ZERO, 0)
        },
        processes: 2 + one_of(2) as u32,
        keys: 1 + one_of(2) as u32,
        takes: Duration::from_millis([0, 50, 4_000, 12_000][one_of(4) as usize]),
        fails: 2 + one_of(5) as u32,
        transactional: one_of(3) == 0,
        detached: one_of(3) == 0,
        patience: Duration::from_secs([2, 10, 30, 90][one_of(4) as usize]),
        ties: Some(rng.next_u64()),
    }
}

#[test]
fn no_work_of_a_key_leaves_a_worker_that_lost_it() {
    for (transactional, detached) in [(false, false), (true, false), (false, true)] {
        let scenario = Scenario { transactional, detached, ..scenario() };
        let runs = each_trouble(&Trouble::around(LEASE), |schedule| run(&scenario, schedule));
        let runs = runs.unwrap_or_else(|broken| panic!("{scenario:?}: {broken}"));
        assert!(runs > 100, "{runs}");
    }
}

#[test]
fn two_troubles_leave_one_result_and_no_key_held() {
    let runs = each_pair(&Trouble::around(LEASE), 101, |schedule| run(&scenario(), schedule));
    let runs = runs.unwrap_or_else(|broken| panic!("{broken}"));
    assert!(runs > 100, "{runs}");
}

/// Callers come again while results expire and are swept: each result stands for its lifetime, and no longer.
#[test]
fn results_that_expire_and_are_swept_leave_one_result_at_a_time() {
    let again = (Duration::from_secs(9), 3);
    let scenario = Scenario { lifetime: KEPT_BRIEFLY, again, ..scenario() };
    let runs = each_trouble(&Trouble::around(LEASE), |schedule| run(&scenario, schedule));
    assert!(runs.unwrap_or_else(|broken| panic!("{broken}")) > 500);
}

#[test]
fn any_seed_leaves_one_result_and_no_key_held() {
    let runs = each_seed(300, |seed| {
        let scenario = drawn(seed);
        let rng = seed.named("schedule");
        let schedule = Schedule::random(&rng, scenario.processes, 30, LEASE, MOST_STRIKES);
        let lived = run(&scenario, &schedule);
        (schedule, lived)
    });
    runs.unwrap_or_else(|broken| panic!("{broken}"));
}
