//! Steps that cannot be child sagas.

use super::*;

type Step<'b> = StepBuilder<'b, u32, InMemory, ()>;

/// Returns the error of an order whose step "ship" runs `sagas`.
fn refusal(
    sagas: &Sagas,
    output: StepHandle<u64>,
    set: impl FnOnce(Step<'_>) -> Step<'_>,
) -> InvalidDefinition {
    let mut order = Definition::<u32>::builder("order", 1);
    set(order.step("ship")).child(sagas, |order: &u32, ()| *order, output);
    order.build().map(drop).unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn a_definition_that_is_not_declared_is_no_child() {
    let world = World::new();
    let mut saga = Definition::builder("shipment", 1);
    let pick = world.step(&mut saga, "pick", MINUTE);
    let error = refusal(&world.executor(saga), pick, |step| step);
    assert!(matches!(error, InvalidDefinition::NoChild { .. }), "{error}");
    assert!(error.to_string().contains("call can_be_child on its builder"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_step_that_can_be_undone_has_no_child_with_a_point_of_no_return() {
    for kind in [Kind::Pivot, Kind::Retryable] {
        let world = World::new();
        let mut saga = Definition::builder("shipment", 1).can_be_child();
        let send = world.step_of(saga.step("send").kind(kind), "send", MINUTE, false);
        let shipments = world.executor(saga);
        let error = refusal(&shipments, send, |step| step);
        let text = error.to_string();
        assert!(text.contains("step \"send\" of its child \"shipment\" is a pivot or"), "{text}");
        let mut order = Definition::<u32>::builder("order", 1);
        let ship = order.step("ship").kind(Kind::Pivot);
        ship.child(&shipments, |order: &u32, ()| *order, send);
        assert!(order.build().is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_retryable_step_has_no_child() {
    let world = World::new();
    let (shipments, pick) = shipments(&world);
    let error = refusal(&shipments, pick, |step| step.kind(Kind::Retryable));
    assert!(matches!(error, InvalidDefinition::RetryableChild { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_output_is_of_a_step_of_the_child() {
    let world = World::new();
    let (shipments, _) = shipments(&world);
    let mut other = Definition::builder("other", 1);
    let stranger = world.step(&mut other, "stranger", MINUTE);
    let error = refusal(&shipments, stranger, |step| step);
    let wanted = "step \"ship\": its child \"shipment\" has no step \"stranger\"";
    assert!(error.to_string().contains(wanted), "{error}");
}

#[tokio::test(start_paused = true)]
async fn settings_without_a_meaning_for_a_child_are_refused() {
    let world = World::new();
    let (shipments, pick) = shipments(&world);
    let backoff = || buttress::retry::Backoff::fixed(SECOND);
    let check = |set: &dyn Fn(Step<'_>) -> Step<'_>| -> InvalidDefinition {
        let mut order = Definition::<u32>::builder("order", 1);
        set(order.step("ship")).child(&shipments, |order: &u32, ()| *order, pick);
        order.build().map(drop).unwrap_err()
    };
    for (setting, error) in [
        ("timeout", check(&|step| step.timeout(SECOND))),
        ("undo_timeout", check(&|step| step.undo_timeout(SECOND))),
        ("undo_retry", check(&|step| step.undo_retry(2, backoff()))),
        ("run_again", check(&|step| step.kind(Kind::Pivot).run_again(2, backoff()))),
        ("on_crash", check(&|step| step.on_crash(OnCrash::Undo))),
        ("hint", check(&|step| step.hint(|_| None))),
    ] {
        let wanted =
            format!("{setting} has no effect, because the step runs a child saga; remove it");
        assert!(error.to_string().contains(&wanted), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_with_a_child_has_its_own_shape() {
    let world = World::new();
    let (shipments, pick) = shipments(&world);
    let (order, _) = order_of(&world, &shipments, pick, |_| {});
    let order = order.build().unwrap();
    assert_eq!(order.inner.shape, "reserve:c[];ship:C[0];");
    assert!(order.mermaid().contains("s1[[\"ship\"]]"), "{}", order.mermaid());
}
