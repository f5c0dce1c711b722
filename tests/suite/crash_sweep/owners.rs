//! Several workers that share one store of sagas, and all faults between them and the store: a
//! frozen worker, an answer that is late or lost, a clock that jumps, a future that is dropped
//! half-way.

use std::time::Duration;

use buttress_durable::saga::Kind;
use buttress_sim::Seed;
use buttress_sim::crash::{Schedule, Trouble, each_pair, each_seed, each_trouble};

use self::participants::Way::{self, Fine, LoseAnswer, Refuse, Stumble};
use self::signals::Signal;
use self::workers::{LEASE, Scenario, Step, run};

mod children;
mod participants;
mod signals;
mod store;
mod workers;

const C: Kind = Kind::Compensatable;
const RECOVERS: Duration = Duration::from_millis(1900);
/// Longer than a start is repeated and its last request is in progress.
const KEPT: Duration = Duration::from_secs(45);

fn scenario(steps: Vec<Step>) -> Scenario {
    Scenario {
        processes: 2,
        sagas: 1,
        steps,
        backoff: Duration::from_secs(30),
        takes: Duration::ZERO,
        ties: None,
        deadline: None,
        layer: None,
        failed_undos: 0,
        cancel: None,
        apart: Duration::ZERO,
        retention: None,
        recovers: RECOVERS,
        in_transaction: false,
        waits: None,
        signal: None,
    }
}

fn signal(at: u64, limit: u64) -> Option<Signal> {
    let (at, limit) = (Duration::from_secs(at), Duration::from_secs(limit));
    Some(Signal { at, limit, is_optional: false })
}

/// The troubles by which a lease expires.
fn lapses() -> Vec<Trouble> {
    let longer = Duration::from_secs(11);
    vec![Trouble::Freeze(longer), Trouble::Late(longer), Trouble::Lost(longer)]
}

/// Draws steps from a seed: some succeed, some are refused, all end.
fn drawn(seed: Seed) -> Scenario {
    let rng = seed.named("scenario");
    let one_of = |count: u64| rng.between(0, count - 1);
    let mut steps: Vec<Step> = Vec::new();
    let stumbling = |last: Way| {
        let mut ways: Vec<Way> =
            (0..one_of(3)).map(|_| if one_of(2) == 0 { Stumble } else { LoseAnswer }).collect();
        ways.push(last);
        ways
    };
    let compensatable = |last| if one_of(4) == 0 { vec![LoseAnswer] } else { vec![last] };
    steps.push(("a", C, compensatable(Fine)));
    if one_of(2) == 0 {
        steps.push(("b", C, compensatable(if one_of(3) == 0 { Refuse } else { Fine })));
    }
    if one_of(4) > 0 {
        let mut ways = stumbling(if one_of(2) == 0 { Refuse } else { Fine });
        // A refusing participant later accepts.
        ways.push(Fine);
        steps.push(("p", Kind::Pivot, ways));
    }
    if one_of(2) == 0 {
        steps.push(("r", Kind::Retryable, stumbling(Fine)));
    }
    let purges = one_of(3) == 0;
    Scenario {
        retention: purges.then_some(KEPT),
        apart: Duration::from_secs(if purges { [0, 20, 50][one_of(3) as usize] } else { 0 }),
        recovers: if purges { Duration::from_secs(5) } else { RECOVERS },
        processes: 2 + one_of(2) as u32,
        sagas: 1 + u128::from(one_of(3)),
        steps,
        backoff: Duration::from_millis([100, 3_000, 12_000, 30_000][one_of(4) as usize]),
        takes: Duration::from_millis([0, 50, 4_000, 15_000][one_of(4) as usize]),
        ties: Some(rng.next_u64()),
        deadline: (one_of(4) == 0).then(|| Duration::from_secs(60)),
        layer: (one_of(3) == 0).then(|| Duration::from_secs(13)),
        failed_undos: one_of(3) as usize,
        cancel: (one_of(3) == 0).then(|| Duration::from_secs(one_of(20))),
        in_transaction: one_of(3) == 0,
        waits: (one_of(3) == 0)
            .then(|| Duration::from_millis([400, 1_700, 9_000, 31_000][one_of(4) as usize])),
        signal: (one_of(3) == 0).then(|| Signal {
            at: Duration::from_secs(one_of(40)),
            limit: Duration::from_secs([1, 10, 30][one_of(3) as usize]),
            is_optional: one_of(2) == 0,
        }),
    }
}

/// Runs the scenario with each trouble around a lease. Returns how many runs there were.
fn around_a_lease(scenario: &Scenario) -> u64 {
    let runs = each_trouble(&Trouble::around(LEASE), |schedule| run(scenario, schedule));
    runs.unwrap_or_else(|broken| panic!("{broken}"))
}

