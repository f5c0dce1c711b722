use super::*;

fn step(name: &'static str, kind: Kind, parents: &[u16]) -> StepPlan {
    let parents = parents.to_vec();
    StepPlan { name: Name::from(name), kind, parents, ..StepPlan::default() }
}

fn check(steps: Vec<StepPlan>) -> Result<(), InvalidDefinition> {
    Plan::new(Name::from("test"), steps, 1).map(|_| ())
}

use Kind::{Compensatable, Pivot, Retryable};

#[test]
fn what_no_definition_may_be() {
    let saga = Name::from("test");
    let name = Name::from;
    assert_eq!(check(vec![]), Err(InvalidDefinition::Empty { saga }));
    let twice = vec![step("a", Compensatable, &[]), step("a", Compensatable, &[0])];
    assert_eq!(check(twice), Err(InvalidDefinition::Duplicate { saga, step: name("a") }));
    let cycle = vec![step("a", Compensatable, &[1]), step("b", Compensatable, &[0])];
    assert_eq!(check(cycle), Err(InvalidDefinition::Cycle { saga, step: name("a") }));
    let own = vec![step("a", Compensatable, &[0])];
    assert_eq!(check(own), Err(InvalidDefinition::Cycle { saga, step: name("a") }));
    let pivots = vec![step("a", Pivot, &[]), step("b", Pivot, &[0])];
    let two = InvalidDefinition::TwoPivots { saga, first: name("a"), second: name("b") };
    assert_eq!(check(pivots), Err(two));
    let mut useless = step("a", Pivot, &[]);
    useless.has_undo = true;
    assert_eq!(check(vec![useless]), Err(InvalidDefinition::UselessUndo { saga, step: name("a") }));
    let none = Plan::new(saga, vec![step("a", Pivot, &[])], 0).map(|_| ());
    assert_eq!(none, Err(InvalidDefinition::NoConcurrency { saga }));
}

#[test]
fn kinds_in_an_order_that_leaves_a_way_back() {
    let saga = Name::from("test");
    let name = Name::from;
    let right = vec![
        step("a", Compensatable, &[]),
        step("b", Compensatable, &[]),
        step("c", Pivot, &[0, 1]),
        step("d", Retryable, &[2]),
    ];
    assert_eq!(check(right), Ok(()));
    let beside = vec![step("a", Compensatable, &[]), step("b", Pivot, &[])];
    let misplaced = InvalidDefinition::Misplaced { saga, step: name("a"), before: name("b") };
    assert_eq!(check(beside), Err(misplaced));
    let after = vec![step("a", Pivot, &[]), step("b", Compensatable, &[0])];
    let misplaced = InvalidDefinition::Misplaced { saga, step: name("b"), before: name("a") };
    assert_eq!(check(after), Err(misplaced));
    let wait =
        |parents| StepPlan { waits: Some(Wait::Time), ..step("wait", Compensatable, parents) };
    let after = vec![step("a", Pivot, &[]), wait(&[0]), step("c", Retryable, &[1])];
    assert_eq!(check(after), Ok(()), "a wait can come after the pivot");
    let beside = vec![wait(&[]), step("b", Pivot, &[])];
    assert_eq!(check(beside), Ok(()), "a wait can run beside the pivot");
    let early = vec![step("a", Retryable, &[]), step("b", Pivot, &[0])];
    let before = InvalidDefinition::BeforePivot { saga, step: name("a"), pivot: name("b") };
    assert_eq!(check(early), Err(before));
    // Without a pivot, the first retryable step is the point of no return.
    let late = vec![step("a", Retryable, &[]), step("b", Compensatable, &[])];
    let misplaced = InvalidDefinition::Misplaced { saga, step: name("b"), before: name("a") };
    assert_eq!(check(late), Err(misplaced));
}
