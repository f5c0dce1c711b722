//! Sending signals to sagas.

use std::any::type_name;
use std::fmt;
use std::sync::Arc;

use buttress::{Codec, CodecError, Format};

use crate::caught::caught;
use crate::saga::error::SagaError;
use crate::saga::run::executor::Executor;
use crate::saga::run::versions::{Signals, Version};
use crate::saga::store::{
    LARGEST_SIGNAL, NewSignal, SagaId, SignalAnswer, SignalId, SignalIn, Store, bytes_of,
};

/// The answer to a signal.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Signalled {
    /// The store has recorded the signal.
    Delivered,
    /// The store has recorded this signal before, with the same name and id. Nothing has changed.
    Duplicate,
    /// The store has recorded another signal with this name before. That one counts, and this one has no effect.
    Later,
}

/// A signal that its saga has once the transaction commits. [`Executor::signal_in`] returns it.
#[must_use = "call `committed` after the commit, so that the saga continues without a poll"]
pub struct SignalledIn<I, F: Format, St> {
    executor: Executor<I, F, St>,
    saga: SagaId,
    answer: Signalled,
}

impl<I, F, St> Executor<I, F, St>
where
    I: Send + Sync + 'static,
    F: Codec<I>,
    St: Store<F::Encoded>,
{
    /// Sends the signal `name` to a saga of this definition, which may run in any process. Returns once the signal is
    /// durable. The saga is of this version, or of one that [also runs](Self::also_run) here.
    ///
    /// The [step](crate::saga::StepBuilder::signal) called `name` waits for the signal, and `payload` is its
    /// output. The store keeps a signal that comes before the wait, and removes it with the saga. The saga has one signal
    /// of each name: the first. A repetition with the same `id` has no effect, whatever its payload, also after the end
    /// of the saga. So repeat the call after a transient error. Draw the `id` once per event, e.g. from the id of the request.
    ///
    /// A saga that only waits continues immediately on this executor, if the executor runs sagas, and otherwise on
    /// any other within 500 ms. A saga that runs steps beside the wait takes the signal within 500 ms too.
    ///
    /// A delivered signal counts unless the saga is unwound first, e.g. by a cancel, or the log of the saga already
    /// holds the end of the wait.
    ///
    /// # Errors
    /// Returns [`UnknownSignal`](SagaError::UnknownSignal) if no step of this definition waits for `name`, and
    /// [`SignalType`](SagaError::SignalType) if the step waits for another type than `T`. Returns
    /// [`Unknown`](SagaError::Unknown) if there is no such saga,
    /// [`DefinitionChanged`](SagaError::DefinitionChanged) if it is of another definition, and
    /// [`OtherVersion`](SagaError::OtherVersion) if it is of a version that does not run here. Returns
    /// [`SignalTooLate`](SagaError::SignalTooLate) if it has ended or unwinds, and
    /// [`SignalTooLarge`](SagaError::SignalTooLarge) for a payload of more than [`LARGEST_SIGNAL`] bytes. Returns an
    /// error if the payload cannot be encoded or the store failed.
    ///
    /// # Cancel safety
    /// If the future is dropped, the signal may have been recorded nevertheless. Repeat the call with the same `id`.
    pub async fn signal<T>(
        &self,
        saga: SagaId,
        name: &str,
        payload: T,
        id: SignalId,
    ) -> Result<Signalled, SagaError>
    where
        F: Codec<T>,
        T: Send + Sync + 'static,
    {
        let payload = Arc::new(payload);
        let store = |error| SagaError::Store { saga, error };
        let mut signal = self.first_signal(saga, name, &payload, id).await?;
        loop {
            let version = signal.version;
            let sending = self.core.store.signal(signal);
            let answer = self.core.ask("sending a signal", sending).await.map_err(store)?;
            match self.right_version(&answer, version) {
                Some(other) => {
                    signal = new_signal(other.definition(), saga, name, &payload, id)?;
                }
                None => {
                    let signalled = self.signalled(saga, name, answer)?;
                    self.notify_of_signal(saga);
                    return Ok(signalled);
                }
            }
        }
    }

    /// Sends a signal in the transaction `tx` of the caller. The saga has the signal if the transaction commits, and
    /// does not have it if the transaction is rolled back. Otherwise like [`signal`](Self::signal).
    ///
    /// Call [`SignalledIn::committed`] after the commit: a saga that waits then continues here immediately. Without
    /// this call any executor of its definition continues it within 500 ms.
    ///
    /// The transaction holds the saga until it ends, in a database: the saga cannot write to its log. So keep the
    /// transaction short.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), tower::BoxError> {
    /// # use tower::{BoxError, service_fn};
    /// use buttress_durable::outbox;
    /// use buttress_durable::saga::{
    ///     Call, Config, Definition, Executor, SignalId, Signalled, Status,
    /// };
    ///
    /// let mut order = Definition::<u32>::builder("order", 1);
    /// order.step("paid").signal::<u64>(|_order, ()| None);
    /// let orders = Executor::in_memory(order.build()?, Config::new())?;
    /// let execution = orders.start(7).await?;
    /// let database = outbox::MemoryStore::new(buttress::Clock::default());
    ///
    /// let mut tx = database.begin();
    /// // ... the row of the payment ...
    /// let sent = orders.signal_in(&mut tx, execution.id(), "paid", 990_u64, SignalId::new(1)).await?;
    /// assert_eq!(sent.answer(), Signalled::Delivered);
    /// tx.commit();
    /// sent.committed();
    /// assert_eq!(execution.await?.status(), Status::Completed);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns the errors of [`signal`](Self::signal). After an error of the store that is not `Invalid`, roll the
    /// transaction back. After every other error the transaction is unchanged.
    pub async fn signal_in<Tx, T>(
        &self,
        tx: &mut Tx,
        saga: SagaId,
        name: &str,
        payload: T,
        id: SignalId,
    ) -> Result<SignalledIn<I, F, St>, SagaError>
    where
        F: Codec<T>,
        T: Send + Sync + 'static,
        St: SignalIn<Tx, F::Encoded>,
    {
        let payload = Arc::new(payload);
        let store = |error| SagaError::Store { saga, error };
        let mut signal = self.first_signal(saga, name, &payload, id).await?;
        loop {
            let version = signal.version;
            let sending = self.core.store.signal_in(tx, signal);
            let answer = self.core.ask("sending a signal in a transaction", sending).await;
            let answer = answer.map_err(store)?;
            match self.right_version(&answer, version) {
                Some(other) => {
                    signal = new_signal(other.definition(), saga, name, &payload, id)?;
                }
                None => {
                    let answer = self.signalled(saga, name, answer)?;
                    return Ok(SignalledIn { executor: self.clone(), saga, answer });
                }
            }
        }
    }

    /// Checks and encodes a signal to a saga whose version is not known yet: for this version, or for the version of the
    /// saga if this version does not have the signal.
    async fn first_signal<T>(
        &self,
        saga: SagaId,
        name: &str,
        payload: &Arc<T>,
        id: SignalId,
    ) -> Result<NewSignal<F::Encoded>, SagaError>
    where
        F: Codec<T>,
        T: Send + Sync + 'static,
    {
        match new_signal(&*self.core.definition.inner, saga, name, payload, id) {
            Err(error @ (SagaError::UnknownSignal { .. } | SagaError::SignalType { .. })) => {
                match self.version_of(saga).await? {
                    Some(other) => new_signal(other.definition(), saga, name, payload, id),
                    None => Err(error),
                }
            }
            made => made,
        }
    }

    /// Returns the executor to whose version a saga belongs, if a signal was sent under another `version`.
    fn right_version(&self, answer: &SignalAnswer, sent: u32) -> Option<Arc<dyn Version<F>>> {
        let SignalAnswer::OtherDefinition { definition, version } = answer else { return None };
        let known = &self.core.definition.inner;
        if *version == sent {
            return None;
        }
        // A migration may have moved the saga to this version since.
        if (definition.as_str(), *version) == (known.name.as_str(), known.version) {
            return Some(Arc::new(self.clone()));
        }
        self.core.version(definition, *version)
    }

    /// Returns the answer of the store to the caller.
    fn signalled(
        &self,
        saga: SagaId,
        name: &str,
        answer: SignalAnswer,
    ) -> Result<Signalled, SagaError> {
        let known = &self.core.definition.inner;
        match answer {
            SignalAnswer::Delivered => Ok(Signalled::Delivered),
            SignalAnswer::Duplicate => Ok(Signalled::Duplicate),
            SignalAnswer::Later => Ok(Signalled::Later),
            SignalAnswer::Unknown => Err(SagaError::Unknown { saga }),
            SignalAnswer::OtherDefinition { definition, version }
                if definition == known.name.as_str() =>
            {
                Err(self.other_version(saga, version))
            }
            SignalAnswer::OtherDefinition { definition, version } => {
                Err(SagaError::DefinitionChanged {
                    saga,
                    recorded: format!("{definition} version {version}"),
                    known: format!("{} version {}", known.name, known.version),
                })
            }
            SignalAnswer::TooLate(status) => {
                Err(SagaError::SignalTooLate { saga, signal: name.to_owned(), status })
            }
        }
    }

    /// Makes a saga take its signals without a poll, if it runs here or waits.
    pub(in crate::saga) fn notify_of_signal(&self, saga: SagaId) {
        let control = self.core.active().get(&saga).cloned();
        match control {
            Some(control) => control.signal(),
            None => self.wake_soon(),
        }
        self.core.versions().iter().for_each(|other| other.notify_of_signal(saga));
    }
}

