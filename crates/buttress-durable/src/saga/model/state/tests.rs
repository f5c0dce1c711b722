use buttress::Name;
use proptest::prelude::*;

use super::*;
use crate::saga::model::plan::{Kind, OnCrash, Plan, StepPlan, Wait as Waits};

use Command::{Act, Compensate, Complete, Stick, Undo, Unwind, Wait};
use EntryKind::{
    ActionDone, ActionFailed, ActionInDoubt, ActionStarted, DidNotHappen, Happened, Retried,
    Skipped, UndoDone, UndoFailed, UndoStarted, Unwinding,
};

fn steps(steps: &[(Kind, bool, &[u16])]) -> Vec<StepPlan> {
    let names = ["a", "b", "c", "d", "e", "f"];
    let steps = steps.iter().zip(names).map(|((kind, has_undo, parents), name)| StepPlan {
        name: Name::from(name),
        kind: *kind,
        on_crash: OnCrash::default(),
        has_undo: *has_undo,
        parents: parents.to_vec(),
        ..StepPlan::default()
    });
    steps.collect()
}

fn plan(kinds: &[(Kind, bool, &[u16])], max_concurrent: usize) -> Plan {
    Plan::new(Name::from("test"), steps(kinds), max_concurrent).unwrap()
}

fn three() -> Plan {
    let step = Kind::Compensatable;
    plan(&[(step, true, &[]), (step, true, &[0]), (step, true, &[1])], 16)
}

/// The log of a saga of [`three`] steps whose third step failed.
const THIRD_FAILED: [(EntryKind, u16); 6] = [
    (ActionStarted, 0),
    (ActionDone, 0),
    (ActionStarted, 1),
    (ActionDone, 1),
    (ActionStarted, 2),
    (ActionFailed, 2),
];

/// Returns the state after the entries of `log`.
fn after(plan: &Plan, log: &[(EntryKind, u16)]) -> State {
    let mut state = State::new(plan.steps.len());
    for (kind, step) in log {
        state.apply(*kind, *step).unwrap();
    }
    state
}

fn next(plan: &Plan, log: &[(EntryKind, u16)]) -> Vec<Command> {
    after(plan, log).decide(plan, Situation::default())
}

#[test]
fn steps_in_sequence_then_the_end() {
    let plan = three();
    let mut log = Vec::new();
    for step in 0..3 {
        assert_eq!(next(&plan, &log), [Act(step)]);
        log.push((ActionStarted, step));
        assert_eq!(next(&plan, &log), []);
        log.push((ActionDone, step));
    }
    assert_eq!(next(&plan, &log), [Complete]);
    log.push((EntryKind::Completed, 0));
    assert_eq!(after(&plan, &log).status(), Status::Completed);
    assert!(after(&plan, &log).apply(ActionStarted, 0).is_err(), "nothing follows the end");
}

#[test]
fn a_definite_failure_undoes_what_was_done_in_reverse() {
    let plan = three();
    let mut log = THIRD_FAILED.to_vec();
    assert_eq!(next(&plan, &log), [Unwind(Reason::Step(2))]);
    log.push((Unwinding, 0));
    for step in [1, 0] {
        assert_eq!(next(&plan, &log), [Undo(step)], "the failed step had no effect");
        log.extend([(UndoStarted, step), (UndoDone, step)]);
    }
    assert_eq!(next(&plan, &log), [Compensate]);
}

#[test]
fn a_step_in_doubt_is_undone_before_all_others() {
    // b and c run concurrently after a. c is in doubt while b is done.
    let step = Kind::Compensatable;
    let plan = plan(&[(step, true, &[]), (step, true, &[0]), (step, true, &[0])], 16);
    let mut log = vec![(ActionStarted, 0), (ActionDone, 0)];
    assert_eq!(next(&plan, &log), [Act(1), Act(2)]);
    log.extend([(ActionStarted, 1), (ActionStarted, 2), (ActionInDoubt, 2)]);
    assert_eq!(next(&plan, &log), [Unwind(Reason::Step(2))]);
    log.push((Unwinding, 0));
    assert_eq!(next(&plan, &log), [], "b is still acting");
    log.push((ActionDone, 1));
    assert_eq!(next(&plan, &log), [Undo(2)]);
    log.extend([(UndoStarted, 2)]);
    assert_eq!(next(&plan, &log), []);
    log.push((UndoDone, 2));
    assert_eq!(next(&plan, &log), [Undo(1)]);
}

