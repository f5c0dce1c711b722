use super::*;

#[test]
fn an_error_is_small_and_shareable() {
    fn check<T: Clone + Send + Sync + 'static>() {}
    check::<Error>();
    assert!(size_of::<Error>() <= 32, "{}", size_of::<Error>());
    assert!(size_of::<Option<Error>>() <= 32);
}

#[test]
fn messages_name_the_layer_and_the_limit() {
    let ms = Duration::from_millis;
    let name = Name::from("api");
    let cases = [
        (
            Error::circuit_open(name, ms(1500).into()),
            r#"circuit breaker "api" is open (probes in 1.5s)"#,
        ),
        (
            Error::circuit_open(name, RetryAfter::UNKNOWN),
            r#"circuit breaker "api" is not taking calls"#,
        ),
        (
            Error::rate_limited(name, 10f32.to_bits(), ms(100).into()),
            r#"rate limiter "api" exhausted (10 per second; retry in 100ms)"#,
        ),
        (
            Error::rate_limited(Name::default(), (1f32 / 86_400.0).to_bits(), RetryAfter::UNKNOWN),
            "rate limiter exhausted (1 per day; the call costs more than the limiter can ever hold)",
        ),
        (Error::bulkhead_full(name, 10), r#"bulkhead "api" at capacity (10 concurrent calls)"#),
        (Error::queue_timeout(name, ms(50)), r#"queue "api" did not move within 50ms"#),
        (
            Error::too_many_keys(name, 3),
            r#"keyed layer "api" holds 3 keys and none can be forgotten yet"#,
        ),
        (Error::timed_out(name, ms(200)), r#"time limit "api" of 200ms passed"#),
        (Error::key_invalid(name, WrongKey::Empty), r#"idempotency "api": the key is empty"#),
        (
            Error::key_invalid(name, WrongKey::TooLong(u32::MAX)),
            r#"idempotency "api": the key has 1073741823 bytes with its scope, too many"#,
        ),
        (
            Error::key_invalid(name, WrongKey::Control(10)),
            r#"idempotency "api": the key holds the control character U+000A"#,
        ),
        (
            Error::idempotency(ErrorKind::KeyInFlight, name, 0, ms(40).into()),
            r#"idempotency "api": a call with this key is running (its lease ends in 40ms)"#,
        ),
        (
            Error::idempotency(ErrorKind::DetachedFull, name, 1, RetryAfter::UNKNOWN),
            r#"idempotency "api" at capacity (1 detached handler)"#,
        ),
    ];
    for (error, text) in cases {
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn a_timeout_may_have_reached_the_service_and_gives_no_hint() {
    let error = Error::timed_out(Name::default(), Duration::from_secs(1));
    assert!(!error.never_reached_service());
    assert_eq!(error.retry_after(), None);
    assert_eq!(error.time_limit(), Some(Duration::from_secs(1)));
}

#[test]
fn every_kind_of_an_idempotency_layer_is_read_as_it_was_made() {
    let kinds = [
        ErrorKind::KeyMissing,
        ErrorKind::KeyInvalid,
        ErrorKind::KeyReused,
        ErrorKind::KeyInFlight,
        ErrorKind::ClaimLost,
        ErrorKind::StoreUnavailable,
        ErrorKind::StoreFailed,
        ErrorKind::DetachedFull,
        ErrorKind::ShuttingDown,
    ];
    for kind in kinds {
        let error = Error::idempotency(kind, Name::default(), 0, RetryAfter::UNKNOWN);
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().starts_with("idempotency"), "{error}");
        assert_eq!(error.never_reached_service(), kind != ErrorKind::ClaimLost);
    }
}

#[test]
fn an_endless_hint_is_kept_as_a_time() {
    let error = Error::circuit_open(Name::default(), Duration::MAX.into());
    assert_eq!(error.retry_after(), Some(Duration::from_nanos(u64::MAX - 1)));
}
