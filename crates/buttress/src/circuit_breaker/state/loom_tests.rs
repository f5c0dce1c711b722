use std::time::Duration;

use super::*;
use crate::sync::beside;
use crate::vocabulary::classify::Outcome;
use loom::sync::Arc;

fn state(config: &Config) -> Arc<State> {
    Arc::new(State::new(&std::sync::Arc::new(config.clone()), false, Instant::now()))
}

fn settle(state: &State, ticket: Ticket, outcome: Outcome) -> Settled {
    state.settle(ticket, outcome, false, Instant::now, None)
}

#[test]
fn loom_two_failures_open_once() {
    loom::model(|| {
        let state = state(&Config::new().consecutive_failures(1));
        let fail = |state: &State| match state.admit(Instant::now) {
            Ok((ticket, _)) => settle(state, ticket, Outcome::Failure).transition.is_some(),
            Err(_) => false,
        };
        let other = beside(&state, move |state| fail(&state));
        let mine = fail(&state);
        assert!(mine ^ other.join().unwrap(), "one of the two opened it");
        assert_eq!(state.state(), CircuitState::Open);
    });
}

#[test]
fn loom_one_probe_at_a_time() {
    loom::model(|| {
        let now = Instant::now();
        let state = Arc::new(State::new(
            &std::sync::Arc::new(Config::new().consecutive_failures(1)),
            false,
            now,
        ));
        let (ticket, _) = state.admit(|| now).unwrap();
        state.settle(ticket, Outcome::Failure, false, || now, None);
        let later = now + Duration::from_secs(31);
        let other = beside(&state, move |state| state.admit(|| later).is_ok());
        let mine = state.admit(|| later).is_ok();
        assert!(mine ^ other.join().unwrap());
    });
}

#[test]
fn loom_a_late_failure_does_not_count_after_a_reset() {
    loom::model(|| {
        let state = state(&Config::new().consecutive_failures(2));
        let (ticket, _) = state.admit(Instant::now).unwrap();
        let late = beside(&state, move |state| settle(&state, ticket, Outcome::Failure));
        state.force(CircuitState::Closed, Instant::now());
        let (ticket, _) = state.admit(Instant::now).unwrap();
        settle(&state, ticket, Outcome::Failure);
        late.join().unwrap();
        assert_eq!(state.state(), CircuitState::Closed, "one failure of this generation");
    });
}
