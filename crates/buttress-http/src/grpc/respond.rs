use std::fmt::Write;

use buttress::{Error, ErrorKind, Reject};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response};

use super::pushback::Pushback;
use super::status_code::GRPC_STATUS;
use crate::refusal_mark::Refusal;
use crate::retry_after;

const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// A rejector that answers refusals and timeouts as gRPC responses. It works on a server and on a client.
///
/// | kind | code | pushback |
/// |---|---|---|
/// | `circuit-open` | UNAVAILABLE (14) | until the next probe, if that is known |
/// | `rate-limited` | RESOURCE_EXHAUSTED (8) | until the tokens are available; -1 if they never are |
/// | `bulkhead-full` | RESOURCE_EXHAUSTED (8) | none |
/// | `queue-timeout` | RESOURCE_EXHAUSTED (8) | none |
/// | `too-many-keys` | RESOURCE_EXHAUSTED (8) | none |
/// | `timed-out` | DEADLINE_EXCEEDED (4) | none |
/// | `deadline-exceeded` | DEADLINE_EXCEEDED (4) | none |
/// | `key-missing` | INVALID_ARGUMENT (3) | none |
/// | `key-invalid` | INVALID_ARGUMENT (3) | none |
/// | `key-reused` | FAILED_PRECONDITION (9) | none |
/// | `key-in-flight` | ABORTED (10) | the layer's [hint](buttress::idempotency::Config::in_flight_hint) |
/// | `result-not-kept` | ALREADY_EXISTS (6) | none |
/// | `claim-lost` | UNAVAILABLE (14) | none |
/// | `store-unavailable` | UNAVAILABLE (14) | none |
/// | `store-failed` | UNAVAILABLE (14) | none |
/// | `detached-full` | RESOURCE_EXHAUSTED (8) | none |
/// | `shutting-down` | UNAVAILABLE (14) | none |
/// | `no-route` | UNIMPLEMENTED (12) | none |
/// | `unauthenticated` | UNAUTHENTICATED (16) | none |
/// | `forbidden` | PERMISSION_DENIED (7) | none |
/// | `auth-unavailable` | UNAVAILABLE (14) | none |
/// | `no-backend` | UNAVAILABLE (14) | none |
/// | `no-endpoint` | UNAVAILABLE (14) | none |
///
/// [`ErrorKind::grpc_code`] returns these codes. A layer at capacity is RESOURCE_EXHAUSTED, because gRPC's list of
/// codes (`doc/statuscodes.md`) gives that code to a server that is "temporarily out of resources", with "no available
/// server threads" as an example. Clients do not repeat this code without pushback, so an overload does not grow by
/// their retries.
///
/// The response is `200 OK` with `content-type: application/grpc` and `cache-control: no-store`. The status is in its head and its body is empty, which
/// gRPC calls *Trailers-Only*. The body needs only a [`Default`]: `tonic::body::Body` and `axum::body::Body` have one.
///
/// Pushback is the field `grpc-retry-pushback-ms` (gRPC proposal A6), rounded up to milliseconds. A wait is also written
/// as `retry-after` in seconds, for proxies that do not know gRPC. A refusal without a known wait has no pushback: a
/// client then waits as long as its own backoff with jitter says, and refused clients do not return together.
///
/// `grpc-message` is [`ErrorKind::summary`], percent-encoded. It names no layer, limit, lease or key of the process.
/// Logs and the [`Refusal`] mark have the whole error.
///
/// ```
/// use buttress::bulkhead::{BulkheadLayer, Config};
/// use buttress_http::grpc::RespondGrpc;
/// let layer = BulkheadLayer::new(Config::new().name("db"))?.reject(RespondGrpc);
/// # Ok::<(), buttress::InvalidConfig>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RespondGrpc;

impl RespondGrpc {
    /// Returns the marked response to `error`.
    #[must_use]
    pub fn response<B: Default>(&self, error: &Error) -> Response<B> {
        let mut response = Response::new(B::default());
        write_head(response.headers_mut(), error);
        Refusal::mark(&mut response, error.clone());
        response
    }
}

impl<B: Default, E> Reject<Response<B>, E> for RespondGrpc {
    fn reject(&self, error: Error) -> Result<Response<B>, E> {
        Ok(self.response(&error))
    }
}

/// Writes the fields of the response to `error`.
pub(super) fn write_head(headers: &mut HeaderMap, error: &Error) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    // The status is 200, whatever the refusal is.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.extend(trailers(error));
    let pushback = match (error.retry_after(), error.kind()) {
        (Some(wait), _) => {
            retry_after::write(headers, retry_after::seconds(wait));
            Pushback::After(wait)
        }
        // The call costs more than the limiter can ever hold.
        (None, ErrorKind::RateLimited) => Pushback::Never,
        (None, _) => Pushback::Absent,
    };
    pushback.write(headers);
}

/// Returns the trailers of a call that ends with `error` after its head was sent.
pub(crate) fn trailers(error: &Error) -> HeaderMap {
    let kind = error.kind();
    let mut fields = HeaderMap::with_capacity(2);
    fields.insert(GRPC_STATUS, HeaderValue::from(kind.grpc_code()));
    fields.insert(GRPC_MESSAGE, message(kind.summary()));
    fields
}

/// Encodes the text of a `grpc-message`: bytes outside of visible ASCII and space, and `%`, as `%` and two digits
/// (gRPC over HTTP2, "Responses").
fn message(text: &str) -> HeaderValue {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            // Writing to a `String` cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    HeaderValue::try_from(encoded).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_percent_encoded() {
        for (text, encoded) in [
            ("too many requests", "too many requests"),
            ("100 % ~", "100 %25 ~"),
            ("a\r\nb\u{7f}", "a%0D%0Ab%7F"),
            ("\u{fc}ber", "%C3%BCber"),
            ("", ""),
        ] {
            assert_eq!(message(text), encoded);
        }
    }

    #[test]
    fn the_documented_table_is_the_codes() {
        let rows = include_str!("respond.rs").lines().filter_map(|line| {
            let mut cells = line.strip_prefix("/// | `")?.split('|').map(str::trim);
            Some((cells.next()?.trim_matches('`'), cells.next()?))
        });
        let mut kinds = ErrorKind::ALL.iter();
        for (name, code) in rows {
            let kind = kinds.next().expect("a row for a kind that is none");
            assert_eq!(name, kind.as_str());
            assert!(code.ends_with(&format!(" ({})", kind.grpc_code())), "{name}: {code}");
        }
        assert_eq!(kinds.next(), None, "a kind without a row");
    }
}
