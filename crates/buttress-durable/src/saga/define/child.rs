//! Steps that are other sagas.

use std::sync::Arc;

use buttress::{Codec, Format, Name};

use crate::caught::caught;
use crate::saga::define::builder::{Builder, StepBuilder};
use crate::saga::define::definition::Inner;
use crate::saga::define::needs::{Needs, Outputs, StepHandle};
use crate::saga::define::step::{StepCode, Undo, decoded, encoded};
use crate::saga::model::invalid::InvalidDefinition;
use crate::saga::model::plan::{Kind, Plan};
use crate::saga::run::attempt::{AttemptFuture, Output, Terms};
use crate::saga::run::child::{Child, CommitFuture};
use crate::saga::run::executor::Executor;
use crate::saga::store::{SagaId, Store};

/// Commits the child of a step of the saga with this id.
pub(in crate::saga) type Commit = Box<dyn Fn(SagaId) -> CommitFuture + Send + Sync>;

impl<I, F: Format> Builder<I, F> {
    /// Declares that the sagas can be [children](StepBuilder::child) of other sagas. Default: off.
    ///
    /// An executor of the definition then looks for sagas whose parent has decided, twice per second. Its store must
    /// [keep waiting sagas](crate::saga::Store::keeps_waits). The sagas can still be started without a parent.
    pub fn can_be_child(mut self) -> Self {
        self.can_be_child = true;
        self
    }
}

