//! The answers that both services give.

use buttress::health::Status;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};

/// Answers a request. `body_of` returns the status and the body of a path, or `None` for a path that
/// does not exist.
pub(super) fn answer(
    head: &Parts,
    body_of: impl FnOnce(&str) -> Option<(Status, String)>,
) -> Response<String> {
    let is_head = head.method == Method::HEAD;
    let is_read = is_head || head.method == Method::GET;
    let (status, body) = match body_of(head.uri.path()) {
        None => (StatusCode::NOT_FOUND, r#"{"error":"not found"}"#.to_owned()),
        Some(_) if !is_read => {
            let error = r#"{"error":"allowed are GET and HEAD"}"#;
            (StatusCode::METHOD_NOT_ALLOWED, error.to_owned())
        }
        Some((status, body)) if status.is_passing() => (StatusCode::OK, body),
        Some((_, body)) => (StatusCode::SERVICE_UNAVAILABLE, body),
    };
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(if is_head { String::new() } else { body });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if is_head {
        // The length of the body that GET has.
        headers.insert(CONTENT_LENGTH, length);
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}
