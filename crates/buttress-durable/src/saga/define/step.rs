//! What a step does: its services with their layers, and the functions that make their requests.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use buttress::{Codec, CodecError, Format};
use tower::{BoxError, Layer, Service};

use crate::cloned::Cloned;
use crate::saga::define::builder::{Builder, StepBuilder};
use crate::saga::define::needs::{Needs, Outputs, StepHandle, StepRef};
use crate::saga::model::plan::StepPlan;
use crate::saga::run::attempt::{Attempt, AttemptFuture, Output, Terms, attempt};
use crate::saga::run::call::{Call, Definite, Leaf};

type Act<I> = Box<dyn Fn(&Arc<I>, &Outputs, Terms) -> AttemptFuture + Send + Sync>;
type Undo<I> =
    Box<dyn Fn(&Arc<I>, &Outputs, Option<&Output>, Terms) -> AttemptFuture + Send + Sync>;
type Encode<F> = fn(&F, &Output) -> Result<<F as Format>::Encoded, CodecError>;
type Decode<F> = fn(&F, &<F as Format>::Encoded) -> Result<Output, CodecError>;

/// What a step does, without the types of its services.
pub(in crate::saga) struct StepCode<I, F: Format> {
    pub(in crate::saga) act: Act<I>,
    pub(in crate::saga) undo: Option<Undo<I>>,
    pub(in crate::saga) encode: Encode<F>,
    pub(in crate::saga) decode: Decode<F>,
    pub(in crate::saga) timeout: Option<Duration>,
    pub(in crate::saga) undo_timeout: Option<Duration>,
}

impl<'b, I, F, N> StepBuilder<'b, I, F, N>
where
    I: Send + Sync + 'static,
    F: Format,
    N: Needs + Clone,
{
    /// What the step does: `service`, under `layers` (a tower `ServiceBuilder`, any layer, or `()` for
    /// none), is called with what `request` makes of the saga's input and the outputs it
    /// [needs](Self::needs).
    ///
    /// `request` must be pure: after a restart it is asked again, and must say the same. The response is
    /// the step's output.
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
        let Self { builder, plan, after, needs, timeout, undo_timeout } = self;
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
            timeout,
            undo_timeout,
            make: Box::new(make),
            definite: Arc::new(|_| false),
            undo: None,
            output: PhantomData,
        }
    }
}

/// A step with an action, about to be added.
#[must_use = "a step is added by `add`"]
pub struct ActionBuilder<'b, I, F: Format, N, E, T> {
    builder: &'b mut Builder<I, F>,
    plan: StepPlan,
    after: Option<Vec<StepRef>>,
    needs: N,
    timeout: Option<Duration>,
    undo_timeout: Option<Duration>,
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
    /// Which errors of the service mean that it certainly did nothing: an answered refusal, a card
    /// declined. Defaults to none, because an error of a connection says nothing, and to take it for a
    /// refusal would leave a charge that nobody undoes.
    ///
    /// An attempt that never left for the service (an open circuit among the layers) is definite
    /// whatever this says; one that is cut short or panics is in doubt.
    pub fn definite(mut self, definite: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self {
        self.definite = Arc::new(definite);
        self
    }

    /// How the step is undone: `service`, under `layers`, is called with what `request` makes of the
    /// saga's input, the outputs the step needed, and its own output: `None` if the action is in doubt.
    ///
    /// An undo must bear being repeated, and coming before an action that is still on its way: see
    /// [`Inbox`](crate::outbox::Inbox) for a barrier.
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
        // Whether a failed undo is definite makes no difference: it is tried again.
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

    /// Adds the step to its definition.
    pub fn add(self) -> StepHandle<T> {
        let code = StepCode {
            act: (self.make)(self.definite),
            undo: self.undo,
            encode: |codec: &F, output| match output.clone().downcast::<T>() {
                Ok(output) => codec.encode(&output),
                Err(_) => Err(CodecError::new(F::NAME, "an output of another type")),
            },
            decode: |codec: &F, encoded| {
                codec.decode(encoded).map(|output: Arc<T>| output as Output)
            },
            timeout: self.timeout,
            undo_timeout: self.undo_timeout,
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
    /// One attempt of the undo; one that has nothing to call is done.
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
