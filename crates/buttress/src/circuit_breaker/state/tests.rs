use std::time::Duration;

use super::*;
use crate::vocabulary::classify::Outcome;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A state with a clock that is moved by hand.
struct Rig {
    state: State,
    start: Instant,
    now: Instant,
}

impl Rig {
    #[expect(clippy::disallowed_methods, reason = "any instant will do as the origin")]
    fn new(config: &Config) -> Self {
        config.check().unwrap();
        let start = Instant::now();
        Self { state: State::new(&Arc::new(config.clone()), false, start), start, now: start }
    }

    fn at(&mut self, time: u64) -> &mut Self {
        self.now = self.start + ms(time);
        self
    }

    fn admit(&self) -> Result<Ticket, RetryAfter> {
        let peeked = self.state.peek(|| self.now);
        let admitted = self.state.admit(|| self.now);
        assert_eq!(peeked, admitted.err(), "looking must agree with asking");
        admitted.map(|(ticket, _)| ticket)
    }

    fn settle(&self, ticket: Ticket, outcome: Outcome) -> Settled {
        self.settle_with(ticket, outcome, false, None)
    }

    fn settle_with(
        &self,
        ticket: Ticket,
        outcome: Outcome,
        slow: bool,
        hint: Option<Duration>,
    ) -> Settled {
        // Like the end of a call.
        if outcome == Success && !slow && self.state.count_good(ticket, || self.now) {
            return Settled::default();
        }
        self.state.settle(ticket, outcome, slow, || self.now, hint)
    }

    fn run(&self, outcome: Outcome) {
        let ticket = self.admit().unwrap();
        self.settle(ticket, outcome);
    }

    fn refused_for(&self, time: u64) {
        assert_eq!(self.admit(), Err(ms(time).into()));
    }
}

use Outcome::{Failure, Ignored, Success};

#[test]
fn opens_at_the_fifth_failure_in_a_row_and_probes_after_exactly_thirty_seconds() {
    let mut rig = Rig::new(&Config::new());
    (0..4).for_each(|_| rig.run(Failure));
    rig.run(Success);
    (0..4).for_each(|_| rig.run(Failure));
    rig.run(Ignored);
    assert_eq!(rig.state.state(), CircuitState::Closed);
    rig.at(1000).run(Failure);
    assert_eq!(rig.state.state(), CircuitState::Open);
    rig.refused_for(30_000);
    rig.at(30_999).refused_for(1);
    let probe = rig.at(31_000).admit().unwrap();
    assert_eq!(rig.state.state(), CircuitState::HalfOpen);
    assert_eq!(rig.admit(), Err(RetryAfter::UNKNOWN), "one probe at a time");
    let settled = rig.settle(probe, Success);
    let closed = Transition { from: CircuitState::HalfOpen, to: CircuitState::Closed };
    assert_eq!(settled.transition, Some(closed));
    (0..4).for_each(|_| rig.run(Failure));
    assert_eq!(rig.state.state(), CircuitState::Closed, "a closed circuit starts from nothing");
}

#[test]
fn a_failed_probe_reopens_and_takes_back_the_progress() {
    let config = Config::new().consecutive_failures(1).open_for(ms(100));
    let mut rig = Rig::new(&config.half_open_calls(2).successes_to_close(3));
    rig.run(Failure);
    let (one, two) = (rig.at(100).admit().unwrap(), rig.admit().unwrap());
    rig.settle(one, Success);
    let three = rig.admit().unwrap();
    rig.settle(two, Failure);
    assert_eq!(rig.state.state(), CircuitState::Open);
    assert_eq!(
        rig.settle(three, Success),
        Settled::default(),
        "a result of the last half-open time"
    );
    rig.at(200);
    for progress in 1..=3 {
        assert_ne!(rig.state.state(), CircuitState::Closed, "after {progress}");
        rig.run(Success);
    }
    assert_eq!(rig.state.state(), CircuitState::Closed);
}

