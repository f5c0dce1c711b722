use super::*;

/// A supervision whose times are milliseconds since its beginning.
struct Trial {
    zero: Instant,
    state: State,
}

impl Trial {
    fn new(restart: Restart) -> Self {
        let zero = buttress::VirtualClock::new().clock().now();
        let rules = Rules { restart, ..Rules::default() };
        Self { zero, state: State::new(rules, zero) }
    }

    fn at(&self, millis: u64) -> Instant {
        self.zero + Duration::from_millis(millis)
    }

    fn next(&mut self, millis: u64) -> Step {
        self.state.next(self.at(millis))
    }

    /// Starts the child, which must be due exactly now.
    fn start(&mut self, millis: u64) {
        assert_eq!(self.state.due(), Some(self.at(millis)), "due at {millis} ms");
        if millis > 0 {
            assert_eq!(self.next(millis - 1), Step::Wait, "before {millis} ms");
        }
        assert_eq!(self.next(millis), Step::Start, "at {millis} ms");
        self.state.started(self.at(millis));
    }

    /// Ends the child and the rest of its group.
    fn end(&mut self, millis: u64, end: End) {
        self.state.ended(self.at(millis), end);
        assert_eq!(self.next(millis), Step::Kill, "the rest of the group");
        assert_eq!(self.next(millis), Step::Wait, "one SIGKILL suffices");
        self.state.emptied();
    }

    /// Starts the child at its time, and ends it.
    fn run(&mut self, start: u64, end: u64, how: End) {
        self.start(start);
        self.end(end, how);
    }

    fn stop(&mut self, millis: u64) -> bool {
        self.state.stop(self.at(millis))
    }
}

#[test]
fn the_waits_double_and_the_sixth_failure_within_60_s_ends_the_sidecar_with_its_code() {
    let mut trial = Trial::new(Restart::OnFailure);
    // Each child runs for 1 ms.
    for start in [0, 101, 302, 703, 1504] {
        trial.run(start, start + 1, End::Code(1));
    }
    trial.run(3105, 3106, End::Code(7));
    assert_eq!(trial.next(3106), Step::Exit(7));
}

#[test]
fn the_waits_grow_to_10_s() {
    let mut trial = Trial::new(Restart::Always);
    let mut start = 0;
    for wait in [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000] {
        trial.run(start, start + 1, End::Code(0));
        start += 1 + wait;
    }
    trial.start(start);
}

#[test]
fn a_failure_that_is_60_s_old_counts_no_more() {
    let mut trial = Trial::new(Restart::OnFailure);
    for (start, end) in [(0, 1000), (1100, 13_000), (13_200, 25_000), (25_400, 37_000)] {
        trial.run(start, end, End::Code(1));
    }
    trial.run(37_800, 49_000, End::Code(1));
    trial.start(50_600);
    // The sixth failure, 60 s after the first one.
    trial.end(61_000, End::Code(1));
    assert_eq!(trial.state.due(), Some(trial.at(64_200)));
    trial.start(64_200);
    // 60 s before this one the second failure was 1 ms younger.
    trial.end(72_999, End::Code(1));
    assert_eq!(trial.next(72_999), Step::Exit(1));
}

#[test]
fn after_60_s_without_an_end_the_first_wait_is_100_ms_again() {
    let mut trial = Trial::new(Restart::OnFailure);
    trial.run(0, 1, End::Code(1));
    trial.run(101, 102, End::Code(1));
    trial.run(302, 60_301, End::Code(1));
    trial.run(60_701, 120_701, End::Code(1));
    trial.start(120_801);
}

#[test]
fn a_success_ends_the_sidecar_unless_it_restarts_always() {
    for (restart, end, expected) in [
        (Restart::OnFailure, End::Code(0), Step::Exit(0)),
        (Restart::OnFailure, End::Code(1), Step::Wait),
        (Restart::OnFailure, End::Signal(9), Step::Wait),
        (Restart::Never, End::Code(0), Step::Exit(0)),
        (Restart::Never, End::Code(3), Step::Exit(3)),
        (Restart::Never, End::Signal(9), Step::Exit(137)),
        (Restart::Never, End::Signal(15), Step::Exit(143)),
        (Restart::Always, End::Code(0), Step::Wait),
        (Restart::Always, End::Code(3), Step::Wait),
    ] {
        let mut trial = Trial::new(restart);
        trial.run(0, 5, end);
        assert_eq!(trial.next(5), expected, "{restart:?}, {end:?}");
    }
}

