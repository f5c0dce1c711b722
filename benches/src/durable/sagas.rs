//! The saga of all candidates: five sequential steps, each with an undo. A step adds one to the
//! output of the step before it, so the last output is the input plus five.

use std::future::Future;

use buttress::Codec;
use buttress_durable::saga::{Builder, Call, Definition, Executor, StepHandle, Store};
use std::sync::Arc;
use tower::{BoxError, service_fn};

pub const STEPS: [&str; 5] = ["one", "two", "three", "four", "five"];

/// Returns the output of the last step.
pub fn outcome(input: u64) -> u64 {
    input + STEPS.len() as u64
}

/// Stops the program if a saga did not do all of its work.
pub fn expect(who: &str, input: u64, output: u64) {
    assert!(output == outcome(input), "{who}: a saga made {output} of {input}");
}

async fn add(call: Call<u64>) -> Result<u64, BoxError> {
    Ok(call.into_request() + 1)
}

async fn take_back(_: Call<u64>) -> Result<(), BoxError> {
    Ok(())
}

/// Returns buttress's definition, and its last step.
pub fn definition<F: Codec<u64>>(codec: F) -> (Definition<u64, F>, StepHandle<u64>) {
    let mut saga = Definition::<u64>::builder("five", 1).codec(codec);
    let mut last = saga
        .step(STEPS[0])
        .action((), service_fn(add), |input: &u64, ()| *input)
        .undo((), service_fn(take_back), |input: &u64, (), _output| *input)
        .add();
    for name in &STEPS[1..] {
        last = step(&mut saga, name, last);
    }
    (saga.build().expect("valid"), last)
}

fn step<F: Codec<u64>>(
    saga: &mut Builder<u64, F>,
    name: &'static str,
    before: StepHandle<u64>,
) -> StepHandle<u64> {
    saga.step(name)
        .needs(before)
        .action((), service_fn(add), |_: &u64, before: Arc<u64>| *before)
        .undo((), service_fn(take_back), |input: &u64, _, _output| *input)
        .add()
}

/// Returns the work for [`rate`](super::flow::rate): one saga per piece.
pub fn run<F, S>(
    who: &'static str,
    executor: Executor<u64, F, S>,
    last: StepHandle<u64>,
) -> impl Fn(u64) -> SagaFuture + Send + Sync + 'static
where
    F: Codec<u64>,
    S: Store<F::Encoded>,
{
    move |input| {
        let executor = executor.clone();
        Box::pin(async move {
            let report = executor.run_to_end(input).await.expect("the store takes it");
            expect(who, input, report.output(last).map_or(0, |output| *output));
        })
    }
}

type SagaFuture = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
