//! The tables of gRPC codes: the codes that a circuit breaker counts as failures, and the codes that a retry repeats.

use super::status_code::{DATA_LOSS, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, UNKNOWN};

/// Whether a code says that the service is unwell. These codes correspond to 500, 503 and 504.
pub(crate) fn is_failure_of_service(code: i32) -> bool {
    matches!(code, UNKNOWN | DEADLINE_EXCEEDED | INTERNAL | UNAVAILABLE | DATA_LOSS)
}

/// Whether a call with a code is repeated, without pushback of the server.
pub(crate) fn is_repeated(code: i32) -> bool {
    code == UNAVAILABLE
}
