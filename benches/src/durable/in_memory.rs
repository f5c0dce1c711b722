//! Sagas in memory, compared with steno's.

use std::sync::Arc;

use buttress::Clock;
use buttress::InMemory;
use buttress_durable::saga::{Config, Executor, MemoryStore};
use steno::{
    ActionContext, ActionError, ActionFunc, ActionRegistry, Dag, DagBuilder, InMemorySecStore,
    Node, SagaDag, SagaId, SagaName, SagaType, SecClient,
};
use tokio::runtime::{Builder, Runtime};

use super::flow::{rate, two_threads};
use super::sagas::{self, STEPS, expect};
use super::{IN_FLIGHT, MEMORY_ON_ONE, MEMORY_ON_TWO, STENO};
use crate::patterns::BUTTRESS;
use crate::probes::finding;
use crate::spread::median;

const ROUNDS: usize = 7;
/// The sagas of a round: about a tenth of a second.
const OURS: u64 = 10_000;
const THEIRS: u64 = 1_500;
const KEPT: usize = 100;

fn buttress(runtime: &Runtime, sagas: u64) -> f64 {
    let (definition, last) = sagas::definition(InMemory);
    let store = MemoryStore::new(Clock::default()).keep_ended(KEPT);
    let executor = Executor::new(definition, store, Config::new()).expect("valid");
    let each =
        runtime.block_on(rate(sagas, IN_FLIGHT, sagas::run(BUTTRESS, executor.clone(), last)));
    let stats = executor.stats();
    assert_eq!((stats.completed, stats.steps_executed), (sagas, 5 * sagas), "all of the work");
    each
}

/// The type that connects steno's actions.
#[derive(Debug)]
struct Five;

impl SagaType for Five {
    type ExecContextType = ();
}

async fn begin(context: ActionContext<Five>) -> Result<u64, ActionError> {
    Ok(context.saga_params::<u64>()? + 1)
}

async fn take_back(_: ActionContext<Five>) -> Result<(), anyhow::Error> {
    Ok(())
}

fn steps() -> (Dag, ActionRegistry<Five>) {
    let mut registry = ActionRegistry::new();
    let mut dag = DagBuilder::new(SagaName::new("five"));
    for (at, name) in STEPS.into_iter().enumerate() {
        let action = match at.checked_sub(1) {
            None => ActionFunc::new_action(name, begin, take_back),
            Some(before) => {
                let add = move |context: ActionContext<Five>| async move {
                    Ok::<u64, ActionError>(context.lookup::<u64>(STEPS[before])? + 1)
                };
                ActionFunc::new_action(name, add, take_back)
            }
        };
        dag.append(Node::action(name, name, &*action));
        registry.register(action);
    }
    (dag.build().expect("valid"), registry)
}

async fn run_steno(
    steno: Arc<SecClient>,
    dag: Dag,
    registry: Arc<ActionRegistry<Five>>,
    input: u64,
) {
    let id = SagaId::new_v4();
    let dag = Arc::new(SagaDag::new(dag, input.into()));
    let ended = steno.saga_create(id, Arc::new(()), dag, registry).await.expect("a new saga");
    steno.saga_start(id).await.expect("it is there");
    let result = ended.await.kind.expect("no step fails");
    expect(STENO, input, result.saga_output().expect("a number"));
}

fn steno(runtime: &Runtime, sagas: u64) -> f64 {
    runtime.block_on(async {
        let log = slog::Logger::root(slog::Discard, slog::o!());
        let steno = Arc::new(steno::sec(log, Arc::new(InMemorySecStore::new())));
        let (dag, registry) = steps();
        let (client, registry) = (steno.clone(), Arc::new(registry));
        let each = rate(sagas, IN_FLIGHT, move |input| {
            run_steno(client.clone(), dag.clone(), registry.clone(), input)
        });
        let each = each.await;
        Arc::into_inner(steno).expect("every task has ended").shutdown().await;
        each
    })
}

/// Prints the rates, with the ratio of both as the value of buttress.
fn compare(what: &str, runtime: &Runtime) {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(buttress(runtime, OURS));
        theirs.push(steno(runtime, THEIRS));
    }
    let ratio = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
    let [ours, theirs, ratio] = [ours, theirs, ratio].map(|v| median(v).expect("rounds"));
    finding(what, BUTTRESS, ratio, &format!("{ours:.0}/s, {ratio:.1} times steno's"));
    finding(what, STENO, theirs, &format!("{theirs:.0}/s"));
}

pub fn run() {
    let one = Builder::new_current_thread().enable_time().build().expect("a runtime");
    compare(MEMORY_ON_ONE, &one);
    compare(MEMORY_ON_TWO, &two_threads());
}
