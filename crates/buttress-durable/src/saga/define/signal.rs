//! Steps that wait for a signal.

use std::any::{TypeId, type_name};
use std::sync::Arc;
use std::time::Duration;

use buttress::{Codec, CodecError, Format};

use crate::saga::define::builder::StepBuilder;
use crate::saga::define::definition::Inner;
use crate::saga::define::needs::{Needs, StepHandle};
use crate::saga::define::step::{Decode, StepCode};
use crate::saga::model::plan::Wait;
use crate::saga::run::attempt::{Output, not_made};

/// The length of a wait without a limit.
pub(in crate::saga) const UNLIMITED: Duration = Duration::MAX;

/// The type of the payload of a signal.
#[derive(Clone, Copy, Debug)]
pub(in crate::saga) struct PayloadType {
    id: TypeId,
    pub name: &'static str,
}

impl PayloadType {
    pub(in crate::saga) fn of<T: 'static>() -> Self {
        Self { id: TypeId::of::<T>(), name: type_name::<T>() }
    }

    pub(in crate::saga) fn is<T: 'static>(self) -> bool {
        self.id == TypeId::of::<T>()
    }
}

impl<I, F, N> StepBuilder<'_, I, F, N>
where
    I: Send + Sync + 'static,
    F: Format,
    N: Needs + Clone,
{
    /// Makes the step wait for a signal, and adds it to its definition. The name of the signal is the name of the
    /// step, and its payload is the output of the step. The step calls no service, and is never undone.
    ///
    /// [`Executor::signal`](crate::saga::Executor::signal) sends the signal, from any process. A signal that comes
    /// before the wait is kept. The step then does not wait.
    ///
    /// `limit` receives the input of the saga and the outputs that the step [needs](Self::needs). It returns how
    /// long the saga waits, from the moment at which the log records the wait. `None` waits without a limit. If
    /// the store has recorded no signal by then, the step has failed, and the saga unwinds. Its reason names the
    /// signal. Past its point of no return the saga is stuck instead: send the signal, then
    /// [retry](crate::saga::Executor::retry). [`signal_or_none`](Self::signal_or_none) continues without a signal.
    ///
    /// The limit is not a deadline for the sender: an executor records the end of the wait up to a second after the
    /// limit, and later if no executor ran then. A signal counts if the store records it before that. So exactly one of
    /// both counts, also if the signal comes at the instant of the limit. A payload that cannot be read fails the step.
    /// A saga that only waits has the status [`Waiting`](crate::saga::Status::Waiting), as in [`wait`](Self::wait).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), tower::BoxError> {
    /// # use tower::{BoxError, service_fn};
    /// use std::time::Duration;
    ///
    /// use buttress_durable::saga::{Call, Config, Definition, Executor, SignalId, Signalled, Status};
    ///
    /// # let send = service_fn(async |_: Call<String>| Ok::<(), BoxError>(()));
    /// let mut order = Definition::<u32>::builder("order", 1);
    /// let approved =
    ///     order.step("approved").signal::<String>(|_order, ()| Some(Duration::from_secs(3600)));
    /// order.step("send").needs(approved).action((), send, |_, by| by.to_string()).add();
    /// let orders = Executor::in_memory(order.build()?, Config::new())?;
    ///
    /// let execution = orders.start(7).await?;
    /// let by = "Ada".to_owned();
    /// let sent = orders.signal(execution.id(), "approved", by, SignalId::new(1)).await?;
    /// assert_eq!(sent, Signalled::Delivered);
    /// assert_eq!(execution.await?.status(), Status::Completed);
    ///
    /// let report = orders.run_to_end(8).await?;
    /// assert_eq!(report.status(), Status::Compensated);
    /// assert_eq!(report.reason(), Some("approved: no signal within 3600s"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn signal<T>(
        self,
        limit: impl Fn(&I, N::Outputs) -> Option<Duration> + Send + Sync + 'static,
    ) -> StepHandle<T>
    where
        F: Codec<T>,
        T: Send + Sync + 'static,
    {
        let decode: Decode<F> =
            |codec, encoded| codec.decode(encoded).map(|output: Arc<T>| output as Output);
        self.await_signal(Wait::Signal, PayloadType::of::<T>(), limit, decode, None)
    }

    /// Makes the step wait for a signal like [`signal`](Self::signal), and continues the saga without a signal
    /// after the limit. The output is then `None`.
    ///
    /// An operator cannot [resolve](crate::saga::Executor::resolve) the step.
    pub fn signal_or_none<T>(
        self,
        limit: impl Fn(&I, N::Outputs) -> Option<Duration> + Send + Sync + 'static,
    ) -> StepHandle<Option<Arc<T>>>
    where
        F: Codec<T>,
        T: Send + Sync + 'static,
    {
        let decode: Decode<F> = |codec, encoded| {
            codec.decode(encoded).map(|output: Arc<T>| Arc::new(Some(output)) as Output)
        };
        let none = || Arc::new(None::<Arc<T>>) as Output;
        self.await_signal(Wait::OptionalSignal, PayloadType::of::<T>(), limit, decode, Some(none))
    }

    fn await_signal<O>(
        self,
        waits: Wait,
        payload: PayloadType,
        limit: impl Fn(&I, N::Outputs) -> Option<Duration> + Send + Sync + 'static,
        decode: Decode<F>,
        waited: Option<fn() -> Output>,
    ) -> StepHandle<O> {
        let Self { builder, mut plan, after, needs, rules } = self;
        plan.waits = Some(waits);
        let steps = needs.steps();
        let code = StepCode {
            // A step that waits is never launched.
            act: Box::new(|_, _, terms| not_made(terms.doubt, "the step only waits".to_owned())),
            undo: None,
            wait: Some(Box::new(move |input, outputs| {
                let limit = needs.gather(outputs).map(|outputs| limit(input, outputs));
                limit.map(|limit| limit.unwrap_or(UNLIMITED))
            })),
            waited,
            payload: Some(payload),
            commit: None,
            encode: |_, _| Err(CodecError::new(F::NAME, "a step that waits has no output")),
            decode,
            rules,
        };
        builder.add(plan, code, steps, after)
    }
}

impl<I, F: Format> Inner<I, F> {
    /// Returns the type of the payload of the signal `name`; `None` if no step waits for it.
    pub(in crate::saga) fn payload_of(&self, name: &str) -> Option<PayloadType> {
        let mut steps = self.plan.steps.iter().zip(&self.steps);
        steps.find(|(plan, _)| plan.name.as_str() == name).and_then(|(_, code)| code.payload)
    }

    /// Returns the names of the signals for which steps wait.
    pub(in crate::saga) fn signal_names(&self) -> String {
        let names = self.plan.steps.iter().filter(|step| step.takes_signal());
        names.map(|step| format!("\"{}\"", step.name)).collect::<Vec<_>>().join(", ")
    }

    /// Whether a step waits for a signal.
    pub(in crate::saga) fn takes_signal(&self, step: u16) -> bool {
        self.plan.steps.get(usize::from(step)).is_some_and(|step| step.takes_signal())
    }

    /// Returns the output of a step whose time is over; `None` if the step has failed then.
    pub(in crate::saga) fn waited(&self, step: u16) -> Option<Output> {
        self.steps.get(usize::from(step))?.waited.map(|make| make())
    }
}
