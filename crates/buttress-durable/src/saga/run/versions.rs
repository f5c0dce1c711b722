//! Several versions of a definition on one executor.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};

use buttress::{Codec, Format, InvalidConfig, Name, StoreError};

use crate::answer::Fut;
use crate::saga::define::definition::{Definition, Inner};
use crate::saga::define::signal::PayloadType;
use crate::saga::error::SagaError;
use crate::saga::model::state::State;
use crate::saga::report::Tree;
use crate::saga::run::execution::Execution;
use crate::saga::run::executor::Executor;
use crate::saga::run::recovery::Recovery;
use crate::saga::run::shared::Core;
use crate::saga::store::{Record, SagaId, Store};

/// The reason why an executor does not run another version of its definition.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidVersion {
    /// The definition has another name.
    #[error(
        "the executor runs \"{known}\", and \"{given}\" is another definition; give it its own executor"
    )]
    OtherDefinition {
        /// The name of the definition of the executor.
        known: Name,
        /// The name of the definition that was given.
        given: Name,
    },
    /// The executor runs this version already.
    #[error(
        "the executor runs version {version} of \"{definition}\" already; raise the version of one of them"
    )]
    AlreadyRuns {
        /// The name of the definition.
        definition: Name,
        /// The version.
        version: u32,
    },
    /// The executor shuts down.
    #[error("the executor of \"{definition}\" is shutting down; register its versions before that")]
    ShutDown {
        /// The name of the definition.
        definition: Name,
    },
    /// The store lacks an operation that the definition needs.
    #[error("version {version} of \"{definition}\" cannot run on the store of the executor")]
    Store {
        /// The name of the definition.
        definition: Name,
        /// The version.
        version: u32,
        /// The bound.
        #[source]
        error: InvalidConfig,
    },
}

/// The operation of an operator on a saga of another version.
type Decided<'a> = Pin<Box<dyn Future<Output = Result<Execution, SagaError>> + Send + 'a>>;

/// An executor of another version, without the type of its input.
pub(in crate::saga) trait Version<F: Format>: Send + Sync {
    fn definition(&self) -> &dyn Signals<F>;

    fn is_shutting_down(&self) -> bool;

    /// Adds the versions that the executor runs.
    fn add_versions(&self, versions: &mut Vec<u32>);

    /// Resumes the sagas of the version. Does not look for sagas of other versions.
    fn recover_into<'a>(&'a self, recovery: &'a mut Recovery) -> Fut<'a, ()>;

    /// Takes the sagas that were created in transactions and that no worker has taken.
    fn take_new<'a>(&'a self) -> Fut<'a, ()>;

    /// Stops starting steps.
    fn stop(&self);

    fn shut_down<'a>(&'a self) -> Fut<'a, ()>;

    fn tree_of(&self, record: &Record<F::Encoded>) -> Result<Tree, SagaError>;

    /// Makes a saga unwind here, if it runs here or waits.
    fn notify_of_cancel(&self, saga: SagaId);

    /// Makes a saga take its signals without a poll, if it runs here or waits.
    fn notify_of_signal(&self, saga: SagaId);

    fn retry<'a>(&'a self, saga: SagaId) -> Decided<'a>;

    fn skip<'a>(&'a self, saga: SagaId) -> Decided<'a>;
}

/// The signals of a definition, without the type of its input.
pub(in crate::saga) trait Signals<F: Format>: Send + Sync {
    /// Returns the name and the version of the definition.
    fn version(&self) -> (&str, u32);

    fn codec(&self) -> &F;

    fn payload_of(&self, signal: &str) -> Option<PayloadType>;

    fn signal_names(&self) -> String;
}

impl<I: Send + Sync, F: Format> Signals<F> for Inner<I, F> {
    fn version(&self) -> (&str, u32) {
        (self.name.as_str(), self.version)
    }

    fn codec(&self) -> &F {
        &self.codec
    }

    fn payload_of(&self, signal: &str) -> Option<PayloadType> {
        Self::payload_of(self, signal)
    }

    fn signal_names(&self) -> String {
        Self::signal_names(self)
    }
}

