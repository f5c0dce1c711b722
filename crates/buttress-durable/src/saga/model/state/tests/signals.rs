//! Steps that wait for a signal.

use super::waits::{HOUR, is_waiting, waits, with};
use super::*;
use EntryKind::{Signalled, WaitEnded};

/// Returns a plan of an action, a wait for a signal, and a last step of this kind.
fn three_with_a_signal(last: Kind) -> Plan {
    let step = Kind::Compensatable;
    let plan =
        with(&[(step, true, &[]), (step, false, &[0]), (last, false, &[1])], &[(1, Waits::Signal)]);
    assert!(plan.has_signals && plan.steps[1].takes_signal() && !plan.steps[0].takes_signal());
    plan
}

/// Returns the state of a saga that waits for its signal.
fn waiting(plan: &Plan) -> State {
    let mut state = after(plan, &[(ActionStarted, 0), (ActionDone, 0)]);
    assert_eq!(state.decide(plan, Situation::default()), [Wait(1)]);
    waits(&mut state, 1, HOUR);
    assert!(is_waiting(&state, plan));
    state
}

#[test]
fn a_signal_ends_its_wait_and_its_step_is_done() {
    let plan = three_with_a_signal(Kind::Compensatable);
    let mut state = waiting(&plan);
    state.add(&Entry::Signalled { step: 1, output: () }).unwrap();
    assert_eq!((state.steps[1], state.waits.len()), (Step::Done, 0));
    assert_eq!(state.decide(&plan, Situation::default()), [Act(2)]);
}

#[test]
fn a_signal_that_does_not_come_in_time_unwinds_the_saga() {
    let plan = three_with_a_signal(Kind::Compensatable);
    let mut state = waiting(&plan);
    state.apply(ActionFailed, 1).unwrap();
    assert_eq!((state.steps[1], state.waits.len()), (Step::Failed, 0));
    assert!(!is_waiting(&state, &plan));
    assert_eq!(state.decide(&plan, Situation::default()), [Unwind(Reason::Step(1))]);
    state.apply(Unwinding, 0).unwrap();
    assert_eq!(state.decide(&plan, Situation::default()), [Undo(0)]);
}

#[test]
fn the_first_end_of_a_wait_is_the_only_one() {
    let plan = three_with_a_signal(Kind::Compensatable);
    let ends = [Signalled, ActionFailed, WaitEnded];
    for first in ends {
        for second in ends {
            let mut state = waiting(&plan);
            state.apply(first, 1).unwrap();
            let before = state.clone();
            assert!(state.apply(second, 1).is_err(), "{second:?} after {first:?}");
            assert_eq!(state, before);
        }
        let mut unwound = waiting(&plan);
        unwound.apply(Unwinding, 0).unwrap();
        assert!(unwound.apply(first, 1).is_err(), "{first:?} of a saga that unwinds");
    }
    assert!(State::fold(1, [&Entry::Signalled { step: 0, output: () }]).is_err(), "no wait");
}

#[test]
fn past_the_point_of_no_return_a_saga_without_its_signal_is_stuck_and_waits_again() {
    let steps: [(Kind, bool, &[u16]); 2] =
        [(Kind::Pivot, false, &[]), (Kind::Compensatable, false, &[0])];
    let plan = with(&steps, &[(1, Waits::Signal)]);
    let mut state = waiting(&plan);
    state.apply(ActionFailed, 1).unwrap();
    assert_eq!(state.decide(&plan, Situation::default()), [Stick(1)]);
    state.apply(EntryKind::Stuck, 1).unwrap();
    let mut happened = state.clone();
    happened.apply(Happened, 1).unwrap();
    assert_eq!(happened.decide(&plan, Situation::default()), [Complete]);
    state.apply(Retried, 1).unwrap();
    assert_eq!(state.decide(&plan, Situation::default()), [Wait(1)]);
}

#[test]
fn the_shape_tells_signals_from_waits_and_actions() {
    let shape = |kind| {
        let steps = with(&[(Kind::Compensatable, false, &[])], &[(0, kind)]);
        crate::saga::model::drawing::shape(&steps)
    };
    assert_eq!(shape(Waits::Time), "a:w[];");
    assert_eq!(shape(Waits::Signal), "a:s[];");
    assert_eq!(shape(Waits::OptionalSignal), "a:o[];");
}
