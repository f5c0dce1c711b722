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
        (Error::queue_timeout(name, ms(50)), r#"queue "api" did not admit the call within 50ms"#),
        (
            Error::too_many_keys(name, 3),
            r#"keyed layer "api" holds 3 keys and none can be forgotten yet"#,
        ),
        (Error::timed_out(name, ms(200)), r#"time limit "api" of 200ms passed"#),
        (Error::key_invalid(name, WrongKey::Empty), r#"idempotency "api": the key is empty"#),
        (
            Error::key_invalid(name, WrongKey::TooLong(u32::MAX)),
            r#"idempotency "api": the key has 1073741823 bytes with its scope, at most 512 are allowed"#,
        ),
        (
            Error::key_invalid(name, WrongKey::Control(10)),
            r#"idempotency "api": the key holds the control character U+000A"#,
        ),
        (
            Error::key_invalid(name, WrongKey::NoScope),
            r#"idempotency "api": the request has no scope, and the layer requires one"#,
        ),
        (
            Error::idempotency(ErrorKind::KeyInFlight, name, 0, ms(40).into()),
            r#"idempotency "api": a call with this key is running (retry in 40ms)"#,
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
        ErrorKind::ResultNotKept,
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
        let reached = matches!(kind, ErrorKind::ClaimLost | ErrorKind::ResultNotKept);
        assert_eq!(error.never_reached_service(), !reached);
    }
}

/// Returns one error of each kind, with a hint.
fn of_every_kind() -> impl Iterator<Item = Error> {
    let hint = RetryAfter::from(Duration::from_millis(7));
    ErrorKind::ALL.iter().map(move |kind| Error::new(*kind, Name::from("secret"), 3, hint))
}

#[test]
fn every_kind_is_read_as_it_was_made_and_named_once() {
    let mut names = std::collections::BTreeSet::new();
    for (error, kind) in of_every_kind().zip(ErrorKind::ALL) {
        assert_eq!(error.kind(), *kind);
        assert!(names.insert(kind.as_str()), "{kind} stands twice");
        assert!(error.to_string().starts_with(kind.layer()), "{error}");
        assert!(kind.as_str().bytes().all(|byte| byte == b'-' || byte.is_ascii_lowercase()));
    }
    assert_eq!(Error::new(ErrorKind::NoRoute, Name::default(), 0, RetryAfter::UNKNOWN).what, 17);
    assert_eq!(ErrorKind::of_number(u8::MAX), ErrorKind::TimedOut, "the one that promises nothing");
}

#[test]
fn what_a_kind_says_of_http_fits_what_it_says_of_the_call() {
    for kind in ErrorKind::ALL {
        let status = kind.http_status();
        assert!(
            [400, 401, 403, 404, 409, 422, 429, 503, 504].contains(&status),
            "{kind}: {status}"
        );
        // A caller's own request causes each refusal that lasts.
        if kind.is_lasting() {
            assert!((400..500).contains(&status), "{kind}: {status}");
        }
        if kind.may_have_reached() {
            assert!(![400, 401, 403, 404, 409, 429].contains(&status), "{kind}: {status}");
        }
    }
}

#[test]
fn the_grpc_code_of_a_kind_is_that_of_its_http_status() {
    for kind in ErrorKind::ALL {
        // A layer at capacity has 503, and in gRPC the code of exhausted resources.
        let expected: &[i32] = match kind.http_status() {
            400 => &[3],
            401 => &[16],
            403 => &[7],
            404 => &[12],
            409 => &[10],
            422 => &[6, 9],
            429 => &[8],
            503 if kind.summary().contains("capacity") => &[8],
            503 => &[14],
            _ => &[4],
        };
        assert!(expected.contains(&kind.grpc_code()), "{kind}");
    }
}

#[test]
fn a_summary_tells_a_stranger_nothing_of_the_inside() {
    for (error, kind) in of_every_kind().zip(ErrorKind::ALL) {
        let summary = kind.summary();
        assert!(!summary.is_empty() && !summary.ends_with('.'), "{kind}");
        for inside in ["secret", "lease", "store", "circuit", "bulkhead", "layer", "backend", "7ms"]
        {
            assert!(!summary.contains(inside), "{kind}: {summary}");
        }
        assert!(!summary.contains(|c: char| c.is_ascii_digit()), "{kind}: {summary}");
        assert_ne!(summary, error.to_string());
    }
}

#[test]
fn an_endless_hint_is_kept_as_a_time() {
    let error = Error::circuit_open(Name::default(), Duration::MAX.into());
    assert_eq!(error.retry_after(), Some(Duration::from_nanos(u64::MAX - 1)));
}
