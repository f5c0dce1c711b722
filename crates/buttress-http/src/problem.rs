//! The body of a refusal: a problem document.

use std::fmt::Write;
use std::time::Duration;

use buttress::Error;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};

use crate::json::push_text;
use crate::retry_after;

/// A body that can hold a problem document. Every body that converts from a `String` implements it,
/// such as `axum::body::Body`, `Full<Bytes>` and `String`.
#[diagnostic::on_unimplemented(
    message = "`Respond` cannot make a `{Self}`",
    label = "this layer answers refusals with a body made of a `String`, and `{Self}` is not",
    note = "for gRPC (a tonic client or server), use `.grpc()` in place of `.http()`",
    note = "make the answer yourself: `.reject(Respond::with(|error| ..))`",
    note = "or, around a client, leave refusals as errors: no `.http()` and no `.reject(..)`, but `.map_err(BoxError::from)` at the bottom of the stack and the `client()` classifiers"
)]
pub trait FromProblem: From<String> {}

#[diagnostic::do_not_recommend]
impl<B: From<String>> FromProblem for B {}

/// The content of a problem document besides its status.
pub(crate) struct Document<'a> {
    pub detail: &'a str,
    pub kind: &'a str,
    pub retry_after: Option<Duration>,
}

impl Document<'_> {
    fn write(&self, status: StatusCode) -> String {
        let mut json = String::from(r#"{"type":"about:blank","title":"#);
        push_text(&mut json, status.canonical_reason().unwrap_or_default());
        // Writing to a `String` cannot fail.
        let _ = write!(json, r#","status":{},"detail":"#, status.as_u16());
        push_text(&mut json, self.detail);
        json.push_str(r#","kind":"#);
        push_text(&mut json, self.kind);
        if let Some(wait) = self.retry_after {
            let _ = write!(json, r#","retry_after":{}"#, retry_after::seconds(wait));
        }
        json.push('}');
        json
    }
}

/// Returns `document` as a response that caches do not store.
pub(crate) fn response<B: FromProblem>(status: StatusCode, document: &Document<'_>) -> Response<B> {
    let mut response = Response::new(B::from(document.write(status)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Returns an error as a response that caches do not store. Its detail is not the message of the
/// error, because that names layers and limits of the process.
pub(crate) fn of_error<B: FromProblem>(status: StatusCode, error: &Error) -> Response<B> {
    let (detail, kind) = (error.kind().summary(), error.kind().as_str());
    response(status, &Document { detail, kind, retry_after: error.retry_after() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn document(status: StatusCode, error: &Error) -> String {
        of_error(status, error).into_body()
    }

    #[test]
    fn a_document_says_what_a_stranger_may_know() {
        let document = document(StatusCode::SERVICE_UNAVAILABLE, &testing::circuit_open());
        assert_eq!(
            document,
            concat!(
                r#"{"type":"about:blank","title":"Service Unavailable","status":503,"#,
                r#""detail":"the service is unavailable for the moment","#,
                r#""kind":"circuit-open","retry_after":2}"#
            )
        );
    }

    #[test]
    fn a_document_leaves_out_what_is_not_known_and_what_is_inside() {
        let document =
            document(StatusCode::SERVICE_UNAVAILABLE, &testing::bulkhead_full("a\"},\n{\"b"));
        assert_eq!(
            document,
            concat!(
                r#"{"type":"about:blank","title":"Service Unavailable","status":503,"#,
                r#""detail":"the service is at capacity","kind":"bulkhead-full"}"#
            )
        );
    }
}
