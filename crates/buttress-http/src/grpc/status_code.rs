//! Reads the status code of a gRPC response, whose HTTP status is always 200. `failures.rs` says which codes are
//! failures.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, Response};

pub(super) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

const GRPC: &[u8] = b"application/grpc";
const GRPC_WEB: &[u8] = b"application/grpc-web";

pub(crate) const OK: i32 = 0;
pub(crate) const UNKNOWN: i32 = 2;
pub(crate) const DEADLINE_EXCEEDED: i32 = 4;
pub(crate) const RESOURCE_EXHAUSTED: i32 = 8;
pub(crate) const INTERNAL: i32 = 13;
pub(crate) const UNAVAILABLE: i32 = 14;
pub(crate) const DATA_LOSS: i32 = 15;
/// The last defined code.
const UNAUTHENTICATED: i32 = 16;

/// Returns the code in the head of a gRPC response, or `None` if the code is still to come or the
/// response is not gRPC.
///
/// An invalid code is `UNKNOWN`, as in gRPC clients.
pub(crate) fn code(headers: &HeaderMap) -> Option<i32> {
    if has_grpc(headers) { read(headers) } else { None }
}

/// Returns the code in the trailers of a gRPC response. Trailers without a code are `UNKNOWN`, as in gRPC clients.
pub(crate) fn code_in_trailers(trailers: &HeaderMap) -> i32 {
    read(trailers).unwrap_or(UNKNOWN)
}

fn read(headers: &HeaderMap) -> Option<i32> {
    let text = headers.get(GRPC_STATUS)?.to_str().unwrap_or_default();
    let code = text.parse().ok().filter(|code| (OK..=UNAUTHENTICATED).contains(code));
    Some(code.unwrap_or(UNKNOWN))
}

/// Returns `true` if the code of a gRPC response comes in trailers, after the body: the head has none.
///
/// gRPC-Web sends its trailers as data of the body, so a response with its content type returns `false`.
///
/// Trailers are judged by [`ByStatus::judge_trailers`](crate::ByStatus::judge_trailers).
#[must_use]
pub fn ends_in_trailers<B>(response: &Response<B>) -> bool {
    let Some(content_type) = response.headers().get(CONTENT_TYPE) else { return false };
    let is_of = |prefix| begins_with(content_type.as_bytes(), prefix);
    is_of(GRPC) && !is_of(GRPC_WEB) && !response.headers().contains_key(GRPC_STATUS)
}

/// Whether the head of a request or response says that its body is gRPC.
pub(super) fn has_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| is_grpc(value.as_bytes()))
}

/// Accepts `application/grpc+proto`, `application/grpc-web` and similar types too.
pub(crate) fn is_grpc(content_type: &[u8]) -> bool {
    begins_with(content_type, GRPC)
}

fn begins_with(content_type: &[u8], prefix: &[u8]) -> bool {
    content_type.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn answer(content_type: &'static str, status: &'static [u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(GRPC_STATUS, HeaderValue::from_bytes(status).unwrap());
        headers
    }

    #[test]
    fn the_code_is_read_from_the_head_of_an_answer() {
        for code in 0..=16 {
            let mut response = answer("application/grpc", b"0");
            response.insert(GRPC_STATUS, HeaderValue::from(code));
            assert_eq!(super::code(&response), Some(code));
        }
    }

    #[test]
    fn what_is_no_code_is_unknown() {
        for text in ["", "17", "-1", "99999999999", "two", "2 "] {
            assert_eq!(code(&answer("application/grpc", text.as_bytes())), Some(UNKNOWN), "{text}");
        }
        assert_eq!(code(&answer("application/grpc", b"\xff")), Some(UNKNOWN));
    }

    #[test]
    fn only_grpc_has_codes() {
        for grpc in ["application/grpc", "application/grpc+proto", "Application/gRPC-web-text"] {
            assert_eq!(code(&answer(grpc, b"14")), Some(UNAVAILABLE), "{grpc}");
        }
        for other in ["", "application/grp", "application/json", "text/application/grpc"] {
            assert_eq!(code(&answer(other, b"14")), None, "{other}");
        }
        let mut unnamed = answer("application/grpc", b"14");
        unnamed.remove(CONTENT_TYPE);
        assert_eq!(code(&unnamed), None);
    }

    #[test]
    fn an_answer_whose_body_is_yet_to_come_has_no_code() {
        let mut response = answer("application/grpc", b"14");
        response.remove(GRPC_STATUS);
        assert_eq!(code(&response), None);
    }

    #[test]
    fn a_response_ends_in_trailers_if_its_head_has_no_code() {
        let ends = |headers: HeaderMap| {
            let mut response = Response::new(());
            *response.headers_mut() = headers;
            ends_in_trailers(&response)
        };
        let mut streaming = answer("application/grpc", b"0");
        assert!(!ends(streaming.clone()));
        streaming.remove(GRPC_STATUS);
        assert!(ends(streaming.clone()));
        streaming.insert(CONTENT_TYPE, HeaderValue::from_static("application/gRPC-Web+proto"));
        assert!(!ends(streaming.clone()), "its trailers are data");
        streaming.remove(CONTENT_TYPE);
        assert!(!ends(streaming));
    }

    #[test]
    fn trailers_without_a_code_are_unknown() {
        let mut trailers = HeaderMap::new();
        assert_eq!(code_in_trailers(&trailers), UNKNOWN);
        trailers.insert(GRPC_STATUS, HeaderValue::from_static("14"));
        assert_eq!(code_in_trailers(&trailers), UNAVAILABLE);
    }
}