#[test]
fn late_results_of_a_closed_time_change_nothing() {
    let mut rig = Rig::new(&Config::new().consecutive_failures(1).open_for(ms(100)));
    let late: Vec<Ticket> = (0..3).map(|_| rig.admit().unwrap()).collect();
    rig.run(Failure);
    rig.at(50);
    assert_eq!(rig.settle(late[0], Failure), Settled::default());
    rig.refused_for(50);
    let probe = rig.at(100).admit().unwrap();
    assert_eq!(rig.settle(late[1], Failure), Settled::default());
    rig.settle(probe, Success);
    assert_eq!(rig.settle(late[2], Failure), Settled::default());
    assert_eq!(rig.state.state(), CircuitState::Closed);
}

#[test]
fn a_late_success_changes_nothing_where_the_window_takes_its_generation_for_the_present_one() {
    let rig = Rig::new(&Config::new().failure_rate(0.5).count_window(4).min_calls(4));
    let late = rig.admit().unwrap();
    // The window stores six bits of a generation.
    for _ in 0..32 {
        rig.state.force(CircuitState::Disabled, rig.now);
        rig.state.force(CircuitState::Closed, rig.now);
    }
    rig.settle(late, Success);
    assert_eq!(rig.state.tally(rig.now).total, 0);
    rig.run(Success);
    assert_eq!(rig.state.tally(rig.now).total, 1);
}

#[test]
fn an_ignored_probe_gives_its_place_back_and_decides_nothing() {
    let mut rig = Rig::new(&Config::new().consecutive_failures(1).open_for(ms(100)));
    rig.run(Failure);
    let probe = rig.at(100).admit().unwrap();
    assert_eq!(rig.settle(probe, Ignored), Settled { transition: None, freed: true });
    assert_eq!(rig.state.state(), CircuitState::HalfOpen);
    rig.run(Success);
    assert_eq!(rig.state.state(), CircuitState::Closed);
}

#[test]
fn a_hung_probe_is_replaced_when_its_lease_ends() {
    let config = Config::new().consecutive_failures(1).open_for(ms(100)).probe_lease(ms(500));
    let mut rig = Rig::new(&config);
    rig.run(Failure);
    let hung = rig.at(100).admit().unwrap();
    assert!(rig.at(599).admit().is_err());
    let second = rig.at(600).admit().unwrap();
    assert_eq!(
        rig.settle(hung, Failure),
        Settled::default(),
        "replaced: its result counts for no call"
    );
    rig.settle(second, Success);
    assert_eq!(rig.state.state(), CircuitState::Closed);
}

#[test]
fn the_open_time_grows_to_its_longest_and_starts_over() {
    let config = Config::new().consecutive_failures(1).open_for(ms(100)).growing(3.0, ms(700));
    let mut rig = Rig::new(&config);
    rig.run(Failure);
    let mut now = 0;
    for open_for in [100, 300, 700, 700] {
        rig.refused_for(open_for);
        now += open_for;
        rig.at(now).run(Failure);
    }
    rig.at(now + 700).run(Success);
    rig.run(Failure);
    rig.refused_for(100);
}

#[test]
fn the_failure_says_how_long_within_bounds() {
    let config = Config::new().consecutive_failures(1).open_for(ms(100)).honour_hint(ms(1000));
    for (hint, expected) in [(None, 100), (Some(50), 100), (Some(400), 400), (Some(9000), 1000)] {
        let rig = Rig::new(&config);
        let ticket = rig.admit().unwrap();
        rig.settle_with(ticket, Failure, false, hint.map(ms));
        rig.refused_for(expected);
    }
}

#[test]
fn rates_are_judged_when_reached_and_only_with_enough_calls() {
    let config = Config::new().failure_rate(0.1).count_window(20).min_calls(10);
    let rig = Rig::new(&config);
    (0..8).for_each(|_| rig.run(Success));
    rig.run(Failure);
    assert_eq!(rig.state.state(), CircuitState::Closed, "9 calls are not enough");
    rig.run(Success);
    assert_eq!(rig.state.state(), CircuitState::Closed, "a success never opens a circuit");
    (0..9).for_each(|_| rig.run(Success));
    // 2 of 20 is exactly 0.1.
    rig.run(Failure);
    assert_eq!(rig.state.state(), CircuitState::Open);
}

