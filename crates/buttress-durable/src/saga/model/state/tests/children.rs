//! Sagas with parents and children.

use super::*;
use crate::saga::model::child::Parent;
use EntryKind::{Committed, Completed, Held, Stuck};

const DONE: [(EntryKind, u16); 4] =
    [(ActionStarted, 0), (ActionDone, 0), (ActionStarted, 1), (ActionDone, 1)];

/// Two steps, of which the second runs a child saga if `child` is set.
fn two(child: bool) -> Plan {
    let kinds: [(Kind, bool, &[u16]); 2] =
        [(Kind::Compensatable, true, &[]), (Kind::Compensatable, true, &[0])];
    let mut steps = steps(&kinds);
    steps[1].runs_child = child;
    Plan::new(Name::from("test"), steps, 16).unwrap()
}

/// Returns the state after the first entry of a child, and the entries of `log`.
fn child(plan: &Plan, holds: bool, log: &[(EntryKind, u16)]) -> State {
    let parent = Parent { saga: 7, step: "ship".to_owned(), holds };
    let mut state = State::new(plan.steps.len());
    state.add(&parent.entry::<()>()).unwrap();
    log.iter().for_each(|(kind, step)| state.apply(*kind, *step).unwrap());
    state
}

fn decide(state: &State, plan: &Plan) -> Vec<Command> {
    state.decide(plan, Situation::default())
}

const CANCELLED: Situation =
    Situation { cancelled: true, past_deadline: false, children_committed: false };
const LATE: Situation =
    Situation { cancelled: false, past_deadline: true, children_committed: false };

#[test]
fn a_held_child_waits_for_its_parent_and_completes_once_that_commits() {
    let plan = two(false);
    let mut state = child(&plan, true, &DONE);
    assert_eq!(decide(&state, &plan), [Command::Hold]);
    assert!(state.apply(Completed, 0).is_err(), "the parent decides");
    assert!(state.apply(Committed, 0).is_err(), "it is not held yet");
    for _ in 0..2 {
        // Twice: a worker may take it by chance.
        state.apply(Held, 0).unwrap();
        assert_eq!(decide(&state, &plan), []);
        assert!(state.is_waiting(&plan, Situation::default()));
    }
    assert!(state.apply(Completed, 0).is_err(), "the parent decides");
    assert!(state.is_waiting(&plan, LATE), "it was done in time");
    assert_eq!(state.decide(&plan, CANCELLED), [Unwind(Reason::Cancelled)]);
    assert!(!state.is_waiting(&plan, CANCELLED) && !state.is_committed(&plan));
    state.apply(Committed, 0).unwrap();
    for situation in [Situation::default(), CANCELLED, LATE] {
        assert_eq!(state.decide(&plan, situation), [Complete]);
        assert!(!state.is_waiting(&plan, situation));
    }
    assert!(state.is_committed(&plan));
    let before = state.clone();
    for kind in [Unwinding, Held, Committed, EntryKind::ChildOf] {
        assert!(state.apply(kind, 0).is_err(), "{kind:?}");
    }
    assert_eq!(state, before);
    state.apply(Completed, 0).unwrap();
    assert_eq!(state.status(), Status::Completed);
}

#[test]
fn a_held_child_that_is_cancelled_undoes_its_steps() {
    let plan = two(false);
    let mut state = child(&plan, true, &DONE);
    state.apply(Held, 0).unwrap();
    state.apply(Unwinding, 0).unwrap();
    assert_eq!(decide(&state, &plan), [Undo(1)]);
    assert!(!state.is_waiting(&plan, CANCELLED));
    for kind in [Held, Committed] {
        assert!(state.apply(kind, 0).is_err(), "{kind:?}");
    }
}

#[test]
fn a_child_that_is_not_held_completes_by_itself() {
    let plan = two(false);
    assert_eq!(decide(&child(&plan, false, &DONE), &plan), [Complete]);
    assert!(child(&plan, false, &DONE).apply(Held, 0).is_err());
}

#[test]
fn a_child_is_held_only_when_all_its_steps_are_done() {
    let plan = two(false);
    for count in 0..DONE.len() {
        let mut state = child(&plan, true, &DONE[..count]);
        let before = state.clone();
        assert!(state.apply(Held, 0).is_err(), "after {count} entries");
        assert_eq!(state, before);
    }
}

