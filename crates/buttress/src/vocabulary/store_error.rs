//! [`StoreError`]: the failure of a durable store.

use crate::vocabulary::words::words;
use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// The result of an operation of a store.
pub type Answer<T> = Result<T, StoreError>;

/// The kind of a [`StoreError`]. A caller chooses its reaction by the kind.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StoreErrorKind {
    /// The store is unavailable, slow, full or busy. It is unknown whether the operation took
    /// effect. Repeating it with the same id is safe, and may succeed later.
    Transient,
    /// The request contradicts the stored data: the id is the same, the content differs.
    Conflict,
    /// Another worker has taken over the caller's claim, lease or saga. The caller must stop
    /// working on it.
    Fenced,
    /// The stored data cannot be read: it is damaged, or a version that this one does not know
    /// wrote it.
    Corrupt,
    /// The store can never hold the value: it is too large or not allowed.
    Invalid,
    /// A person must fix the store: a role, a database, a schema, a table, a right or a file is
    /// missing.
    /// The operation did not take effect. Repeating it succeeds after the store was fixed.
    ///
    /// Relays, executors and idempotency layers repeat such an operation once per minute.
    Misconfigured,
}

words! {
    /// Returns the kind in kebab case, for logs.
    StoreErrorKind {
        Transient => "transient", Conflict => "conflict", Fenced => "fenced", Corrupt => "corrupt",
        Invalid => "invalid", Misconfigured => "misconfigured",
    }
}

/// A failed operation of a durable store. Cheap to clone, because one failed batch answers many
/// callers.
#[derive(Clone, Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    /// The operation, its key or row, and the fault.
    message: Cow<'static, str>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl StoreError {
    /// Creates an error of `kind`. The message names the operation, the row and the fault.
    pub fn new(kind: StoreErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Creates an error of the kind [`Transient`](StoreErrorKind::Transient).
    pub fn transient(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StoreErrorKind::Transient, message)
    }

    /// Creates an error of the kind [`Conflict`](StoreErrorKind::Conflict).
    pub fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StoreErrorKind::Conflict, message)
    }

    /// Creates an error of the kind [`Fenced`](StoreErrorKind::Fenced).
    pub fn fenced(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StoreErrorKind::Fenced, message)
    }

    /// Creates an error of the kind [`Corrupt`](StoreErrorKind::Corrupt).
    pub fn corrupt(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StoreErrorKind::Corrupt, message)
    }

    /// Creates an error of the kind [`Invalid`](StoreErrorKind::Invalid).
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StoreErrorKind::Invalid, message)
    }

    /// Creates an error of the kind [`Misconfigured`](StoreErrorKind::Misconfigured). The message
    /// names the missing part.
    pub fn misconfigured(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StoreErrorKind::Misconfigured, message)
    }

    /// Sets the cause, which `source()` then returns.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// Puts `context` in front of the message: the file, the host or the table.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message).into();
        self
    }

    /// Returns the kind of the error. A caller chooses its reaction by the kind.
    #[must_use]
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Returns `true` if the kind is [`Transient`](StoreErrorKind::Transient): repeating the
    /// operation with the same id can succeed.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Transient)
    }

    /// Returns `true` if a person must fix the store before the operation can succeed.
    #[must_use]
    pub const fn is_misconfigured(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Misconfigured)
    }

    /// Returns `true` if the same operation, repeated with the same id, can succeed.
    ///
    /// The kind is [`Transient`](StoreErrorKind::Transient) or
    /// [`Misconfigured`](StoreErrorKind::Misconfigured). A transient error can pass by itself, a
    /// misconfigured store needs a person.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Transient | StoreErrorKind::Misconfigured)
    }

    /// Returns `true` if another worker has taken over.
    #[must_use]
    pub const fn is_fenced(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Fenced)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "store: {}: {}", self.kind, self.message)
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
