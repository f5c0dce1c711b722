use http::StatusCode;

/// Whether a service that answers with `status` certainly did not execute the request. For the
/// `definite` of a saga's action (`buttress_durable::saga::ActionBuilder`), if the service's client
/// makes errors of such answers.
///
/// Returns `true` for 4xx, except for the four that concern the attempt only: 408 and 425 (a late
/// or early request), 429 (too many requests), and 409. A 409 says that a request with this
/// `Idempotency-Key` is in flight, e.g. an earlier attempt that the client abandoned and whose
/// effect is still to come. 5xx and every status that is no refusal leave the effect in doubt. If
/// the service uses 409 only for a business refusal, e.g. a seat that is taken, count it as
/// definite yourself.
///
/// An answer speaks for its own attempt only. A 401 or 404 to a second attempt says nothing about a
/// first attempt that was interrupted, if the service answered before it looked up the key. Exclude
/// such statuses where that can happen.
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
