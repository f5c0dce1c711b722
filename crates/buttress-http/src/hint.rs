//! The hint of a response: how long the client should wait before it sends the request again.

use std::time::Duration;

use buttress::Clock;
use http::header::RETRY_AFTER;

use crate::grpc::Pushback;
use crate::head::Head;
use crate::refusal_mark::Refusal;
use crate::retry_after;

/// Returns the wait that the response asks for. A mark is exact, the pushback of gRPC has milliseconds, and `Retry-After`
/// has whole seconds.
pub(crate) fn of(head: Head<'_>, clock: &Clock) -> Option<Duration> {
    match Refusal::among(head.extensions) {
        Some(refusal) => refusal.error().retry_after(),
        None => match Pushback::of(head.headers) {
            Pushback::After(wait) => Some(wait),
            Pushback::Absent | Pushback::Never => {
                retry_after::parse(head.headers.get(RETRY_AFTER)?, clock)
            }
        },
    }
}
