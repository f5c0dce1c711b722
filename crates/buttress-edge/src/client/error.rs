//! [`ClientError`]: why a request has no usable answer, and whether the service can have seen it.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use buttress::AsRefusal;
use http::{Method, StatusCode};
use tower::BoxError;

use crate::answer::Failed;

/// The kind of a failed request.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientErrorKind {
    /// The request cannot be sent: its path leaves the base URL, or the name or the value of a header field is not
    /// valid.
    Invalid,
    /// A layer refused the request: the circuit is open, the deadline has passed, or no endpoint takes it.
    Refused,
    /// No connection could be made.
    Unsent,
    /// The service did not answer, or not in time, or answered invalidly. It may have run the request.
    Lost,
    /// The service answered with a status other than 2xx.
    Status,
    /// The body of the request or of the answer broke off, or the answer is longer than the client reads.
    Body,
    /// The answer is not of the expected form.
    Decode,
}

/// The error of a request.
///
/// The text has the method, the host and the template of the path, with the names of its parameters. It has no query,
/// no field and no body.
///
/// [`AsRefusal`] gives the refusal of a layer, with its wait, also of an error in a [`BoxError`].
#[derive(Debug)]
pub struct ClientError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ClientErrorKind,
    what: Cow<'static, str>,
    status: Option<StatusCode>,
    is_unsent: bool,
    refusal: Option<buttress::Error>,
    source: Option<BoxError>,
    about: Option<About>,
}

/// The request of an error.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub method: Method,
    pub host: Arc<str>,
    pub path: Option<PathTemplate>,
}

/// The template of the path of a request, with the names of its parameters.
#[derive(Clone, Debug)]
pub(super) struct PathTemplate(pub(super) Cow<'static, str>);

impl ClientError {
    pub(super) fn new(kind: ClientErrorKind, what: impl Into<Cow<'static, str>>) -> Self {
        let is_unsent = matches!(
            kind,
            ClientErrorKind::Invalid | ClientErrorKind::Refused | ClientErrorKind::Unsent
        );
        Self(Box::new(Inner {
            kind,
            what: what.into(),
            status: None,
            is_unsent,
            refusal: None,
            source: None,
            about: None,
        }))
    }

    pub(super) fn status_of(status: StatusCode) -> Self {
        let mut error = Self::new(ClientErrorKind::Status, format!("the answer is {status}"));
        error.0.status = Some(status);
        error
    }

    pub(super) fn because(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Names the request, unless the error already names one.
    pub(super) fn about(mut self, about: impl FnOnce() -> About) -> Self {
        self.0.about.get_or_insert_with(about);
        self
    }

    /// Returns the error of a request that has no answer. `is_seen`: an attempt may have reached the service.
    pub(super) fn of(failed: Failed, is_seen: bool) -> Self {
        let (kind, what) = match failed {
            Failed::Refused(refusal) => {
                let mut error = Self::from(refusal);
                error.0.is_unsent = !is_seen;
                return error;
            }
            Failed::Unreachable => (ClientErrorKind::Unsent, "no connection could be made"),
            Failed::Exhausted => {
                (ClientErrorKind::Unsent, "no file descriptor is free for a connection")
            }
            Failed::ConnectTimedOut => {
                (ClientErrorKind::Unsent, "no connection could be made in time")
            }
            Failed::HeadTimedOut => (ClientErrorKind::Lost, "there was no answer in time"),
            Failed::BadAnswer => (ClientErrorKind::Lost, "the answer is not valid HTTP"),
            Failed::BodyTooLarge | Failed::BodyTooSlow | Failed::BodyBroken => {
                (ClientErrorKind::Body, "the body of the request ended early or did not arrive")
            }
            _ => (ClientErrorKind::Lost, "the connection ended without an answer"),
        };
        let mut error = Self::new(kind, what);
        error.0.is_unsent &= !is_seen;
        error
    }

    /// Returns the kind of the failure.
    #[must_use]
    pub fn kind(&self) -> ClientErrorKind {
        self.0.kind
    }

    /// Returns the status of the answer, for [`ClientErrorKind::Status`].
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.0.status
    }

    /// Returns whether it is certain that the service has seen no attempt of the request.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        self.0.is_unsent
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(About { method, host, path }) = &self.0.about {
            write!(f, "{method} {host}")?;
            match path {
                Some(PathTemplate(path)) if path.starts_with('/') => f.write_str(path)?,
                Some(PathTemplate(path)) => write!(f, " {path:?}")?,
                None => {}
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.0.what)?;
        match &self.0.refusal {
            Some(refusal) => write!(f, ": {refusal}"),
            None => Ok(()),
        }
    }
}

impl Error for ClientError {
    /// A refusal is a part of this error's text, so its own source follows. A box of this error then shows its refusal
    /// to [`AsRefusal`].
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match (&self.0.refusal, &self.0.source) {
            (Some(refusal), _) => refusal.source(),
            (None, source) => source.as_deref().map(|source| source as &(dyn Error + 'static)),
        }
    }
}

/// Converts the refusal of a layer around the client.
impl From<buttress::Error> for ClientError {
    fn from(refusal: buttress::Error) -> Self {
        let mut error = Self::new(ClientErrorKind::Refused, "the request was refused");
        error.0.refusal = Some(refusal);
        error
    }
}

/// An error that passed layers over [`BoxError`]: a refusal, the client's own error, or another one.
impl From<BoxError> for ClientError {
    fn from(error: BoxError) -> Self {
        match error.downcast::<Self>() {
            Ok(own) => *own,
            Err(error) => match error.downcast::<buttress::Error>() {
                Ok(refusal) => (*refusal).into(),
                Err(other) => Self::new(ClientErrorKind::Lost, "a layer failed").because(other),
            },
        }
    }
}

impl AsRefusal for ClientError {
    fn as_refusal(&self) -> Option<&buttress::Error> {
        self.0.refusal.as_ref()
    }
}
