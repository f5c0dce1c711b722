//! [`Dispatch`]: one value that sends each request to the handler of its type.

use std::any::{Any, TypeId, type_name};
use std::fmt;
use std::sync::Arc;

use super::builder::Builder;
use super::error::NoHandler;
use super::future::ResponseFuture;
use super::handler::Handler;
use super::registered::{Registered, Request};
use crate::hashing::NumberMap;

/// A dispatcher, which sends each request to the handler of its exact type. Cheap to clone: clones share the handlers.
///
/// The [module](super) page has an example.
#[derive(Clone)]
pub struct Dispatch(Arc<Table>);

impl Dispatch {
    /// Returns a builder without handlers.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(super) fn new(table: Table) -> Self {
        Self(Arc::new(table))
    }

    /// Sends `request` to the handler of its type, and returns the answer.
    ///
    /// Calls a clone of the registered service once the clone is ready. Makes one allocation besides the
    /// allocations of the service. The call runs on the caller's task.
    ///
    /// # Errors
    /// The future returns the errors of the handler unchanged. It returns [`NoHandler`], converted to the error of
    /// the request, if the type has no handler.
    ///
    /// # Cancel safety
    /// Dropping the future drops the call of the handler.
    pub fn send<Req: Request>(&self, request: Req) -> ResponseFuture<Req> {
        match self.0.get::<Req>() {
            Some(handler) => ResponseFuture::running(handler.send(request)),
            None => ResponseFuture::no_handler(self.0.no_handler::<Req>()),
        }
    }

    /// Returns the handler of the request type `Req` as a service, for stacks of layers.
    ///
    /// # Errors
    /// Returns [`NoHandler`] if `Req` has no handler.
    pub fn handler<Req: Request>(&self) -> Result<Handler<Req>, NoHandler> {
        self.0.get::<Req>().map(Handler::new).ok_or_else(|| self.0.no_handler::<Req>())
    }

    /// Returns the request types that have a handler, in alphabetical order.
    #[must_use]
    pub fn known(&self) -> Vec<&'static str> {
        self.0.names()
    }
}

impl fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatch").field("known", &self.known()).finish()
    }
}

/// The registered services by request type.
#[derive(Default)]
pub(super) struct Table(NumberMap<TypeId, Entry>);

/// A registered service.
pub(super) struct Entry {
    name: &'static str,
    /// A `Box<dyn Registered<Req>>`.
    registered: Box<dyn Any + Send + Sync>,
}

impl Entry {
    pub(super) fn new<Req: Request>(registered: impl Registered<Req> + 'static) -> Self {
        let registered: Box<dyn Registered<Req>> = Box::new(registered);
        Self { name: type_name::<Req>(), registered: Box::new(registered) }
    }
}

impl Table {
    pub(super) fn insert<Req: Request>(&mut self, entry: Entry) {
        self.0.insert(TypeId::of::<Req>(), entry);
    }

    pub(super) fn has(&self, id: TypeId) -> bool {
        self.0.contains_key(&id)
    }

    fn get<Req: Request>(&self) -> Option<&dyn Registered<Req>> {
        let entry = self.0.get(&TypeId::of::<Req>())?;
        entry.registered.downcast_ref::<Box<dyn Registered<Req>>>().map(|registered| &**registered)
    }

    /// Returns the registered types, in alphabetical order.
    pub(super) fn names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.0.values().map(|entry| entry.name).collect();
        names.sort_unstable();
        names
    }

    #[cold]
    pub(super) fn no_handler<Req: Request>(&self) -> NoHandler {
        NoHandler { name: type_name::<Req>(), known: self.names() }
    }
}
