//! [`StoreError`]: what a durable store answers when it cannot do what it was asked.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// What a caller can do about a [`StoreError`].
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StoreErrorKind {
    /// The store is away, slow, full or busy. Whether the operation was done is unknown; repeating it
    /// with the same id is safe, and may succeed later.
    Transient,
    /// What is stored contradicts what was asked: the same id with other content.
    Conflict,
    /// Somebody else has taken over what the caller owned. The caller must stop working on it.
    Fenced,
    /// What is stored cannot be read: damaged, or written by a version this one does not know.
    Corrupt,
    /// The store cannot hold what it was given, whatever its state: too large, not allowed.
    Invalid,
    /// A person must mend the store: a role, a database, a schema, a right or a file is missing. The
    /// operation was not done. Repeating it succeeds after the store was mended.
    ///
    /// Relays, executors and idempotency layers repeat such an operation once a minute.
    Misconfigured,
}

impl StoreErrorKind {
    /// The kind in kebab case, for logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Conflict => "conflict",
            Self::Fenced => "fenced",
            Self::Corrupt => "corrupt",
            Self::Invalid => "invalid",
            Self::Misconfigured => "misconfigured",
        }
    }
}

impl fmt::Display for StoreErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An operation of a durable store that failed. Cheap to clone: one failed batch answers many callers.
#[derive(Clone, Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    /// What was asked, of which key or row, and what is wrong with it.
    message: Cow<'static, str>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl StoreError {
    /// An error of `kind`. The message names what was asked, the row, and what is wrong.
    pub fn new(kind: StoreErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// [`StoreErrorKind::Transient`].
    pub fn transient(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StoreErrorKind::Transient, message)
    }

    /// [`StoreErrorKind::Conflict`].
    pub fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StoreErrorKind::Conflict, message)
    }

    /// [`StoreErrorKind::Fenced`].
    pub fn fenced(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StoreErrorKind::Fenced, message)
    }

    /// [`StoreErrorKind::Corrupt`].
    pub fn corrupt(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StoreErrorKind::Corrupt, message)
    }

    /// [`StoreErrorKind::Invalid`].
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StoreErrorKind::Invalid, message)
    }

    /// [`StoreErrorKind::Misconfigured`]. The message names what is missing.
    pub fn misconfigured(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StoreErrorKind::Misconfigured, message)
    }

    /// The same error with what caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The same error, whose message begins with `context`: the file, the host or the table.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message).into();
        self
    }

    /// What a caller can do about it.
    #[must_use]
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Whether repeating the operation, with the same id, can succeed.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Transient)
    }

    /// Whether a person must mend the store before the operation can succeed.
    #[must_use]
    pub const fn is_misconfigured(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Misconfigured)
    }

    /// Whether the operation, repeated with the same id, can succeed without a change of what was asked:
    /// the kind is [`Transient`](StoreErrorKind::Transient) or
    /// [`Misconfigured`](StoreErrorKind::Misconfigured). The two differ in how soon.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Transient | StoreErrorKind::Misconfigured)
    }

    /// Whether somebody else has taken over.
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