#[test]
fn successes_of_always_are_no_failures() {
    let mut trial = Trial::new(Restart::Always);
    let mut start = 0;
    for wait in [100, 200, 400, 800, 1600, 3200, 6400] {
        trial.run(start, start, End::Code(0));
        start += wait;
    }
    trial.run(start, start, End::Code(1));
    assert_eq!(trial.next(start), Step::Wait, "the first failure");
}

#[test]
fn a_command_that_does_not_exist_ends_the_sidecar_immediately() {
    for (why, code) in [(Unstarted::NotFound, 127), (Unstarted::NotExecutable, 126)] {
        for restart in [Restart::Never, Restart::OnFailure, Restart::Always] {
            let mut trial = Trial::new(restart);
            assert_eq!(trial.next(0), Step::Start);
            trial.state.not_started(trial.zero, why);
            assert_eq!(trial.next(0), Step::Exit(code));
        }
    }
}

#[test]
fn a_system_without_room_for_a_process_is_tried_again_and_counts_as_a_failure() {
    let mut trial = Trial::new(Restart::OnFailure);
    for at in [0, 100, 300, 700, 1500] {
        assert_eq!(trial.next(at), Step::Start);
        trial.state.not_started(trial.at(at), Unstarted::NoRoom);
        assert_eq!(trial.next(at), Step::Wait);
    }
    assert_eq!(trial.next(3100), Step::Start);
    trial.state.not_started(trial.at(3100), Unstarted::NoRoom);
    assert_eq!(trial.next(3100), Step::Exit(126));
}

#[test]
fn a_stop_gives_the_group_30_s_from_the_first_signal() {
    let mut trial = Trial::new(Restart::Always);
    trial.start(0);
    assert!(trial.stop(1000));
    assert!(trial.stop(9000), "the second signal is forwarded too");
    assert!(trial.state.is_stopping());
    assert_eq!(trial.state.due(), Some(trial.at(31_000)));
    assert_eq!(trial.next(30_999), Step::Wait);
    assert_eq!(trial.next(31_000), Step::Kill);
    assert_eq!(trial.next(31_000), Step::Wait);
    assert_eq!(trial.state.due(), None);
    trial.state.ended(trial.at(31_001), End::Signal(9));
    assert_eq!(trial.next(31_001), Step::Wait, "the group had its SIGKILL");
    trial.state.emptied();
    assert_eq!(trial.next(31_001), Step::Exit(137));
}

#[test]
fn a_child_that_ends_at_the_signal_leaves_the_rest_of_its_group_the_whole_time() {
    let mut trial = Trial::new(Restart::OnFailure);
    trial.start(0);
    assert!(trial.stop(1000));
    trial.state.ended(trial.at(2000), End::Code(0));
    assert!(trial.state.is_leaving());
    assert_eq!(trial.next(2000), Step::Wait);
    assert_eq!(trial.state.due(), Some(trial.at(31_000)));
    assert_eq!(trial.next(31_000), Step::Kill);
    trial.state.emptied();
    assert_eq!(trial.next(31_000), Step::Exit(0));
}

#[test]
fn a_signal_while_the_rest_of_a_failed_child_ends_forbids_the_restart() {
    let mut trial = Trial::new(Restart::OnFailure);
    trial.start(0);
    trial.state.ended(trial.at(10), End::Code(4));
    assert_eq!(trial.next(10), Step::Kill);
    assert!(trial.stop(11));
    trial.state.emptied();
    assert_eq!(trial.next(11), Step::Exit(4));
}

#[test]
fn a_signal_without_a_child_ends_the_sidecar_with_the_last_code() {
    let mut trial = Trial::new(Restart::OnFailure);
    trial.run(0, 10, End::Code(4));
    assert!(!trial.stop(50), "there is no group");
    assert_eq!(trial.next(50), Step::Exit(4));
    assert_eq!(trial.state.due(), None);

    let mut trial = Trial::new(Restart::OnFailure);
    assert!(!trial.stop(0));
    assert_eq!(trial.next(0), Step::Exit(0), "no child has run");
}