#[test]
fn a_step_without_an_undo_stays_as_it_is() {
    // a, then b without an undo, then c; d fails while c runs. The list has the steps in two
    // orders.
    let step = Kind::Compensatable;
    for (names, steps) in [
        (
            [0, 1, 2, 3],
            [(step, true, &[][..]), (step, false, &[0]), (step, true, &[1]), (step, true, &[1])],
        ),
        (
            [3, 2, 1, 0],
            [(step, true, &[2][..]), (step, true, &[2]), (step, false, &[3]), (step, true, &[])],
        ),
    ] {
        let plan = plan(&steps, 16);
        let [a, b, c, d] = names;
        let mut log =
            vec![(ActionStarted, a), (ActionDone, a), (ActionStarted, b), (ActionDone, b)];
        log.extend([(ActionStarted, c), (ActionStarted, d), (ActionDone, c), (ActionFailed, d)]);
        log.push((Unwinding, 0));
        assert_eq!(next(&plan, &log), [Undo(c)], "a is needed by b, and b by c");
        log.push((UndoStarted, c));
        assert_eq!(next(&plan, &log), []);
        log.push((UndoDone, c));
        assert_eq!(next(&plan, &log), [Undo(a)]);
        log.extend([(UndoStarted, a), (UndoDone, a)]);
        assert_eq!(next(&plan, &log), [Compensate]);
        assert_eq!(after(&plan, &log).steps[usize::from(b)], Step::Done);
        assert!(after(&plan, &log).apply(UndoDone, b).is_err());
    }
}

#[test]
fn a_step_in_doubt_without_an_undo_holds_nothing_up() {
    let step = Kind::Compensatable;
    let plan = plan(&[(step, true, &[]), (step, false, &[0])], 16);
    let mut log = vec![(ActionStarted, 0), (ActionDone, 0), (ActionStarted, 1)];
    log.extend([(ActionInDoubt, 1), (Unwinding, 0)]);
    assert_eq!(next(&plan, &log), [Undo(0)]);
    log.extend([(UndoStarted, 0), (UndoDone, 0)]);
    assert_eq!(next(&plan, &log), [Compensate]);
    assert_eq!(after(&plan, &log).steps, [Step::Undone, Step::InDoubt]);
}

#[test]
fn no_more_steps_at_once_than_allowed() {
    let step = Kind::Compensatable;
    let plan = plan(&[(step, true, &[]), (step, true, &[]), (step, true, &[])], 2);
    assert_eq!(next(&plan, &[]), [Act(0), Act(1)]);
    assert_eq!(next(&plan, &[(ActionStarted, 0), (ActionStarted, 1)]), []);
    assert_eq!(next(&plan, &[(ActionStarted, 0), (ActionStarted, 1), (ActionDone, 0)]), [Act(2)]);
}

#[test]
fn past_the_pivot_there_is_no_way_back() {
    let plan = plan(
        &[
            (Kind::Compensatable, true, &[]),
            (Kind::Pivot, false, &[0]),
            (Kind::Retryable, false, &[1]),
        ],
        16,
    );
    let wish = Situation { cancelled: true, past_deadline: true, ..Situation::default() };
    let started = [(ActionStarted, 0), (ActionDone, 0), (ActionStarted, 1)];
    assert_eq!(
        after(&plan, &started).decide(&plan, wish),
        [],
        "the saga waits for a pivot in progress"
    );
    let done = [&started[..], &[(ActionDone, 1)]].concat();
    assert_eq!(after(&plan, &done).decide(&plan, wish), [Act(2)]);
    let failed = [&done[..], &[(ActionStarted, 2), (ActionFailed, 2)]].concat();
    assert_eq!(after(&plan, &failed).decide(&plan, wish), [Stick(2)]);
    let stuck = [&failed[..], &[(EntryKind::Stuck, 2)]].concat();
    assert_eq!(after(&plan, &stuck).status(), Status::Stuck);
    assert_eq!(after(&plan, &stuck).decide(&plan, wish), []);
    let again = [&stuck[..], &[(Retried, 2)]].concat();
    assert_eq!(after(&plan, &again).decide(&plan, wish), [Act(2)]);
}

