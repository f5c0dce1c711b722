//! The code of a step: its services with their layers, and the functions that make their requests.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use buttress::{Codec, CodecError, Format};
use tower::{BoxError, Layer, Service};

use crate::cloned::Cloned;
use crate::saga::define::builder::{Builder, StepBuilder};
use crate::saga::define::child::Commit;
use crate::saga::define::needs::{Needs, Outputs, StepHandle, StepRef};
use crate::saga::define::rules::Rules;
use crate::saga::define::signal::PayloadType;
use crate::saga::model::plan::StepPlan;
use crate::saga::run::attempt::{Attempt, AttemptFuture, Output, Terms, attempt};
use crate::saga::run::call::{Call, Definite, Leaf};

type Act<I> = Box<dyn Fn(&Arc<I>, &Outputs, Terms) -> AttemptFuture + Send + Sync>;
pub(in crate::saga) type Undo<I> =
    Box<dyn Fn(&Arc<I>, &Outputs, Option<&Output>, Terms) -> AttemptFuture + Send + Sync>;
type Length<I> = Box<dyn Fn(&I, &Outputs) -> Option<Duration> + Send + Sync>;
type Encode<F> = fn(&F, &Output) -> Result<<F as Format>::Encoded, CodecError>;
pub(in crate::saga) type Decode<F> = fn(&F, &<F as Format>::Encoded) -> Result<Output, CodecError>;

/// The code of a step, without the types of its services.
pub(in crate::saga) struct StepCode<I, F: Format> {
    pub act: Act<I>,
    pub undo: Option<Undo<I>>,
    /// The length of a step that waits. Such a step has no action.
    pub wait: Option<Length<I>>,
    /// The output of a step that waits, after its time. `None` if it fails then.
    pub waited: Option<fn() -> Output>,
    /// The type of the signal for which the step waits.
    pub payload: Option<PayloadType>,
    /// Commits the child that the step holds.
    pub commit: Option<Commit>,
    pub encode: Encode<F>,
    pub decode: Decode<F>,
    pub rules: Rules,
}

/// Encodes the output of a step whose output is a `T`.
pub(in crate::saga) fn encoded<F, T>(codec: &F, output: &Output) -> Result<F::Encoded, CodecError>
where
    F: Codec<T>,
    T: Send + Sync + 'static,
{
    match output.clone().downcast::<T>() {
        Ok(output) => codec.encode(&output),
        Err(_) => Err(CodecError::new(F::NAME, "an output of another type")),
    }
}

/// Decodes the output of a step whose output is a `T`.
pub(in crate::saga) fn decoded<F, T>(codec: &F, encoded: &F::Encoded) -> Result<Output, CodecError>
where
    F: Codec<T>,
    T: Send + Sync + 'static,
{
    codec.decode(encoded).map(|output: Arc<T>| output as Output)
}

impl<'b, I, F, N> StepBuilder<'b, I, F, N>
where
    I: Send + Sync + 'static,
    F: Format,
    N: Needs + Clone,
{
    /// Sets the action of the step. The saga calls `service`, under `layers`, with the request that
    /// `request` makes.
    ///
    /// `layers` is a tower `ServiceBuilder`, any layer, or `()` for none. `request` receives the
    /// input of the saga and the outputs that the step [needs](Self::needs). It must be pure: after
    /// a restart the saga calls it again, and it must return the same request. The response is the
    /// output of the step.
    #[expect(
        clippy::type_complexity,
        reason = "error and response of a service have no shorter names"
    )]
    pub fn action<L, S, R, Q>(
        self,
        layers: L,
        service: S,
        request: Q,
    ) -> ActionBuilder<'b, I, F, N, S::Error, <L::Service as Service<Call<R>>>::Response>
    where
        L: Layer<Leaf<S, S::Error>> + 'static,
        L::Service: Service<Call<R>> + Clone + Send + 'static,
        <L::Service as Service<Call<R>>>::Response: Send + Sync + 'static,
        <L::Service as Service<Call<R>>>::Error: Into<BoxError>,
        <L::Service as Service<Call<R>>>::Future: Send + 'static,
        S: Service<Call<R>> + 'static,
        S::Error: 'static,
        R: Send + 'static,
        Q: Fn(&I, N::Outputs) -> R + Send + Sync + 'static,
    {
        let Self { builder, plan, after, needs, rules } = self;
        let gather = needs.clone();
        let make = move |definite: Definite<S::Error>| -> Act<I> {
            let service = Cloned::new(layers.layer(Leaf::new(service, definite)));
            Box::new(move |input, outputs, terms| {
                let make = || Some(request(input, gather.gather(outputs)?));
                attempt(service.get(), make, terms)
            })
        };
        ActionBuilder {
            builder,
            plan,
            after,
            needs,
            rules,
            make: Box::new(make),
            definite: Arc::new(|_| false),
            undo: None,
            output: PhantomData,
        }
    }
}

