use std::fmt;

use crate::vocabulary::name::Name;
use crate::vocabulary::observe::Absence;

/// The reason why an optional part has no value.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Missing<E> {
    /// The service of the part returned this error, from `poll_ready` or from the call.
    Failed(E),
    /// The service had the request and did not answer in time.
    TimedOut,
    /// The service did not become ready in time. It never got the request.
    NotReady,
    /// The service panicked.
    Panicked,
}

impl<E> Missing<E> {
    /// Returns the reason without the error, for logs and metrics.
    #[must_use]
    pub const fn reason(&self) -> Absence {
        match self {
            Self::Failed(_) => Absence::Failed,
            Self::TimedOut => Absence::TimedOut,
            Self::NotReady => Absence::NotReady,
            Self::Panicked => Absence::Panicked,
        }
    }
}

impl<E> fmt::Display for Missing<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed(_) => "the part failed",
            Self::TimedOut => "the part did not answer in time",
            Self::NotReady => "the part did not become ready in time",
            Self::Panicked => "the part panicked",
        })
    }
}

impl<E: std::error::Error + 'static> std::error::Error for Missing<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }
}

/// The response of an [`Aggregate`](super::Aggregate): a tuple with the value of each part, in the order of the
/// definition.
///
/// A required part is in the tuple as its response. An optional part is there as
/// `Result<response, `[`Missing`]`<error>>`.
#[derive(Clone, PartialEq, Eq)]
pub struct Parts<T> {
    /// The values of the parts.
    pub values: T,
    missing: Vec<Name>,
}

impl<T> Parts<T> {
    pub(super) fn new(values: T, missing: Vec<Name>) -> Self {
        Self { values, missing }
    }

    /// Returns `true` if an optional part is missing.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.missing.is_empty()
    }

    /// Returns the names of the missing parts, in the order of the definition.
    #[must_use]
    pub fn missing(&self) -> &[Name] {
        &self.missing
    }

    /// Returns the values and the names of the missing parts.
    #[must_use]
    pub fn into_parts(self) -> (T, Vec<Name>) {
        (self.values, self.missing)
    }

    /// Replaces the values, for example by the body of a page. The missing parts stay.
    pub fn map<U>(self, map: impl FnOnce(T) -> U) -> Parts<U> {
        Parts { values: map(self.values), missing: self.missing }
    }
}

impl<T: fmt::Debug> fmt::Debug for Parts<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Parts");
        text.field("values", &self.values).field("missing", &self.missing).finish()
    }
}