#[test]
fn a_pivot_that_failed_unwinds_and_one_in_doubt_is_for_an_operator() {
    let plan = plan(&[(Kind::Compensatable, true, &[]), (Kind::Pivot, false, &[0])], 16);
    let started = [(ActionStarted, 0), (ActionDone, 0), (ActionStarted, 1)];
    let failed = [&started[..], &[(ActionFailed, 1)]].concat();
    assert_eq!(next(&plan, &failed), [Unwind(Reason::Step(1))]);
    let doubt = [&started[..], &[(ActionInDoubt, 1)]].concat();
    assert_eq!(next(&plan, &doubt), [Stick(1)]);
    let stuck = [&doubt[..], &[(EntryKind::Stuck, 1)]].concat();
    let happened = [&stuck[..], &[(Happened, 1)]].concat();
    assert_eq!(next(&plan, &happened), [Complete]);
    let not = [&stuck[..], &[(DidNotHappen, 1)]].concat();
    assert_eq!(next(&plan, &not), [Unwind(Reason::Step(1))]);
}

#[test]
fn a_failed_undo_holds_what_it_depends_on_until_an_operator_decides() {
    let plan = three();
    let log = [&THIRD_FAILED[..], &[(Unwinding, 0), (UndoStarted, 1), (UndoFailed, 1)]].concat();
    assert_eq!(next(&plan, &log), [Stick(1)]);
    let stuck = [&log[..], &[(EntryKind::Stuck, 1)]].concat();
    assert_eq!(next(&plan, &[&stuck[..], &[(Retried, 1)]].concat()), [Undo(1)]);
    assert_eq!(next(&plan, &[&stuck[..], &[(Skipped, 1)]].concat()), [Undo(0)]);
}

#[test]
fn cancel_and_deadline_unwind_before_the_first_step_too() {
    let plan = three();
    let cancelled = Situation { cancelled: true, past_deadline: false, ..Situation::default() };
    assert_eq!(State::new(3).decide(&plan, cancelled), [Unwind(Reason::Cancelled)]);
    let late = Situation { cancelled: false, past_deadline: true, ..Situation::default() };
    assert_eq!(State::new(3).decide(&plan, late), [Unwind(Reason::Deadline)]);
    let unwound = after(&plan, &[(Unwinding, 0)]);
    assert_eq!(unwound.decide(&plan, late), [Compensate]);
}

#[test]
fn a_late_result_changes_nothing() {
    let plan = three();
    let mut state = after(&plan, &[(ActionStarted, 0), (ActionInDoubt, 0), (Unwinding, 0)]);
    let before = state.clone();
    assert!(state.apply(ActionDone, 0).is_err());
    assert_eq!(state, before);
    assert!(state.apply(ActionDone, 7).is_err(), "a step that does not exist");
}

#[path = "tests/children.rs"]
mod children;
#[path = "tests/signals.rs"]
mod signals;
#[path = "tests/waits.rs"]
mod waits;

