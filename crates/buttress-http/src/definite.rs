use http::StatusCode;

/// Whether a service that answers with `status` certainly did not do what it was asked: for
/// the `definite` of a saga's action (`buttress_durable::saga::ActionBuilder`), where the service makes errors of
/// such answers.
///
/// True for 4xx, but not for those that speak of the attempt and not of what was asked: 408 and 425 (a
/// request that came late or early), 429 (too many), and 409, which says that a request with this
/// `Idempotency-Key` is under way: an earlier attempt that was given up, say, whose effect is still to
/// come. 5xx is in doubt, and so is every status that is no refusal. To take a 409 of the business, a seat
/// that is taken, for definite, add it where the service uses it for nothing else.
///
/// An answer speaks for its own attempt. A 401 or 404 on a second attempt, before the service looked at
/// the key, says nothing of a first one that was cut short: where that can be, leave them out.
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