impl<I, F, St> Version<F> for Executor<I, F, St>
where
    I: Send + Sync + 'static,
    F: Codec<I>,
    St: Store<F::Encoded>,
{
    fn definition(&self) -> &dyn Signals<F> {
        &*self.core.definition.inner
    }

    fn is_shutting_down(&self) -> bool {
        self.core.is_shutting_down()
    }

    fn add_versions(&self, versions: &mut Vec<u32>) {
        versions.push(self.core.definition.inner.version);
        self.core.versions().iter().for_each(|other| other.add_versions(versions));
    }

    fn recover_into<'a>(&'a self, recovery: &'a mut Recovery) -> Fut<'a, ()> {
        Box::pin(Self::recover_into(self, recovery))
    }

    fn take_new<'a>(&'a self) -> Fut<'a, ()> {
        Box::pin(async {
            Self::take_new(self).await;
            Ok(())
        })
    }

    fn stop(&self) {
        Self::stop(self);
    }

    fn shut_down<'a>(&'a self) -> Fut<'a, ()> {
        Box::pin(Self::shut_down(self))
    }

    fn tree_of(&self, record: &Record<F::Encoded>) -> Result<Tree, SagaError> {
        Self::tree_of(self, record)
    }

    fn notify_of_cancel(&self, saga: SagaId) {
        Self::notify_of_cancel(self, saga);
    }

    fn notify_of_signal(&self, saga: SagaId) {
        Self::notify_of_signal(self, saga);
    }

    fn retry<'a>(&'a self, saga: SagaId) -> Decided<'a> {
        Box::pin(Self::retry(self, saga))
    }

    fn skip<'a>(&'a self, saga: SagaId) -> Decided<'a> {
        Box::pin(Self::skip(self, saga))
    }
}

impl<I, F: Format, St> Core<I, F, St> {
    /// Returns the executors of other versions.
    pub(in crate::saga) fn registered(&self) -> Vec<Arc<dyn Version<F>>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the executors of other versions that have not been shut down.
    pub(in crate::saga) fn versions(&self) -> Vec<Arc<dyn Version<F>>> {
        let mut versions = self.registered();
        versions.retain(|version| !version.is_shutting_down());
        versions
    }

    /// Returns the executor of another version of the definition `name` that runs here.
    pub(in crate::saga) fn version(&self, name: &str, version: u32) -> Option<Arc<dyn Version<F>>> {
        self.versions().into_iter().find(|other| other.definition().version() == (name, version))
    }
}