impl<I, F, N> StepBuilder<'_, I, F, N>
where
    I: Send + Sync + 'static,
    F: Format,
    N: Needs + Clone,
{
    /// Makes the step another saga, and adds it to its definition. Returns the handle of the step, whose output is the
    /// output of the step `output` of the child.
    ///
    /// `sagas` starts and finds the child. Its definition must be declared with
    /// [`can_be_child`](Builder::can_be_child). `input` makes the input of the child, from the input of the saga and the
    /// outputs that the step [needs](Self::needs). It must be pure, as the request of an
    /// [action](Self::action). The id of the child depends only on the id of the parent and the name of the step. So a
    /// parent that starts its child again, after a crash, finds it.
    ///
    /// The kind of the step decides when the child completes:
    ///
    /// - **Compensatable**: the child runs all its steps. Then it is *held*: it has the status
    ///   [`Waiting`](crate::saga::Status::Waiting), and needs no task. It completes once all steps of the parent are done.
    ///   If the parent unwinds, the undo of the step unwinds the child. The child must have no pivot and no retryable
    ///   step.
    /// - **Pivot**: the child completes by itself. If it is compensated, the step has failed.
    ///
    /// The step is done when the child is held or has completed. It has failed when the child is compensated. If the
    /// child is stuck, the saga is stuck too, at this step and with the reason of the child. Mend the child through its
    /// own executor, then [retry](Executor::retry) the parent. A cancelled saga, or one past its deadline, cancels a
    /// child in progress, and waits for its end.
    ///
    /// [`build`](Builder::build) refuses `timeout`, `undo_timeout`, `undo_retry`, `run_again`, `hint` and `on_crash` for such
    /// a step: the child has its own.
    ///
    /// The saga runs on its executor while its child runs or waits, so it needs a task. A child that another process runs
    /// is noticed up to 5 seconds after its end. While the store of the child is unavailable, the step waits. Sagas of
    /// `sagas` need a process that [keeps recovering](Executor::keep_recovering) them, as any others.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), tower::BoxError> {
    /// # use tower::{BoxError, service_fn};
    /// use buttress_durable::saga::{Call, Config, Definition, Executor, Kind, Status};
    ///
    /// # let book = service_fn(async |_: Call<u32>| Ok::<String, BoxError>("TRACK-7".to_owned()));
    /// # let unbook = service_fn(async |_: Call<u32>| Ok::<(), BoxError>(()));
    /// # let charge = service_fn(async |_: Call<u32>| Ok::<(), BoxError>(()));
    /// let mut shipment = Definition::<u32>::builder("shipment", 1).can_be_child();
    /// let tracking = shipment
    ///     .step("book")
    ///     .action((), book, |parcel: &u32, ()| *parcel)
    ///     .undo((), unbook, |parcel: &u32, (), _| *parcel)
    ///     .add();
    /// let shipments = Executor::in_memory(shipment.build()?, Config::new())?;
    ///
    /// let mut order = Definition::<u32>::builder("order", 1);
    /// let ship = order.step("ship").child(&shipments, |order: &u32, ()| *order, tracking);
    /// order.step("charge").kind(Kind::Pivot).action((), charge, |order: &u32, ()| *order).add();
    /// let orders = Executor::in_memory(order.build()?, Config::new())?;
    ///
    /// let report = orders.run_to_end(7).await?;
    /// assert_eq!(report.status(), Status::Completed);
    /// assert_eq!(report.output(ship).as_deref().map(String::as_str), Some("TRACK-7"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn child<J, G, St, T>(
        self,
        sagas: &Executor<J, G, St>,
        input: impl Fn(&I, N::Outputs) -> J + Send + Sync + 'static,
        output: StepHandle<T>,
    ) -> StepHandle<T>
    where
        F: Codec<T>,
        G: Codec<J>,
        J: Send + Sync + 'static,
        St: Store<G::Encoded>,
        T: Send + Sync + 'static,
    {
        let Self { builder, mut plan, after, needs, rules } = self;
        let holds = plan.kind == Kind::Compensatable;
        (plan.runs_child, plan.has_undo) = (true, holds);
        let child = &sagas.core.definition.inner;
        let output_name = child.step_name(output.number());
        let checked = check(builder.name(), (plan.name, plan.kind), (child.name, &child.plan));
        builder.refuse(checked.and_then(|()| match output_name == output.name() {
            true => Ok(()),
            false => Err(InvalidDefinition::UnknownOutput {
                saga: builder.name(),
                step: plan.name,
                child: child.name,
                output: output.name(),
            }),
        }));
        let (step, number) = (plan.name, output.number());
        let of = {
            let sagas = sagas.clone();
            move |parent: SagaId| Child::new(sagas.clone(), (parent, step.as_str()), holds, number)
        };
        let (of, input, gather) = (Arc::new(of), Arc::new(input), needs.clone());
        let run = {
            let of = of.clone();
            move |saga: &Arc<I>, outputs: &Outputs, terms: Terms| -> AttemptFuture {
                let (saga, outputs) = (saga.clone(), outputs.clone());
                let (input, gather) = (input.clone(), gather.clone());
                let make = move || {
                    // User code.
                    caught(|| gather.gather(&outputs).map(|outputs| input(&saga, outputs)))
                        .map_err(|why| format!("making the input of the child {why}"))?
                        .ok_or_else(|| "an output that the step needs is missing".to_owned())
                };
                Box::pin(of(terms.key.saga()).attempt(make, terms))
            }
        };
        let run = Arc::new(run);
        let undo = run.clone();
        let code = StepCode {
            act: Box::new(move |saga, outputs, terms| run(saga, outputs, terms)),
            undo: holds.then(|| -> Undo<I> {
                Box::new(move |saga: &Arc<I>, outputs: &Outputs, _: Option<&Output>, terms| {
                    undo(saga, outputs, terms)
                })
            }),
            wait: None,
            waited: None,
            payload: None,
            commit: holds
                .then(|| -> Commit { Box::new(move |parent| Box::pin(of(parent).commit())) }),
            encode: encoded::<F, T>,
            decode: decoded::<F, T>,
            rules,
        };
        let steps = needs.steps();
        builder.add(plan, code, steps, after)
    }
}

/// Checks that a step of a kind can run sagas of the definition `child`.
fn check(
    saga: Name,
    (step, kind): (Name, Kind),
    (child, plan): (Name, &Plan),
) -> Result<(), InvalidDefinition> {
    if !plan.can_be_child {
        return Err(InvalidDefinition::NoChild { saga, step, child });
    }
    if kind == Kind::Retryable {
        return Err(InvalidDefinition::RetryableChild { saga, step });
    }
    let last = plan.steps.iter().find(|step| step.kind != Kind::Compensatable);
    match last.filter(|_| kind == Kind::Compensatable) {
        Some(last) => Err(InvalidDefinition::NoWayBack { saga, step, child, last: last.name }),
        None => Ok(()),
    }
}

impl<I, F: Format> Inner<I, F> {
    /// Returns the commits of the children of a saga, each with its step.
    pub(in crate::saga) fn commits(&self, saga: SagaId) -> Vec<(u16, CommitFuture)> {
        let steps = (0u16..).zip(&self.steps);
        steps.filter_map(|(step, code)| Some((step, code.commit.as_ref()?(saga)))).collect()
    }
}
