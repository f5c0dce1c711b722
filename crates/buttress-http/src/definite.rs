//! Whether a status proves that the service did not execute the request.

use http::StatusCode;

/// Returns whether a service that answers with `status` certainly did not execute the request. Pass it to the
/// `definite` of a saga's action (`buttress_durable::saga::ActionBuilder`) if the client of the service returns such
/// answers as errors.
///
/// Returns `true` for 4xx, with four exceptions that concern the attempt only. 408 and 425 mean a
/// late or early request, and 429 means too many. A 409 says that a request with this
/// `Idempotency-Key` is in flight. That request may be an earlier attempt that the client abandoned and
/// whose effect is still to come. Every other status, 5xx included, leaves the effect in
/// doubt. If the service uses 409 only for a business refusal, e.g. a seat that is taken, count it
/// as definite yourself.
///
/// An answer speaks for its own attempt only. A service may answer a second attempt with 401 or 404
/// before it looks up the key. Such an answer says nothing about a first attempt that was
/// interrupted. Exclude these statuses if that can happen.
///
/// ```
/// use buttress_http::is_definite_refusal;
/// use http::StatusCode;
///
/// #[derive(Debug)]
/// enum PaymentError {
///     Connection(std::io::Error),
///     Answered(StatusCode),
/// }
/// // For `.definite(is_definite)`.
/// fn is_definite(error: &PaymentError) -> bool {
///     matches!(error, PaymentError::Answered(status) if is_definite_refusal(*status))
/// }
/// assert!(is_definite(&PaymentError::Answered(StatusCode::PAYMENT_REQUIRED)));
/// assert!(!is_definite(&PaymentError::Answered(StatusCode::BAD_GATEWAY)));
/// assert!(!is_definite(&PaymentError::Connection(std::io::Error::other("reset"))));
/// ```
#[must_use]
pub fn is_definite_refusal(status: StatusCode) -> bool {
    status.is_client_error() && !matches!(status.as_u16(), 408 | 409 | 425 | 429)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_4xx_but_four_is_definite_and_nothing_else_is() {
        let definite = |code: &u16| is_definite_refusal(StatusCode::from_u16(*code).unwrap());
        let said: Vec<u16> = (100..1000).filter(definite).collect();
        let expected = (400..500).filter(|code| ![408, 409, 425, 429].contains(code));
        assert_eq!(said, expected.collect::<Vec<u16>>());
    }
}
