use buttress::retry::CloneRequest;
use http::header::UPGRADE;
use http::{HeaderName, HeaderValue, Request};
use http_body::Body;

use crate::repeat::{RepeatableBody, with_body};

/// The header of mirrored requests. Its value is `1`.
pub const X_SHADOW: HeaderName = HeaderName::from_static("x-shadow");

/// The largest body that is mirrored, in bytes: 64 KiB.
const LARGEST: u64 = 64 * 1024;

/// A copier of the requests that may be mirrored, for [`Shadow::new`](buttress::shadow::Shadow::new).
///
/// It copies requests with a safe method (RFC 9110, section 9.2.1: `GET`, `HEAD`, `OPTIONS`), whose body is known to
/// have at most 64 KiB, and marks the copy with `x-shadow: 1`. It copies no `TRACE`, because its answer shows the mark,
/// and no request with `Upgrade`, because a WebSocket handshake opens a connection to the mirror.
///
/// The copy has all headers of the request, also `Authorization` and `Cookie`. A layer around the mirror can remove them.
///
/// The body must be a [`RepeatableBody`]. Under a [`ReplayLayer`](crate::ReplayLayer) a request is mirrored if the
/// primary has read the whole body when it answers, or if the body is empty. Otherwise it counts as dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SafeRequests;

impl<B: RepeatableBody + Body> CloneRequest<Request<B>> for SafeRequests {
    fn clone_request(&self, request: &Request<B>) -> Option<Request<B>> {
        let method = request.method();
        let is_small = request.body().size_hint().upper().is_some_and(|most| most <= LARGEST);
        let is_upgrade = request.headers().contains_key(UPGRADE);
        if !method.is_safe() || method == http::Method::TRACE || is_upgrade || !is_small {
            return None;
        }
        let mut copy = with_body(request, request.body().try_mirror()?);
        copy.headers_mut().insert(X_SHADOW, HeaderValue::from_static("1"));
        Some(copy)
    }

    fn is_repeatable(&self, copy: &Request<B>) -> bool {
        copy.body().can_repeat()
    }
}