#[test]
fn slow_calls_open_the_circuit_and_a_slow_probe_keeps_it_open() {
    let config = Config::new().slow_calls(ms(100), 0.5).count_window(4).min_calls(4);
    let mut rig = Rig::new(&config.open_for(ms(100)));
    assert_eq!(rig.state.rules.slow_after(), 100_000_000);
    for slow in [true, false, false, true] {
        assert_eq!(rig.state.state(), CircuitState::Closed);
        let ticket = rig.admit().unwrap();
        rig.settle_with(ticket, Success, slow, None);
    }
    assert_eq!(rig.state.state(), CircuitState::Open);
    let probe = rig.at(100).admit().unwrap();
    rig.settle_with(probe, Success, true, None);
    assert_eq!(rig.state.state(), CircuitState::Open);
}

#[test]
fn failures_fall_out_of_a_time_window() {
    let config = Config::new().failure_rate(0.5).time_window(ms(1000)).min_calls(2);
    let mut rig = Rig::new(&config);
    rig.run(Failure);
    rig.at(1000).run(Failure);
    assert_eq!(rig.state.state(), CircuitState::Closed, "the first one is a whole window old");
    rig.at(1900).run(Failure);
    assert_eq!(rig.state.state(), CircuitState::Open);
}

#[test]
fn an_operator_has_the_last_word() {
    let mut rig = Rig::new(&Config::new().consecutive_failures(1).open_for(ms(100)));
    let before = rig.admit().unwrap();
    rig.state.force(CircuitState::ForcedOpen, rig.now);
    assert_eq!(rig.at(999_999).admit(), Err(RetryAfter::UNKNOWN));
    assert_eq!(rig.settle(before, Failure), Settled::default());
    rig.state.force(CircuitState::Disabled, rig.now);
    (0..9).for_each(|_| rig.run(Failure));
    assert_eq!(rig.state.tally(rig.now).total, 0, "a disabled circuit counts nothing");
    rig.state.force(CircuitState::MetricsOnly, rig.now);
    (0..9).for_each(|_| rig.run(Failure));
    assert_eq!(rig.state.tally(rig.now).failed, 9);
    assert_eq!(rig.state.state(), CircuitState::MetricsOnly);
    rig.state.force(CircuitState::Closed, rig.now);
    assert_eq!(rig.state.tally(rig.now).failed, 0);
    rig.run(Failure);
    assert_eq!(rig.state.state(), CircuitState::Open);
    assert_eq!(rig.state.force(CircuitState::Open, rig.now), None, "it is open already");
}

/// Regression: a half-open circuit counted as at rest, and its key was forgotten.
#[test]
fn a_circuit_rests_as_long_after_its_probe_was_due_as_it_was_open() {
    let config = Config::new().consecutive_failures(1).open_for(ms(100)).growing(3.0, ms(700));
    for probed in [false, true] {
        let mut rig = Rig::new(&config);
        assert!(rig.state.is_at_rest(|| rig.now));
        rig.run(Failure);
        if probed {
            rig.at(100).run(Ignored);
            assert_eq!(rig.state.state(), CircuitState::HalfOpen);
        }
        for (at, rests) in [(100, false), (199, false), (200, true)] {
            rig.at(at);
            assert_eq!(rig.state.is_at_rest(|| rig.now), rests, "at {at}");
        }
        // The circuit is open for 300 ms now.
        rig.run(Failure);
        if probed {
            rig.at(500).run(Ignored);
        }
        // A new open time does not affect the current one.
        rig.state.apply(&Arc::new(Config::new().consecutive_failures(1).open_for(ms(1))));
        for (at, rests) in [(500, false), (799, false), (800, true)] {
            rig.at(at);
            assert_eq!(rig.state.is_at_rest(|| rig.now), rests, "at {at}");
        }
        rig.run(Success);
        assert!(rig.state.is_at_rest(|| rig.now), "closed");
        rig.state.force(CircuitState::ForcedOpen, rig.now);
        rig.at(999_999);
        assert!(!rig.state.is_at_rest(|| rig.now), "an operator's decision stays");
    }
}