proptest! {
    /// For all failures and all orders of ends: dependencies hold in both directions, no more steps
    /// run than allowed, waits for times and signals hold nothing up but what comes after them, and every saga ends with all effects or none.
    #[test]
    fn every_saga_ends_whole(
        edges in proptest::collection::vec((0u16..6, 0u16..6), 0..8),
        outcomes in proptest::collection::vec(0u8..8, 64),
        max in 1usize..4,
        waits in 0u8..64,
        signals in 0u8..64,
    ) {
        let parents = |step: u16| -> Vec<u16> {
            let own = edges.iter().filter(|(a, b)| a < b && *b == step).map(|(a, _)| *a);
            own.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
        };
        let steps: Vec<_> = (0..6).map(|step| (Kind::Compensatable, true, parents(step))).collect();
        let steps: Vec<(Kind, bool, &[u16])> =
            steps.iter().map(|(kind, undo, parents)| (*kind, *undo, parents.as_slice())).collect();
        let mut plan = plan(&steps, max);
        let is_wait = |step: u16| waits >> step & 1 == 1;
        for (_, step) in (0u16..).zip(&mut plan.steps).filter(|(number, _)| is_wait(*number)) {
            (step.waits, step.has_undo) = (Some(Waits::Signal), false);
        }
        let mut waiting: Vec<u16> = Vec::new();
        let mut state = State::new(6);
        let mut running: Vec<Command> = Vec::new();
        let mut effects = [false; 6];
        let mut outcomes = outcomes.into_iter().cycle();
        for _ in 0..200 {
            let commands = state.decide(&plan, Situation::default());
            for command in commands {
                match command {
                    Act(step) => {
                        for parent in &plan.steps[usize::from(step)].parents {
                            prop_assert_eq!(state.steps[usize::from(*parent)], Step::Done);
                        }
                        state.apply(ActionStarted, step).unwrap();
                        running.push(command);
                    }
                    Wait(step) => {
                        prop_assert!(is_wait(step));
                        let entry = Entry::<()>::wait_started(step, Duration::from_secs(1));
                        state.add(&entry).unwrap();
                        waiting.push(step);
                    }
                    Undo(step) => {
                        prop_assert!(!is_wait(step), "a wait is never undone");
                        for child in &plan.steps[usize::from(step)].children {
                            prop_assert!(!effects[usize::from(*child)], "a child still has its effect");
                        }
                        state.apply(UndoStarted, step).unwrap();
                        running.push(command);
                    }
                    Unwind(_) => state.apply(Unwinding, 0).unwrap(),
                    Stick(step) => state.apply(EntryKind::Stuck, step).unwrap(),
                    Command::Hold | Command::Commit => prop_assert!(false, "it has no parent and no child"),
                    Complete => state.apply(EntryKind::Completed, 0).unwrap(),
                    Compensate => state.apply(EntryKind::Compensated, 0).unwrap(),
                }
            }
            prop_assert!(running.len() <= max);
            if state.status().is_ended() { break; }
            if state.phase != Phase::Forward { waiting.clear(); }
            if running.is_empty() {
                prop_assert_eq!(state.is_waiting(&plan, Situation::default()), !waiting.is_empty());
                if let Some(step) = waiting.pop() {
                    let is_late = outcomes.next().unwrap() == 0;
                    let end = match (signals >> step & 1 == 1, is_late) {
                        (true, true) => ActionFailed,
                        (true, false) => EntryKind::Signalled,
                        (false, _) => EntryKind::WaitEnded,
                    };
                    state.apply(end, step).unwrap();
                }
                continue;
            }
            prop_assert!(!state.is_waiting(&plan, Situation::default()));
            let outcome = outcomes.next().unwrap();
            let which = usize::from(outcome) % running.len();
            match running.remove(which) {
                Act(step) => {
                    let (kind, effect) = match outcome {
                        0 => (ActionFailed, false),
                        1 => (ActionInDoubt, true),
                        _ => (ActionDone, true),
                    };
                    effects[usize::from(step)] = effect;
                    state.apply(kind, step).unwrap();
                }
                Undo(step) => {
                    effects[usize::from(step)] = false;
                    state.apply(UndoDone, step).unwrap();
                }
                other => prop_assert!(false, "{other:?} does not run"),
            }
        }
        match state.phase {
            Phase::Completed => {
                for step in 0..6u16 {
                    prop_assert_eq!(effects[usize::from(step)], !is_wait(step));
                }
            }
            Phase::Compensated => prop_assert_eq!(effects, [false; 6]),
            _ => prop_assert!(false, "the saga did not end: {:?}", state),
        }
    }
}
