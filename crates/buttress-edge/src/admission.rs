//! [`Admit`]: who may use a route.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use buttress::InvalidConfig;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderName, HeaderValue, Request, Response};

use crate::Body;
use crate::answer::Facts;

/// An admission, which decides who may use a [`Route`](crate::Route).
///
/// The proxy asks after it has found the route, and before the request spends a token of a limit. A closure from a
/// request to an [`Admission`] admits too.
///
/// The request has no fields of one connection, and no field that any route uses for
/// [`forward_identity`](crate::Route::forward_identity). The answer can change the header fields, the extensions and
/// the body. The proxy ignores changes of the method, the target and the version, because it has checked them.
///
/// ```
/// use buttress_edge::{Admission, Body, Denied, Route, Subject};
/// use http::{HeaderValue, Request};
///
/// let route = Route::new("orders").admit(|mut request: Request<Body>| {
///     let session = request.headers().get("cookie").map(HeaderValue::as_bytes);
///     // An application looks the session up.
///     let Some(Ok(subject)) = session.map(|_| Subject::new("customer-7")) else {
///         let challenge = HeaderValue::from_static(r#"Session realm="shop""#);
///         return Admission::Now(Err(Denied::unauthenticated(challenge)));
///     };
///     request.extensions_mut().insert(subject);
///     Admission::Now(Ok(request))
/// });
/// ```
pub trait Admit: Send + Sync {
    /// Admits or denies a request. A request that is admitted has its [`Subject`](crate::Subject) in its extensions,
    /// if the subject is known.
    ///
    /// # Cancel safety
    /// The proxy drops a future of [`Admission::Later`] if the client leaves.
    fn admit(&self, request: Request<Body>) -> Admission;

    /// Returns the header fields that carry credentials, besides `Authorization`. Default: none.
    ///
    /// The proxy removes them from the requests of every route, except routes with
    /// [`forward_credentials`](crate::Route::forward_credentials). It removes them from the copies of a
    /// [`RouteShadow`](crate::RouteShadow) too, also under names that CGI reads as one of them.
    fn credentials(&self) -> Vec<HeaderName> {
        Vec::new()
    }

    /// Checks the settings. The proxy calls it once, when it takes the route. Default: there is nothing to check.
    ///
    /// # Errors
    /// Returns an error if a setting is missing or out of its bounds.
    fn check(&self) -> Result<(), InvalidConfig> {
        Ok(())
    }
}

impl<F> Admit for F
where
    F: Fn(Request<Body>) -> Admission + Send + Sync,
{
    fn admit(&self, request: Request<Body>) -> Admission {
        self(request)
    }
}

/// The answer of an [`Admit`].
#[expect(
    clippy::large_enum_variant,
    reason = "a request that is admitted without waiting needs no box"
)]
pub enum Admission {
    /// The decision.
    Now(Result<Request<Body>, Denied>),
    /// A decision that needs time. The proxy sets no limit to this time.
    Later(Pin<Box<dyn Future<Output = Result<Request<Body>, Denied>> + Send>>),
}

impl Admission {
    /// Returns an answer that is ready when `decision` is.
    pub fn later(
        decision: impl Future<Output = Result<Request<Body>, Denied>> + Send + 'static,
    ) -> Self {
        Self::Later(Box::pin(decision))
    }

    pub(crate) async fn decided(self) -> Result<Request<Body>, Denied> {
        match self {
            Self::Now(decision) => decision,
            Self::Later(decision) => decision.await,
        }
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The request has credentials.
            Self::Now(Ok(_)) => f.write_str("Now(Ok(..))"),
            Self::Now(Err(denied)) => f.debug_tuple("Now").field(denied).finish(),
            Self::Later(_) => f.write_str("Later(..)"),
        }
    }
}

/// Why a request is denied.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DeniedKind {
    /// The credentials are missing or invalid: 401.
    Unauthenticated,
    /// The credentials are valid and do not suffice: 403.
    Forbidden,
    /// The credentials cannot be checked, e.g. because the key server is unavailable: 503.
    Unavailable,
}

/// The denial of a request.
pub struct Denied {
    /// The reason, as the numbers of the route count it.
    pub kind: DeniedKind,
    /// The answer to the client. The proxy adds `Proxy-Status`, and `WWW-Authenticate: Bearer` to a 401 without this
    /// field. A client of gRPC gets a gRPC status in place of this answer.
    pub response: Response<Body>,
}

impl Denied {
    /// Denies a request without valid credentials: 401, with a challenge for `WWW-Authenticate`. The body is a problem
    /// document.
    #[must_use]
    pub fn unauthenticated(challenge: HeaderValue) -> Self {
        let mut denied = Self::of(DeniedKind::Unauthenticated);
        denied.response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        denied
    }

    /// Denies a request whose credentials do not suffice: 403, with a problem document.
    #[must_use]
    pub fn forbidden() -> Self {
        Self::of(DeniedKind::Forbidden)
    }

    /// Denies a request whose credentials cannot be checked now: 503, with a problem document.
    #[must_use]
    pub fn unavailable() -> Self {
        Self::of(DeniedKind::Unavailable)
    }

    fn of(kind: DeniedKind) -> Self {
        Self { kind, response: Facts::of_denied(kind).document() }
    }
}

impl fmt::Debug for Denied {
    /// Omits fields and body: they may quote a credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Denied")
            .field("kind", &self.kind)
            .field("status", &self.response.status())
            .finish_non_exhaustive()
    }
}

/// The admission of a route.
#[derive(Clone)]
pub(crate) struct Admits(pub(crate) Arc<dyn Admit>);

impl fmt::Debug for Admits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admit").finish_non_exhaustive()
    }
}
