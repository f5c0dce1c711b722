//! [`Builder`]: registers the handlers of a [`Dispatch`].

use std::any::{TypeId, type_name};
use std::collections::BTreeMap;
use std::fmt;

use super::bus::{Dispatch, Entry, Table};
use super::error::{Duplicate, Missing, NoHandler};
use super::registered::{Handles, Request};

/// A builder that registers the handlers of a [`Dispatch`]. [`Dispatch::builder`] returns it.
#[must_use = "a builder does nothing until it is built"]
#[derive(Default)]
pub struct Builder {
    table: Table,
    /// The expected types: their names, by type.
    expected: BTreeMap<TypeId, &'static str>,
}

impl Builder {
    /// Registers `service` as the handler of the request type `Req`.
    ///
    /// Each request calls a clone of `service`. Layers around it keep their state in the layer value, so all clones
    /// share it. A service that is not `Sync` can be wrapped in `tower::util::BoxCloneSyncService`.
    ///
    /// # Errors
    /// Returns [`Duplicate`] if `Req` has a handler already.
    pub fn on<Req: Request, S: Handles<Req>>(mut self, service: S) -> Result<Self, Duplicate> {
        if self.table.has(TypeId::of::<Req>()) {
            return Err(Duplicate { name: type_name::<Req>() });
        }
        self.table.insert::<Req>(Entry::new(service));
        Ok(self)
    }

    /// Replaces the handler of the request type `Req`, e.g. in a test.
    ///
    /// # Errors
    /// Returns [`NoHandler`] if `Req` has no handler that `service` could replace.
    pub fn replace<Req: Request, S: Handles<Req>>(mut self, service: S) -> Result<Self, NoHandler> {
        if !self.table.has(TypeId::of::<Req>()) {
            return Err(self.table.no_handler::<Req>());
        }
        self.table.insert::<Req>(Entry::new(service));
        Ok(self)
    }

    /// Declares that `Req` must have a handler. [`build`](Self::build) checks it.
    pub fn expects<Req: Request>(mut self) -> Self {
        self.expected.insert(TypeId::of::<Req>(), type_name::<Req>());
        self
    }

    /// Builds the dispatch.
    ///
    /// # Errors
    /// Returns [`Missing`] with every expected type that has no handler.
    pub fn build(self) -> Result<Dispatch, Missing> {
        let missing = self.expected.iter().filter(|(id, _)| !self.table.has(**id));
        let mut names: Vec<&'static str> = missing.map(|(_, name)| *name).collect();
        if names.is_empty() {
            return Ok(Dispatch::new(self.table));
        }
        names.sort_unstable();
        Err(Missing { names, known: self.table.names() })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expected: Vec<_> = self.expected.values().collect();
        f.debug_struct("Builder")
            .field("known", &self.table.names())
            .field("expected", &expected)
            .finish()
    }
}