/// Checks and encodes a signal of a definition.
fn new_signal<F, T>(
    definition: &dyn Signals<F>,
    saga: SagaId,
    name: &str,
    payload: &Arc<T>,
    id: SignalId,
) -> Result<NewSignal<F::Encoded>, SagaError>
where
    F: Codec<T>,
    T: Send + Sync + 'static,
{
    let signal = || name.to_owned();
    let Some(wanted) = definition.payload_of(name) else {
        let known = definition.signal_names();
        return Err(SagaError::UnknownSignal { saga, signal: signal(), known });
    };
    if !wanted.is::<T>() {
        let (wanted, given) = (wanted.name, type_name::<T>());
        return Err(SagaError::SignalType { saga, signal: signal(), wanted, given });
    }
    // The codec is user code.
    let payload = caught(|| definition.codec().encode(payload));
    let payload = payload.unwrap_or_else(|why| Err(CodecError::new(F::NAME, why)));
    let payload =
        payload.map_err(|error| SagaError::SignalPayload { saga, signal: signal(), error })?;
    if let Some(bytes) = bytes_of(&payload).filter(|bytes| *bytes > LARGEST_SIGNAL) {
        return Err(SagaError::SignalTooLarge { saga, signal: signal(), bytes });
    }
    Ok(NewSignal::new(saga, definition.version(), name, id, payload))
}

impl<I, F, St> SignalledIn<I, F, St>
where
    I: Send + Sync + 'static,
    F: Codec<I>,
    St: Store<F::Encoded>,
{
    /// Reports that the transaction has committed. The saga takes the signal without a poll, if it runs on this
    /// executor or waits.
    pub fn committed(self) {
        self.executor.notify_of_signal(self.saga);
    }
}

impl<I, F: Format, St> SignalledIn<I, F, St> {
    /// Returns the answer to the signal. The signal takes effect once the transaction has committed.
    #[must_use]
    pub fn answer(&self) -> Signalled {
        self.answer
    }
}

impl<I, F: Format, St> fmt::Debug for SignalledIn<I, F, St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignalledIn")
            .field("saga", &self.saga)
            .field("answer", &self.answer)
            .finish_non_exhaustive()
    }
}
