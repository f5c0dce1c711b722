//! Steps that wait for a time.

use super::*;

pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// Returns a plan of these steps, one at a time, of which those in `waits` wait.
fn with_waits(kinds: &[(Kind, bool, &[u16])], waits: &[usize]) -> Plan {
    let waits: Vec<_> = waits.iter().map(|number| (*number, Waits::Time)).collect();
    with(kinds, &waits)
}

/// Returns a plan of these steps, one at a time, of which some wait.
pub(super) fn with(kinds: &[(Kind, bool, &[u16])], waits: &[(usize, Waits)]) -> Plan {
    let mut steps = steps(kinds);
    for (number, wait) in waits {
        steps[*number].waits = Some(*wait);
    }
    let plan = Plan::new(Name::from("test"), steps, 1).unwrap();
    assert!(plan.has_waits);
    plan
}

/// Returns a plan of an action, a wait of an hour, and another action.
fn three_with_a_wait() -> Plan {
    let step = Kind::Compensatable;
    with_waits(&[(step, true, &[]), (step, false, &[0]), (step, true, &[1])], &[1])
}

pub(super) fn waits(state: &mut State, step: u16, length: Duration) {
    state.add(&Entry::<()>::wait_started(step, length)).unwrap();
}

pub(super) fn is_waiting(state: &State, plan: &Plan) -> bool {
    state.is_waiting(plan, Situation::default())
}

#[test]
fn a_wait_holds_up_the_steps_after_it_until_its_end() {
    let plan = three_with_a_wait();
    let mut state = after(&plan, &[(ActionStarted, 0)]);
    assert!(!is_waiting(&state, &plan));
    state.apply(ActionDone, 0).unwrap();
    assert_eq!(state.decide(&plan, Situation::default()), [Wait(1)]);
    assert!(!is_waiting(&state, &plan), "the wait has not begun");
    waits(&mut state, 1, HOUR);
    assert_eq!(state.waits, [(1, HOUR)]);
    assert_eq!(state.decide(&plan, Situation::default()), []);
    assert!(is_waiting(&state, &plan));
    // A worker that resumes the saga starts the wait again.
    waits(&mut state, 1, HOUR / 2);
    assert_eq!(state.waits, [(1, HOUR / 2)]);
    state.apply(EntryKind::WaitEnded, 1).unwrap();
    assert!(!is_waiting(&state, &plan) && state.waits.is_empty());
    assert_eq!(state.steps[1], Step::Done);
    assert_eq!(state.decide(&plan, Situation::default()), [Act(2)]);
}

#[test]
fn a_cancel_or_the_deadline_ends_a_wait_and_undoes_nothing_of_it() {
    let plan = three_with_a_wait();
    let mut state = after(&plan, &[(ActionStarted, 0), (ActionDone, 0)]);
    waits(&mut state, 1, HOUR);
    for (situation, reason) in [
        (
            Situation { cancelled: true, past_deadline: false, ..Situation::default() },
            Reason::Cancelled,
        ),
        (
            Situation { cancelled: false, past_deadline: true, ..Situation::default() },
            Reason::Deadline,
        ),
    ] {
        assert_eq!(state.decide(&plan, situation), [Unwind(reason)]);
        assert!(!state.is_waiting(&plan, situation));
    }
    state.apply(Unwinding, 0).unwrap();
    assert!(state.waits.is_empty() && !is_waiting(&state, &plan));
    assert_eq!(state.decide(&plan, Situation::default()), [Undo(0)]);
    assert!(state.apply(EntryKind::WaitEnded, 1).is_err(), "the wait is over");
    assert!(state.add(&Entry::<()>::wait_started(1, HOUR)).is_err(), "nothing waits any more");
}

#[test]
fn a_wait_that_ended_is_not_undone_but_keeps_the_order_of_the_undos() {
    let plan = three_with_a_wait();
    let mut state = after(&plan, &[(ActionStarted, 0), (ActionDone, 0)]);
    waits(&mut state, 1, HOUR);
    for (kind, step) in
        [(EntryKind::WaitEnded, 1), (ActionStarted, 2), (ActionInDoubt, 2), (Unwinding, 0)]
    {
        state.apply(kind, step).unwrap();
    }
    assert_eq!(state.decide(&plan, Situation::default()), [Undo(2)]);
    state.apply(UndoStarted, 2).unwrap();
    state.apply(UndoDone, 2).unwrap();
    assert_eq!(
        state.decide(&plan, Situation::default()),
        [Undo(0)],
        "the first one after the third"
    );
}

#[test]
fn a_saga_past_its_point_of_no_return_waits_in_spite_of_a_cancel() {
    let (pivot, after_it) = (Kind::Pivot, Kind::Retryable);
    let steps: [(Kind, bool, &[u16]); 3] =
        [(pivot, false, &[]), (Kind::Compensatable, false, &[0]), (after_it, false, &[1])];
    let plan = with_waits(&steps, &[1]);
    let mut state = after(&plan, &[(ActionStarted, 0), (ActionDone, 0)]);
    waits(&mut state, 1, HOUR);
    let wish = Situation { cancelled: true, past_deadline: true, ..Situation::default() };
    assert_eq!(state.decide(&plan, wish), []);
    assert!(state.is_waiting(&plan, wish));
}

#[test]
fn steps_beside_a_wait_run_and_take_no_room_from_it() {
    let step = Kind::Compensatable;
    let plan = with_waits(&[(step, false, &[]), (step, true, &[]), (step, true, &[0, 1])], &[0]);
    assert_eq!(next(&plan, &[]), [Wait(0), Act(1)]);
    let mut state = after(&plan, &[(ActionStarted, 1)]);
    assert_eq!(state.decide(&plan, Situation::default()), [Wait(0)], "a wait needs no room");
    waits(&mut state, 0, HOUR);
    assert!(!is_waiting(&state, &plan), "the step beside it is in progress");
    state.apply(ActionDone, 1).unwrap();
    assert!(is_waiting(&state, &plan));
}

#[test]
fn a_wait_whose_length_is_not_known_unwinds_or_sticks_past_the_point_of_no_return() {
    let step = Kind::Compensatable;
    let failed = [(ActionStarted, 1), (ActionFailed, 1)];
    let early = with_waits(&[(step, true, &[]), (step, false, &[0])], &[1]);
    let done = [(ActionStarted, 0), (ActionDone, 0)];
    assert_eq!(next(&early, &[&done[..], &failed].concat()), [Unwind(Reason::Step(1))]);
    let late = with_waits(&[(Kind::Pivot, false, &[]), (step, false, &[0])], &[1]);
    let log = [&done[..], &failed].concat();
    assert_eq!(next(&late, &log), [Stick(1)]);
    let retried = [&log[..], &[(EntryKind::Stuck, 1), (Retried, 1)]].concat();
    assert_eq!(next(&late, &retried), [Wait(1)]);
}

#[test]
fn a_log_whose_wait_has_no_length_is_refused() {
    let damaged = Entry::<()>::WaitStarted { step: 0, length: "soon".to_owned() };
    let why = State::fold(1, [&damaged]).unwrap_err();
    assert_eq!(why, "entry 0 (WaitStarted): the length of the wait cannot be read");
    let ended = Entry::<()>::WaitEnded { step: 0 };
    assert!(State::fold(1, [&ended]).is_err(), "no wait has begun");
}
