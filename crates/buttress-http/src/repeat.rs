use buttress::retry::CloneRequest;
use http::{HeaderMap, Method, Request};

use crate::idempotency_key::IDEMPOTENCY_KEY;

/// A body that a retry can send again: every body that is `Clone`, and
/// [`ReplayBody`](crate::ReplayBody).
pub trait RepeatableBody: Sized {
    /// Returns a second handle that sends the same body again, or `None` if the body cannot be
    /// repeated.
    fn try_copy(&self) -> Option<Self>;

    /// Returns a copy for a mirror, or `None` if there is none. To read it changes nothing for the other handles.
    ///
    /// The copy of a [`ReplayBody`](crate::ReplayBody) holds only the recorded part, so it
    /// [can be sent](Self::can_repeat) once another handle has read the whole body.
    fn try_mirror(&self) -> Option<Self> {
        self.try_copy()
    }

    /// Whether this unread copy can still be sent.
    fn can_repeat(&self) -> bool {
        true
    }

    /// Reserves the body for this copy. The retry calls it before it waits to send the copy.
    /// Afterwards no other handle can keep the copy from being sent whole. Returns `false` if the
    /// body can no longer be repeated.
    fn commit(&self) -> bool {
        true
    }
}

impl<B: Clone> RepeatableBody for B {
    fn try_copy(&self) -> Option<Self> {
        Some(self.clone())
    }
}

/// A mark in the extensions of a request that makes it repeatable, whatever its method. The caller
/// thereby states that a second execution has no further effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repeatable;

/// The number of the attempt, from 1. A retry with [`IdempotentRequests`] puts it into the
/// extensions of every request that it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(pub u32);

/// A copier for the requests that may be repeated. All other requests get one attempt.
///
/// It copies requests with an idempotent method (RFC 9110, section 9.2.2: `GET`, `HEAD`, `OPTIONS`,
/// `TRACE`, `PUT`, `DELETE`). It copies requests with an `Idempotency-Key`, by which the service
/// recognizes a repetition, and requests with [`Repeatable`] in their extensions. The body must be
/// a [`RepeatableBody`]. Under a [`ReplayLayer`](crate::ReplayLayer) a streaming body is one.
///
/// A copy has the method, URI, version, headers and extensions of the request. Each attempt carries
/// its number as an [`Attempt`] in its extensions.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use buttress::retry::RetryLayer;
/// use buttress_http::{Attempt, HttpLayerExt};
/// use http::{Request, Response, StatusCode};
/// use tower::{ServiceBuilder, ServiceExt};
///
/// let client = ServiceBuilder::new()
///     .layer(RetryLayer::default().http())
///     .service_fn(async |request: Request<String>| {
///         let second = request.extensions().get() == Some(&Attempt(2));
///         let status = if second { 200 } else { 503 };
///         Ok::<_, http::Error>(Response::builder().status(status).body(request.into_body())?)
///     });
/// let put = Request::put("/seats/7").body(String::from("taken"))?;
/// assert_eq!(client.clone().oneshot(put).await?.status(), StatusCode::OK);
/// let post = Request::post("/seats").body(String::from("one more"))?;
/// assert_eq!(client.oneshot(post).await?.status(), StatusCode::SERVICE_UNAVAILABLE);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdempotentRequests;

impl<B: RepeatableBody> CloneRequest<Request<B>> for IdempotentRequests {
    fn clone_request(&self, request: &Request<B>) -> Option<Request<B>> {
        if !may_repeat(request) {
            return None;
        }
        copy(request)
    }

    fn is_repeatable(&self, copy: &Request<B>) -> bool {
        copy.body().can_repeat()
    }

    fn commit(&self, copy: &Request<B>) -> bool {
        copy.body().commit()
    }

    fn stamp(&self, request: &mut Request<B>, attempt: u32) {
        request.extensions_mut().insert(Attempt(attempt));
    }
}

/// Returns a copy of the whole request, or `None` if its body cannot be repeated.
pub(crate) fn copy<B: RepeatableBody>(request: &Request<B>) -> Option<Request<B>> {
    request.body().try_copy().map(|body| with_body(request, body))
}

/// Returns a copy of the head of the request, with another body.
pub(crate) fn with_body<A, B>(request: &Request<A>, body: B) -> Request<B> {
    let mut copy = Request::new(body);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    copy
}

/// Whether the request may be sent again.
pub(crate) fn may_repeat<B>(request: &Request<B>) -> bool {
    request.extensions().get::<Repeatable>().is_some()
        || is_repeatable(request.method(), request.headers())
}

/// Whether a request with this method and these headers may be sent again.
pub(crate) fn is_repeatable(method: &Method, headers: &HeaderMap) -> bool {
    let has_key = || headers.get(IDEMPOTENCY_KEY).is_some_and(|key| !key.is_empty());
    method.is_idempotent() || has_key()
}

#[cfg(test)]
mod tests {
    use http::Version;

    use super::*;

    fn request(method: &str) -> Request<String> {
        Request::builder().method(method).uri("/a?b=c").body(String::from("body")).unwrap()
    }

    fn copied(request: &Request<String>) -> bool {
        IdempotentRequests.clone_request(request).is_some()
    }

    #[test]
    fn idempotent_methods_are_repeated_and_no_others() {
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
            assert!(copied(&request(method)), "{method}");
        }
        for method in ["POST", "PATCH", "CONNECT", "PURGE", "get"] {
            assert!(!copied(&request(method)), "{method}");
        }
    }

    #[test]
    fn a_key_or_the_callers_word_makes_any_method_repeatable() {
        let mut keyed = request("POST");
        keyed.headers_mut().insert("Idempotency-Key", "\"8e03978e\"".parse().unwrap());
        assert!(copied(&keyed));
        let mut empty = request("POST");
        empty.headers_mut().insert("Idempotency-Key", "".parse().unwrap());
        assert!(!copied(&empty));
        let mut allowed = request("PATCH");
        allowed.extensions_mut().insert(Repeatable);
        assert!(copied(&allowed));
    }

    #[test]
    fn a_copy_is_whole() {
        let mut original = request("PUT");
        *original.version_mut() = Version::HTTP_2;
        original.headers_mut().append("x", "1".parse().unwrap());
        original.headers_mut().append("x", "2".parse().unwrap());
        original.extensions_mut().insert(7_u8);
        let copy = IdempotentRequests.clone_request(&original).unwrap();
        assert_eq!(copy.method(), Method::PUT);
        assert_eq!(copy.uri(), "/a?b=c");
        assert_eq!(copy.version(), Version::HTTP_2);
        assert_eq!(copy.headers(), original.headers());
        assert_eq!(copy.extensions().get(), Some(&7_u8));
        assert_eq!(copy.body(), "body");
    }

    #[test]
    fn the_number_of_an_attempt_replaces_the_one_before() {
        let mut request = request("GET");
        IdempotentRequests.stamp(&mut request, 1);
        IdempotentRequests.stamp(&mut request, 2);
        assert_eq!(request.extensions().get(), Some(&Attempt(2)));
    }
}
