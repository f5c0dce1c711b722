//! The steps of sagas whose process crashes.

use buttress_durable::saga::{Builder, Kind, StepHandle};
use buttress_sim::inject::{Effects, Injected, Overtaken, StepFaults};
use tower::BoxError;

/// Adds a step whose participant knows a repeated call, and records its effects.
pub(super) fn step(
    saga: &mut Builder<u32>,
    (effects, faults): (&Effects, &StepFaults),
    name: &'static str,
    kind: Kind,
) -> StepHandle<u32> {
    let participant = effects.participant(|input: &u32| *input);
    let failed = |injected: Injected| -> BoxError {
        if injected.is_definite() { "refused".into() } else { "lost".into() }
    };
    let service = faults.around(participant, failed);
    let is_refusal =
        |error: &BoxError| error.is::<Overtaken>() || error.to_string().contains("refused");
    let step = saga.step(name).kind(kind);
    let step = step.action((), service.clone(), |input: &u32, ()| *input);
    let step = step.definite(is_refusal);
    match kind {
        Kind::Compensatable => step.undo((), service, |input: &u32, (), _| *input).add(),
        _ => step.add(),
    }
}