/// A pivot is in doubt, its worker freezes, another worker is refused, and the first continues.
/// Regression: a worker forgot that its lease had expired once it had renewed it.
#[test]
fn a_pivot_in_doubt_does_not_run_for_a_worker_that_lost_it() {
    let pivot = ("p", Kind::Pivot, vec![Stumble, Refuse, Fine]);
    let scenario = scenario(vec![("a", C, vec![Fine]), pivot]);
    assert!(around_a_lease(&scenario) > 1_000);
}

/// Within one execution: a layer around the action waits, and retries.
#[test]
fn a_layer_that_tries_again_does_not_reach_the_service_for_a_worker_that_lost_the_saga() {
    let steps = vec![("a", C, vec![Fine]), ("p", Kind::Pivot, vec![Stumble, Refuse, Fine])];
    let scenario = Scenario { layer: Some(Duration::from_secs(13)), ..scenario(steps) };
    let runs = each_trouble(&lapses(), |schedule| run(&scenario, schedule));
    runs.unwrap_or_else(|broken| panic!("{broken}"));
}

/// An undo that failed is not retried after the lease was lost.
#[test]
fn an_undo_that_failed_does_not_run_again_for_a_worker_that_lost_the_saga() {
    let steps = vec![("a", C, vec![Fine]), ("b", C, vec![Refuse])];
    let scenario = Scenario { failed_undos: 1, ..scenario(steps) };
    let runs = each_trouble(&lapses(), |schedule| run(&scenario, schedule));
    runs.unwrap_or_else(|broken| panic!("{broken}"));
}

/// Regression: a take-over whose answer was lost orphaned its sagas in a living worker.
#[test]
fn two_troubles_leave_every_saga_whole_and_owned() {
    let steps = vec![("a", C, vec![Fine]), ("b", C, vec![Fine]), ("c", C, vec![LoseAnswer])];
    // The step takes so long that its worker crashes before it ends.
    let scenario = Scenario { takes: Duration::from_secs(5), ..scenario(steps) };
    let runs = each_pair(&Trouble::around(LEASE), 211, |schedule| run(&scenario, schedule));
    let runs = runs.unwrap_or_else(|broken| panic!("{broken}"));
    assert!(runs > 500, "{runs}");
}

/// The first worker crashes. Each request of the second worker during its take-over is troubled:
/// the answer is lost, comes after the lease, or the future is dropped.
#[test]
fn a_take_over_that_nobody_heard_of_is_adopted() {
    let steps = vec![("a", C, vec![Fine]), ("b", C, vec![Fine])];
    let scenario = Scenario { takes: Duration::from_secs(5), ..scenario(steps) };
    let crash = "1/2/after/crash/0";
    for operation in 1..30 {
        for trouble in ["lost/0", "lost/11000", "late/11000", "drop/0", "freeze/11000"] {
            let schedule = format!("{crash},2/{operation}/after/{trouble}");
            let lived = run(&scenario, &schedule.parse().unwrap());
            assert_eq!(lived.verdict, Ok(()), "{schedule}");
        }
    }
}

/// The first saga is purged while the second runs, and beside all that goes wrong then.
#[test]
fn a_purge_takes_only_what_has_ended_and_takes_all_of_it() {
    let steps = vec![("a", C, vec![LoseAnswer]), ("b", C, vec![Fine])];
    let scenario = Scenario {
        takes: Duration::from_secs(5),
        sagas: 2,
        apart: Duration::from_secs(50),
        retention: Some(KEPT),
        recovers: Duration::from_secs(5),
        ..scenario(steps)
    };
    assert!(around_a_lease(&scenario) > 1_000);
}

/// The first worker starts the saga in a transaction. The commit is an operation with troubles too.
#[test]
fn a_saga_that_starts_in_a_transaction_runs_once_or_never_was() {
    let steps = vec![("a", C, vec![Fine]), ("p", Kind::Pivot, vec![Stumble, Fine])];
    let scenario = Scenario { in_transaction: true, ..scenario(steps) };
    assert!(around_a_lease(&scenario) > 500);
}

/// The signal comes long before the limit, while a late write ends the wait without it, and before the saga waits.
#[test]
fn a_signal_counts_once_and_no_wait_ends_without_a_signal_that_is_there() {
    let steps = vec![("a", C, vec![Fine]), ("b", C, vec![Fine])];
    for signal in [signal(7, 40), signal(5, 3), signal(0, 20)] {
        let scenario = Scenario { signal, ..scenario(steps.clone()) };
        assert!(around_a_lease(&scenario) > 500);
    }
}

#[test]
fn any_seed_leaves_every_saga_whole_and_owned() {
    let runs = each_seed(300, |seed| {
        let scenario = drawn(seed);
        // So many that purges are among them.
        let operations = if scenario.retention.is_some() { 90 } else { 30 };
        let rng = seed.named("schedule");
        let schedule = Schedule::random(&rng, scenario.processes, operations, LEASE, 4);
        let lived = run(&scenario, &schedule);
        (schedule, lived)
    });
    runs.unwrap_or_else(|broken| panic!("{broken}"));
}
