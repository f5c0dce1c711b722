//! Steps that wait for a time.

use std::sync::Arc;
use std::time::Duration;

use buttress::{CodecError, Format};

use crate::caught::caught;
use crate::saga::define::builder::StepBuilder;
use crate::saga::define::definition::Inner;
use crate::saga::define::needs::{Needs, Outputs, StepHandle};
use crate::saga::define::step::StepCode;
use crate::saga::model::plan::Wait;
use crate::saga::run::attempt::not_made;

impl<I, F, N> StepBuilder<'_, I, F, N>
where
    I: Send + Sync + 'static,
    F: Format,
    N: Needs + Clone,
{
    /// Makes the step wait for a time, and adds it to its definition. The step calls no service, and is never
    /// undone.
    ///
    /// `length` receives the input of the saga and the outputs that the step [needs](Self::needs). It returns how
    /// long the saga waits, from the moment at which the log records the wait. The saga may call it again until the
    /// log has recorded the wait. To wait for a time of the day, return the remaining time until then. Zero does
    /// not wait. A saga waits for at most 126 years. If `length` panics, the step has failed, and the saga unwinds;
    /// past its point of no return it is stuck.
    ///
    /// A saga that only waits has the status [`Waiting`](crate::saga::Status::Waiting). It needs no task, no
    /// memory and no worker until the wait is over. Then any executor of its definition and version continues it,
    /// within a second. [`Executor::cancel`](crate::saga::Executor::cancel) and the
    /// [deadline](crate::saga::Config::deadline) end the wait, unless the saga is past its point of no return.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), tower::BoxError> {
    /// # use tower::{BoxError, service_fn};
    /// use std::time::Duration;
    ///
    /// use buttress_durable::saga::{Call, Config, Definition, Executor, Status};
    ///
    /// # let send = service_fn(async |_: Call<u32>| Ok::<(), BoxError>(()));
    /// let mut order = Definition::<u32>::builder("order", 1);
    /// order.step("cool off").wait(|_order, ()| Duration::from_secs(3600));
    /// order.step("send").action((), send, |order: &u32, ()| *order).add();
    /// let orders = Executor::in_memory(order.build()?, Config::new())?;
    ///
    /// let execution = orders.start(7).await?;
    /// # let id = execution.id();
    /// # while orders.state(id).await?.is_none_or(|tree| tree.status != Status::Waiting) {
    /// #     tokio::task::yield_now().await;
    /// # }
    /// let state = orders.state(execution.id()).await?.unwrap();
    /// assert_eq!(state.status, Status::Waiting);
    /// assert!(state.until.is_some());
    /// assert_eq!(execution.await?.status(), Status::Completed);
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait(
        self,
        length: impl Fn(&I, N::Outputs) -> Duration + Send + Sync + 'static,
    ) -> StepHandle<()> {
        let Self { builder, mut plan, after, needs, rules } = self;
        plan.waits = Some(Wait::Time);
        let steps = needs.steps();
        let code = StepCode {
            // A step that waits is never launched.
            act: Box::new(|_, _, terms| not_made(terms.doubt, "the step only waits".to_owned())),
            undo: None,
            wait: Some(Box::new(move |input, outputs| {
                needs.gather(outputs).map(|outputs| length(input, outputs))
            })),
            waited: Some(|| Arc::new(())),
            payload: None,
            commit: None,
            encode: |_, _| Err(CodecError::new(F::NAME, "a step that waits has no output")),
            decode: |_, _| Ok(Arc::new(())),
            rules,
        };
        builder.add(plan, code, steps, after)
    }
}

impl<I, F: Format> Inner<I, F> {
    /// Returns how long a step waits, or why that is not known.
    pub(in crate::saga) fn wait(
        &self,
        step: u16,
        input: &I,
        outputs: &Outputs,
    ) -> Result<Duration, String> {
        let code = self.steps.get(usize::from(step)).and_then(|code| code.wait.as_ref());
        let Some(length) = code else { return Err("the step does not wait".to_owned()) };
        // User code.
        match caught(|| length(input, outputs)) {
            Ok(Some(length)) => Ok(length),
            Ok(None) => Err("an output that the step needs is missing".to_owned()),
            Err(why) => Err(format!("finding the length of the wait {why}")),
        }
    }
}
