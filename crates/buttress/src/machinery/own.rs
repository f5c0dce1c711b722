//! How services and calls refer to the state of their layer.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use private::Sealed;

/// The choice of how the services and calls of a layer refer to its state: [`Counted`] or [`Leaked`].
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

/// Makes `handle` of a service or a layer.
macro_rules! handle_of {
    ($name:ident<$($param:ident),+>) => {
        impl<$($param),+> $name<$($param),+>
        where
            O: $crate::machinery::own::Own,
        {
            /// Returns the handle of the shared state, for operators.
            #[must_use]
            pub fn handle(&self) -> Handle {
                Handle { shared: $crate::machinery::own::Held::counted(&self.shared).clone() }
            }
        }
    };
}
pub(crate) use handle_of;

/// Makes a service over the state of its layer, with `new`, `handle`, `Clone` and `Debug`. Besides
/// the named fields it has the inner service and the state. Behind the semicolon is the field that
/// a clone does not copy, with its first value.
macro_rules! service_over {
    (
        $(#[$doc:meta])+
        pub struct $name:ident<$($param:ident $(: $bound:ident)? $(= $default:ident)?),+> {
            $($field:ident: $kind:ident),+
            $(; $(#[$own_doc:meta])* $own:ident: $own_type:ty = $first:expr)?
        }
    ) => {
        $(#[$doc])+
        pub struct $name<$($param $(: $bound)? $(= $default)?),+> {
            inner: S,
            shared: O::Of<Shared>,
            $($field: $kind,)+
            $($(#[$own_doc])* $own: $own_type,)?
        }

        impl<$($param),+> $name<$($param),+>
        where
            O: $crate::machinery::own::Own,
        {
            pub(super) fn new(inner: S, shared: O::Of<Shared>, $($field: $kind),+) -> Self {
                Self { inner, shared, $($field,)+ $($own: $first)? }
            }
        }

        $crate::machinery::own::handle_of!($name<$($param),+>);

        impl<$($param),+> Clone for $name<$($param),+>
        where
            S: Clone,
            O: $crate::machinery::own::Own,
            $($kind: Clone,)+
        {
            fn clone(&self) -> Self {
                Self::new(self.inner.clone(), self.shared.clone(), $(self.$field.clone()),+)
            }
        }

        impl<$($param),+> std::fmt::Debug for $name<$($param),+>
        where
            S: std::fmt::Debug,
            O: $crate::machinery::own::Own,
        {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("inner", &self.inner)
                    .field("handle", &self.handle())
                    .finish_non_exhaustive()
            }
        }
    };
}
pub(crate) use service_over;

/// Makes a layer with `handle`, `Clone` and `Debug`. Besides the named fields it has its state.
/// Behind the semicolon is the field that marks the mode.
macro_rules! layer_over {
    (
        $(#[$doc:meta])+
        pub struct $name:ident<$($param:ident $(: $bound:ident)? $(= $default:ident)?),+> {
            $($field:ident: $kind:ident),+ $(; $mode:ident: $marker:ident)?
        }
    ) => {
        $(#[$doc])+
        #[must_use]
        pub struct $name<$($param $(: $bound)? $(= $default)?),+> {
            shared: O::Of<Shared>,
            $($field: $kind,)+
            $($mode: std::marker::PhantomData<$marker>,)?
        }

        $crate::machinery::own::handle_of!($name<$($param),+>);

        impl<$($param),+> Clone for $name<$($param),+>
        where
            O: $crate::machinery::own::Own,
            $($kind: Clone,)+
        {
            fn clone(&self) -> Self {
                Self {
                    shared: self.shared.clone(),
                    $($field: self.$field.clone(),)+
                    $($mode: self.$mode,)?
                }
            }
        }

        impl<$($param),+> std::fmt::Debug for $name<$($param),+>
        where
            O: $crate::machinery::own::Own,
        {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let mut debug = f.debug_struct(stringify!($name));
                debug.field("handle", &self.handle()).finish_non_exhaustive()
            }
        }
    };
}
pub(crate) use layer_over;

/// Makes the constructors of a layer whose parameters all have defaults: `new`, `from_handle`, and
/// the `build` of its configuration. The braces have the first value of each field, the text says
/// what the constructors create, and the last lines say what they refuse.
macro_rules! constructors {
    (
        $name:ident { $($field:ident: $first:expr),+ }, $what:literal,
        $(#[$errors:meta])+
    ) => {
        impl Config {
            #[doc = concat!("Builds ", $what, ". Short for [`", stringify!($name), "::new`].")]
            ///
            /// # Errors
            #[doc = concat!("The errors of [`", stringify!($name), "::new`]: an error names the first field")]
            /// that is out of its bounds.
            pub fn build(self) -> Result<$name, $crate::InvalidConfig> {
                $name::new(self)
            }
        }

        impl $name {
            #[doc = concat!("Creates ", $what, ".")]
            ///
            /// # Errors
            $(#[$errors])+
            pub fn new(config: Config) -> Result<Self, $crate::InvalidConfig> {
                Ok(Self::over(Shared::new(&config)?))
            }

            /// Creates another layer over the state behind `handle`.
            pub fn from_handle(handle: &Handle) -> Self {
                Self::over(handle.shared.clone())
            }

            fn over(shared: std::sync::Arc<Shared>) -> Self {
                Self { shared, $($field: $first),+ }
            }
        }
    };
}
pub(crate) use constructors;

/// Makes the `Default` of a layer: the layer of the default configuration, which the lines describe.
macro_rules! default_layer {
    ($(#[$doc:meta])+ $name:ident) => {
        impl Default for $name {
            $(#[$doc])+
            fn default() -> Self {
                match Self::new(Config::new()) {
                    Ok(layer) => layer,
                    Err(error) => unreachable!("the defaults are valid: {error}"),
                }
            }
        }
    };
}
pub(crate) use default_layer;

/// Makes `leak` of a layer. The parameters in angle brackets are free, and the two types are the
/// layer before and after.
macro_rules! leak_of {
    (<$($free:ident),+> $name:ident { $($field:ident),+ }: $from:ty => $to:ty) => {
        impl<$($free),+> $from {
            /// Keeps the layer's state until the process ends. Use it for layers that are built once.
            ///
            /// The services of a leaked layer count no references. A clone of a service then writes no
            /// cache line that all threads share. A call writes only the lines that hold decisions and counts.
            pub fn leak(self) -> $to {
                let Self { shared, $($field),+ } = self;
                $name { shared: $crate::machinery::own::Forever::new(shared), $($field),+ }
            }
        }
    };
}
pub(crate) use leak_of;

mod private {
    /// No type outside of this crate implements the traits.
    pub trait Sealed {}

    impl Sealed for super::Counted {}
    impl Sealed for super::Leaked {}
    impl<T> Sealed for std::sync::Arc<T> {}
    impl<T> Sealed for super::Forever<T> {}
}
