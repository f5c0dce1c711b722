//! How services and calls refer to the state of their layer.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use private::Sealed;

/// Choice of how the services and calls of a layer refer to its state: [`Counted`] or [`Leaked`].
///
/// This trait is sealed.
pub trait Own: Sealed + fmt::Debug + Send + Sync + 'static {
    /// The reference that a service or a call holds.
    #[doc(hidden)]
    type Of<T: Send + Sync + 'static>: Held<T>;
}

/// A reference to a state: a counted one, or one to a state that lives as long as the process.
#[doc(hidden)]
pub trait Held<T>: Sealed + Clone + Deref<Target = T> + Send + Sync + Unpin + 'static {
    /// Returns the state with its count, for handles.
    fn counted(&self) -> &Arc<T>;
}

/// Services and calls count their references to the layer's state. The last of them drops the
/// state. The default.
#[derive(Clone, Copy, Debug)]
pub enum Counted {}

/// Services and calls count no references, because the layer's state is never dropped. A layer's
/// `leak` chooses it.
#[derive(Clone, Copy, Debug)]
pub enum Leaked {}

/// A state that is never dropped.
#[doc(hidden)]
pub struct Forever<T: 'static>(&'static Arc<T>);

impl Own for Counted {
    type Of<T: Send + Sync + 'static> = Arc<T>;
}

impl Own for Leaked {
    type Of<T: Send + Sync + 'static> = Forever<T>;
}

impl<T: Send + Sync + 'static> Held<T> for Arc<T> {
    #[inline(always)]
    fn counted(&self) -> &Self {
        self
    }
}

impl<T: Send + Sync + 'static> Held<T> for Forever<T> {
    #[inline(always)]
    fn counted(&self) -> &Arc<T> {
        self.0
    }
}

impl<T: 'static> Forever<T> {
    /// Leaks a reference to `state`.
    pub(crate) fn new(state: Arc<T>) -> Self {
        Self(Box::leak(Box::new(state)))
    }
}

impl<T> Clone for Forever<T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Forever<T> {}

impl<T> Deref for Forever<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        self.0
    }
}

impl<T: fmt::Debug> fmt::Debug for Forever<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

mod private {
    /// No type outside of this crate implements the traits.
    pub trait Sealed {}

    impl Sealed for super::Counted {}
    impl Sealed for super::Leaked {}
    impl<T> Sealed for std::sync::Arc<T> {}
    impl<T> Sealed for super::Forever<T> {}
}