#[test]
fn a_child_that_is_cancelled_before_it_started_is_compensated() {
    let plan = two(false);
    let state = child(&plan, true, &[(Unwinding, 0)]);
    assert_eq!(decide(&state, &plan), [Compensate]);
}

#[test]
fn the_parent_is_in_the_first_entry_only() {
    let plan = two(false);
    let entry = Parent { saga: 7, step: "ship".to_owned(), holds: true }.entry::<()>();
    assert!(after(&plan, &DONE).add(&entry).is_err());
    assert!(child(&plan, true, &[]).add(&entry).is_err());
    let unreadable = Entry::<()>::ChildOf { parent: "me".to_owned() };
    assert_eq!(State::new(2).add(&unreadable), Err("the parent cannot be read".to_owned()));
}

#[test]
fn a_saga_with_held_children_commits_before_it_completes() {
    let plan = two(true);
    let mut state = after(&plan, &DONE);
    assert_eq!(decide(&state, &plan), [Command::Commit]);
    assert_eq!(state.decide(&plan, CANCELLED), [Unwind(Reason::Cancelled)]);
    state.apply(Committed, 0).unwrap();
    assert!(state.is_committed(&plan));
    for situation in [Situation::default(), CANCELLED, LATE] {
        assert_eq!(state.decide(&plan, situation), [], "its children come first");
        let committed = Situation { children_committed: true, ..situation };
        assert_eq!(state.decide(&plan, committed), [Complete]);
    }
    // Neither a saga that completes without held children, nor one with a step left, commits.
    assert_eq!(decide(&after(&two(false), &DONE), &two(false)), [Complete]);
    assert!(after(&plan, &DONE[..3]).apply(Committed, 0).is_err());
}

#[test]
fn a_child_with_children_is_held_first() {
    let plan = two(true);
    let mut state = child(&plan, true, &DONE);
    assert_eq!(decide(&state, &plan), [Command::Hold]);
    state.apply(Held, 0).unwrap();
    state.apply(Committed, 0).unwrap();
    assert_eq!(decide(&state, &plan), []);
    let committed = Situation { children_committed: true, ..Situation::default() };
    assert_eq!(state.decide(&plan, committed), [Complete]);
}

#[test]
fn a_saga_stuck_at_a_child_looks_at_it_again() {
    let plan = two(true);
    let mut acting = after(&plan, &DONE[..3]);
    acting.apply(Stuck, 1).unwrap();
    assert_eq!((acting.status(), acting.steps[1]), (Status::Stuck, Step::Acting));
    assert!(acting.clone().apply(Skipped, 1).is_err(), "an action is not skipped");
    acting.apply(Retried, 1).unwrap();
    assert_eq!((acting.status(), acting.steps[1]), (Status::Running, Step::Acting));
    let mut undoing = after(&plan, &DONE);
    for (kind, step) in [(Unwinding, 0), (UndoStarted, 1), (Stuck, 1)] {
        undoing.apply(kind, step).unwrap();
    }
    let mut skipped = undoing.clone();
    undoing.apply(Retried, 1).unwrap();
    assert_eq!((undoing.stuck, undoing.steps[1]), (false, Step::Undoing { in_doubt: false }));
    skipped.apply(Skipped, 1).unwrap();
    assert_eq!(decide(&skipped, &plan), [Undo(0)]);
}

#[test]
fn a_saga_stuck_at_a_commit_commits_again_or_completes_without_the_child() {
    let plan = two(true);
    let mut stuck = after(&plan, &DONE);
    assert!(stuck.clone().apply(Retried, 1).is_err(), "nothing is stuck");
    stuck.apply(Committed, 0).unwrap();
    stuck.apply(Stuck, 1).unwrap();
    assert_eq!(decide(&stuck, &plan), []);
    let mut skipped = stuck.clone();
    stuck.apply(Retried, 1).unwrap();
    assert_eq!((stuck.stuck, stuck.hold), (false, Hold::Committed));
    skipped.apply(Skipped, 1).unwrap();
    assert_eq!((skipped.stuck, decide(&skipped, &plan)), (false, vec![Complete]));
    assert!(skipped.is_committed(&plan));
    assert!(skipped.apply(Unwinding, 0).is_err());
}
