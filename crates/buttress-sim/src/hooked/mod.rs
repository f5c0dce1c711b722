//! Stores whose operations pass through a hook of the test.
//!
//! A [`Hook`] gets every operation of a store, and the future that runs it. It can delay the
//! operation, refuse it, lose its answer, or run it on a separate task. [`Hooked`] is the store
//! with the hook. It implements the store traits of sagas ([`saga`]), of outboxes ([`outbox`]) and
//! of idempotency layers ([`idempotency`]), so a test writes no store to make one fail.
//!
//! ```
//! use std::any::Any;
//! use std::time::Duration;
//!
//! use buttress::StoreError;
//! use buttress_durable::saga::{MemoryStore, SagaId, Store, WorkerId};
//! use buttress_sim::hooked::{Hook, Hooked, Operation, Run};
//!
//! /// The leases of workers cannot be renewed.
//! #[derive(Clone)]
//! struct NoRenewals;
//!
//! impl<O: Operation> Hook<O> for NoRenewals {
//!     async fn around<T: Any + Send>(&self, operation: O, run: Run<T>) -> Result<T, StoreError> {
//!         match operation.name() {
//!             "renew_worker" => Err(StoreError::transient("unavailable")),
//!             _ => run.await,
//!         }
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let memory = MemoryStore::of_bytes(buttress::Clock::default());
//! let store = Hooked::new(memory, NoRenewals);
//! assert!(store.renew_worker(WorkerId::new(1), Duration::from_secs(10)).await.is_err());
//! assert_eq!(store.load(SagaId::new(1)).await.unwrap(), None);
//! # }
//! ```

use std::any::Any;
use std::future::Future;
use std::pin::Pin;

use buttress::StoreError;

pub mod idempotency;
pub mod outbox;
pub mod saga;

/// An operation of a store, with its arguments.
pub trait Operation: Send + 'static {
    /// Returns the name of the method of the store.
    fn name(&self) -> &'static str;
}

/// Defines the operations of a store: each with the name of its method, and the arguments.
macro_rules! operations {
    ($(#[$doc:meta])+ $(<$parameter:ident>)? $($variant:ident $method:literal $fields:tt)+) => {
        $(#[$doc])+
        #[non_exhaustive]
        #[derive(Clone, PartialEq, Eq, Debug)]
        #[expect(missing_docs, reason = "the methods of the store have the names and the arguments")]
        pub enum Operation$(<$parameter>)? {
            $($variant $fields,)+
        }

        impl$(<$parameter: Send + 'static>)? super::Operation for Operation$(<$parameter>)? {
            fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => $method,)+
                }
            }
        }
    };
}
use operations;

/// The future that runs an operation on the store. It owns everything that it needs, so a hook can
/// move it to a task that outlives the caller.
pub type Run<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

/// A hook, which gets the operations `O` of a [`Hooked`] store.
pub trait Hook<O>: Send + Sync + 'static {
    /// Answers `operation`. `run` runs it on the store. The hook can read the answer of `run`
    /// through [`answer`].
    ///
    /// # Errors
    /// Returns the errors of `run`, and the errors that the hook makes up.
    fn around<T: Any + Send>(
        &self,
        operation: O,
        run: Run<T>,
    ) -> impl Future<Output = Result<T, StoreError>> + Send;
}

/// Returns the answer of a store as the type that its operation returns.
///
/// # Panics
/// If the answer has another type. The hook then names the wrong type for the operation.
#[must_use]
#[expect(clippy::panic, reason = "the mistake is in the test that runs the hook")]
pub fn answer<T: Any, A: Any>(answer: &A) -> &T {
    match (answer as &dyn Any).downcast_ref() {
        Some(answer) => answer,
        None => panic!("the operation does not return a {}", std::any::type_name::<T>()),
    }
}

/// A store whose operations pass through a [`Hook`].
///
/// It implements a store trait if `S` implements the trait and is `Clone`, and if `H` is a hook of
/// the trait's operations. Clones of `S` must share one state.
///
/// Operations in the transaction of a caller cannot outlive the caller. They go to the hook alone:
/// a hook that implements [`Write`](buttress_durable::outbox::Write),
/// [`CreateIn`](buttress_durable::saga::CreateIn) or
/// [`CompleteIn`](buttress::idempotency::CompleteIn) makes the hooked store implement it.
#[derive(Clone, Debug, Default)]
pub struct Hooked<S, H> {
    store: S,
    hook: H,
}

impl<S, H> Hooked<S, H> {
    /// Puts `hook` around the operations of `store`.
    pub const fn new(store: S, hook: H) -> Self {
        Self { store, hook }
    }

    /// Returns the store, for operations that the hook does not get.
    pub const fn store(&self) -> &S {
        &self.store
    }

    /// Returns the hook.
    pub const fn hook(&self) -> &H {
        &self.hook
    }
}

impl<S: Clone, H> Hooked<S, H> {
    /// Passes `operation` to the hook. `run` runs it on a clone of the store.
    fn pass<O, T, F>(
        &self,
        operation: O,
        run: impl FnOnce(S) -> F,
    ) -> impl Future<Output = Result<T, StoreError>> + Send
    where
        H: Hook<O>,
        T: Any + Send,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        self.hook.around(operation, Box::pin(run(self.store.clone())))
    }
}