/// A step with an action that is not added yet.
#[must_use = "a step is added by `add`"]
pub struct ActionBuilder<'b, I, F: Format, N, E, T> {
    builder: &'b mut Builder<I, F>,
    plan: StepPlan,
    after: Option<Vec<StepRef>>,
    needs: N,
    rules: Rules,
    make: Box<dyn FnOnce(Definite<E>) -> Act<I>>,
    definite: Definite<E>,
    undo: Option<Undo<I>>,
    output: PhantomData<fn() -> T>,
}

impl<'b, I, F, N, E, T> ActionBuilder<'b, I, F, N, E, T>
where
    I: Send + Sync + 'static,
    F: Codec<T>,
    N: Needs + Clone,
    T: Send + Sync + 'static,
{
    /// Sets which errors of the service mean that the action certainly had no effect, e.g. a
    /// declined card. Default: none.
    ///
    /// An error of a connection says nothing about the effect. If it counted as a refusal, the saga
    /// would not undo a charge that happened. An attempt that never reached the service (an open
    /// circuit among the layers) is always definite. An attempt that is cut short or panics is in
    /// doubt.
    pub fn definite(mut self, definite: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self {
        self.definite = Arc::new(definite);
        self
    }

    /// Sets the undo of the step. The saga calls `service`, under `layers`, with the request that
    /// `request` makes.
    ///
    /// `request` receives the input of the saga, the outputs that the step needs, and its own
    /// output: `None` if the action is in doubt. An undo must work if it is repeated, and if it
    /// comes before an action that is still on its way: see [`Barrier`](super::super::Barrier).
    pub fn undo<L, S, R, Q>(mut self, layers: L, service: S, request: Q) -> Self
    where
        L: Layer<Leaf<S, S::Error>>,
        L::Service: Service<Call<R>> + Clone + Send + 'static,
        <L::Service as Service<Call<R>>>::Response: Send + Sync + 'static,
        <L::Service as Service<Call<R>>>::Error: Into<BoxError>,
        <L::Service as Service<Call<R>>>::Future: Send + 'static,
        S: Service<Call<R>>,
        S::Error: 'static,
        R: Send + 'static,
        Q: Fn(&I, N::Outputs, Option<Arc<T>>) -> R + Send + Sync + 'static,
    {
        // Whether a failed undo is definite makes no difference: the saga attempts it again.
        let service = Cloned::new(layers.layer(Leaf::new(service, Arc::new(|_| false))));
        let gather = self.needs.clone();
        self.plan.has_undo = true;
        self.undo = Some(Box::new(move |input, outputs, output, terms| {
            let make = || {
                let output = output.and_then(|output| output.clone().downcast().ok());
                Some(request(input, gather.gather(outputs)?, output))
            };
            attempt(service.get(), make, terms)
        }));
        self
    }

    /// Adds the step to its definition, and returns its handle.
    pub fn add(self) -> StepHandle<T> {
        let code = StepCode {
            act: (self.make)(self.definite),
            undo: self.undo,
            wait: None,
            waited: None,
            payload: None,
            commit: None,
            encode: encoded::<F, T>,
            decode: decoded::<F, T>,
            rules: self.rules,
        };
        self.builder.add(self.plan, code, self.needs.steps(), self.after)
    }
}

impl<I, F: Format, N, E, T> fmt::Debug for ActionBuilder<'_, I, F, N, E, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActionBuilder").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl<I, F: Format> StepCode<I, F> {
    /// Makes one attempt of the undo. A step without an undo is done immediately.
    pub(in crate::saga) fn undo(
        &self,
        input: &Arc<I>,
        outputs: &Outputs,
        output: Option<&Output>,
        terms: Terms,
    ) -> AttemptFuture {
        match &self.undo {
            Some(undo) => undo(input, outputs, output, terms),
            None => Box::pin(std::future::ready(Attempt::Done(Arc::new(())))),
        }
    }
}