/// Regression: a window of time was empty as soon as the circuit opened.
#[test]
fn what_opened_the_circuit_is_readable_until_calls_count_again() {
    let by_rate = Config::new().failure_rate(0.5).min_calls(3).open_for(ms(5000));
    for config in [
        by_rate.clone(),
        by_rate.time_window(ms(1000)),
        Config::new().consecutive_failures(2).open_for(ms(5000)),
    ] {
        let mut rig = Rig::new(&config);
        let tally = |rig: &Rig| rig.state.tally(rig.now);
        if config.by_rate() {
            rig.run(Success);
        }
        rig.run(Failure);
        rig.at(900).run(Failure);
        assert_eq!(rig.state.state(), CircuitState::Open);
        let opened_it = tally(&rig);
        assert_eq!((opened_it.total, opened_it.failed), (2 + u64::from(config.by_rate()), 2));
        assert_eq!(tally(rig.at(4000)), opened_it);
        rig.at(6000).run(Failure);
        assert_eq!(tally(&rig), opened_it, "a probe is not in the window");
        rig.at(12_000).run(Ignored);
        assert_eq!((rig.state.state(), tally(&rig)), (CircuitState::HalfOpen, opened_it));
        rig.state.force(CircuitState::ForcedOpen, rig.now);
        rig.state.force(CircuitState::Disabled, rig.now);
        assert_eq!(tally(&rig), opened_it);
        rig.state.force(CircuitState::MetricsOnly, rig.now);
        assert_eq!(tally(&rig).total, 0);
        rig.run(Failure);
        rig.state.force(CircuitState::ForcedOpen, rig.now);
        assert_eq!(tally(rig.at(99_000)).failed, 1, "an operator ended the counting");
        rig.state.force(CircuitState::Closed, rig.now);
        assert_eq!(tally(&rig).total, 0);
    }
}

/// Regression: closing a closed circuit was reported as a change.
#[test]
fn a_state_it_is_in_already_is_no_change_but_its_window_is_emptied() {
    use CircuitState::{Closed, Disabled, ForcedOpen, MetricsOnly};

    let rig = Rig::new(&Config::new().consecutive_failures(2));
    let late = rig.admit().unwrap();
    rig.run(Failure);
    assert_eq!(rig.state.force(Closed, rig.now), None);
    assert_eq!((rig.state.changes(), rig.state.tally(rig.now).total), (0, 0));
    rig.settle(late, Failure);
    assert_eq!(rig.state.tally(rig.now).total, 0, "from before the window was emptied");
    for (changes, state) in (1..).zip([ForcedOpen, Disabled, MetricsOnly, Closed]) {
        for _ in 0..3 {
            rig.state.force(state, rig.now);
            assert_eq!(rig.state.changes(), changes, "{state}");
        }
    }
    (0..2).for_each(|_| rig.run(Failure));
    assert_eq!(rig.state.changes(), 5, "opening is one");
}

#[test]
fn new_rules_apply_to_what_was_counted_but_the_window_stays() {
    let rig = Rig::new(&Config::new());
    (0..3).for_each(|_| rig.run(Failure));
    rig.state.apply(&Arc::new(Config::new().consecutive_failures(4)));
    rig.run(Failure);
    assert_eq!(rig.state.state(), CircuitState::Open);
    let error = Config::new().failure_rate(0.5).keeps_window(&rig.state.config()).unwrap_err();
    assert_eq!(error.field(), "failure-rate");
}

#[test]
fn a_clock_before_the_anchor_is_the_anchor() {
    // Regression: the end of the open time was an instant before the anchor, so the circuit was
    // never open.
    let mut rig = Rig::new(&Config::new().consecutive_failures(1).open_for(ms(100)));
    rig.now = rig.start.checked_sub(ms(5000)).unwrap_or(rig.start);
    rig.run(Failure);
    assert!(rig.admit().is_err());
    assert!(rig.at(100).admit().is_ok());
}

#[path = "tests/aside.rs"]
mod aside;

#[path = "tests/model.rs"]
mod model;