impl<I, F, St> Executor<I, F, St>
where
    I: Send + Sync + 'static,
    F: Codec<I>,
    St: Store<F::Encoded>,
{
    /// Runs the sagas of another version of the definition as well: an older one whose sagas have not ended, or a
    /// newer one. Returns an executor of that version, which shares the store and the configuration.
    ///
    /// These calls of this executor then cover the sagas of both versions, so a caller that knows only an id need
    /// not know the version: [`recover`](Self::recover), [`keep_recovering`](Self::keep_recovering),
    /// [`shut_down`](Self::shut_down), [`state`](Self::state), [`search`](Self::search), [`cancel`](Self::cancel),
    /// [`signal`](Self::signal), [`signal_in`](Self::signal_in), [`retry`](Self::retry) and [`skip`](Self::skip). The
    /// calls of the returned executor cover its own version. Starts, [`resolve`](Self::resolve) and
    /// [`stats`](Self::stats) are of one version.
    ///
    /// The returned executor is a separate worker with its own lease. Both versions share
    /// [`max_resumed`](crate::saga::Config::max_resumed). This executor keeps the returned one: dropping the returned
    /// handle changes nothing. After a [`shut_down`](Self::shut_down) of the returned executor this one does not run
    /// its version any more.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), tower::BoxError> {
    /// # use tower::{BoxError, service_fn};
    /// use std::time::Duration;
    /// use buttress_durable::saga::{Call, Config, Definition, Executor, Status};
    ///
    /// # let charge = service_fn(async |_: Call<u32>| Ok::<(), BoxError>(()));
    /// # let confirm = charge.clone();
    /// # let charge_before = charge.clone();
    /// let mut order = Definition::<(u32, String)>::builder("order", 2);
    /// order.step("charge").action((), charge, |(cents, _), ()| *cents).add();
    /// order.step("confirm").action((), confirm, |(cents, _), ()| *cents).add();
    /// let mut before = Definition::<u32>::builder("order", 1);
    /// before.step("charge").action((), charge_before, |cents: &u32, ()| *cents).add();
    ///
    /// let orders = Executor::in_memory(order.build()?, Config::new())?;
    /// let orders_before = orders.also_run(before.build()?)?;
    /// orders.keep_recovering(Duration::from_secs(10)); // of both versions
    ///
    /// let old = orders_before.run_to_end(990).await?.id();
    /// let new = orders.run_to_end((990, "EUR".to_owned())).await?.id();
    /// for (id, steps) in [(old, 1), (new, 2)] {
    ///     let state = orders.state(id).await?.unwrap();
    ///     assert_eq!((state.status, state.steps.len()), (Status::Completed, steps));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns [`InvalidVersion`] if the definition has another name, if the executor runs this version already or
    /// shuts down, or if the store lacks an operation that the definition needs.
    pub fn also_run<J>(
        &self,
        definition: Definition<J, F>,
    ) -> Result<Executor<J, F, St>, InvalidVersion>
    where
        J: Send + Sync + 'static,
        F: Codec<J>,
        St: Clone,
    {
        let core = &self.core;
        let (known, given) = (core.definition.name(), definition.name());
        if known != given {
            return Err(InvalidVersion::OtherDefinition { known, given });
        }
        let version = definition.version();
        let (store, config) = (core.store.clone(), core.config.clone());
        let room = (core.slots.clone(), core.resumed.clone());
        let other = Executor::with_room(definition, store, config, room);
        let other =
            other.map_err(|error| InvalidVersion::Store { definition: given, version, error })?;
        let mut added = Vec::new();
        self.add_versions(&mut added);
        let mut versions = core.versions.lock().unwrap_or_else(PoisonError::into_inner);
        if core.is_shutting_down() {
            return Err(InvalidVersion::ShutDown { definition: given });
        }
        versions.retain(|other| !other.is_shutting_down());
        let again = |other: &Arc<dyn Version<F>>| other.definition().version().1 == version;
        if added.contains(&version) || versions.iter().any(again) {
            return Err(InvalidVersion::AlreadyRuns { definition: given, version });
        }
        versions.push(Arc::new(other.clone()));
        Ok(other)
    }

    /// Returns the versions of the definition that run here.
    pub(in crate::saga) fn known_versions(&self) -> Vec<u32> {
        let mut versions = Vec::new();
        self.add_versions(&mut versions);
        versions
    }

    /// Returns the executor of another version to which a saga belongs; `None` if it belongs to none that runs here.
    pub(in crate::saga) async fn version_of(
        &self,
        saga: SagaId,
    ) -> Result<Option<Arc<dyn Version<F>>>, SagaError> {
        let core = &self.core;
        if core.versions().is_empty() {
            return Ok(None);
        }
        let loading = core.ask("loading a saga", core.store.load(saga)).await;
        let record = loading.map_err(|error| SagaError::Store { saga, error })?;
        Ok(record.and_then(|record| core.version(&record.definition, record.version)))
    }

    /// Returns the error of a call for a saga of a version that does not run here.
    pub(in crate::saga) fn other_version(&self, saga: SagaId, version: u32) -> SagaError {
        let definition = self.core.definition.inner.name.to_string();
        SagaError::OtherVersion { saga, definition, version, known: self.known_versions() }
    }

    /// Returns the state of a saga, of this version or of another one that runs here.
    pub(in crate::saga) fn tree_of(&self, record: &Record<F::Encoded>) -> Result<Tree, SagaError> {
        let saga = record.id;
        if let Some(other) = self.core.version(&record.definition, record.version) {
            return other.tree_of(record);
        }
        self.check_definition(record)?;
        let definition = &self.core.definition.inner;
        let state = State::fold(definition.steps.len(), &record.entries);
        let state = state.map_err(|why| SagaError::Corrupt { saga, why })?;
        Ok(Tree::new(definition.name, &definition.plan, &state, record))
    }

    /// Reports sagas of other versions that no executor runs. Logs each version once.
    pub(in crate::saga) async fn find_others(
        &self,
        recovery: &mut Recovery,
    ) -> Result<(), StoreError> {
        const MOST: usize = 100;
        let core = &self.core;
        let definition = &core.definition.inner;
        let (name, known) = (definition.name.as_str(), self.known_versions());
        let asking = core.store.other_versions(name, &known, MOST);
        recovery.other_versions = core.ask("listing sagas of other versions", asking).await?;
        for other in &recovery.other_versions {
            let mut logged = core.other_versions.lock().unwrap_or_else(PoisonError::into_inner);
            if logged.insert(other.version) {
                tracing::warn!(
                    target: "buttress", layer = core.config.layer().as_str(), definition = name,
                    version = other.version, known = ?known, saga = %other.id,
                    "unfinished sagas of another version: run that version too, or migrate its sagas"
                );
            }
        }
        Ok(())
    }
}
