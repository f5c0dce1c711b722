//! [`Classify`]: judges what a result says about the service behind a layer.

use std::fmt;
use std::time::Duration;

use crate::vocabulary::error::{Error, ErrorKind, asked};

/// The verdict of one finished call about the service.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Outcome {
    /// The service did its work.
    Success,
    /// The service failed.
    Failure,
    /// The call says nothing about the service. A classifying layer does not count it, and keeps
    /// its counts.
    Ignored,
}

/// A classifier of the result of a call, for circuit breakers, retries and fallbacks.
///
/// Ready-made classifiers:
/// - [`ServiceErrors`], the default of a circuit breaker.
/// - [`RetryableErrors`], the default of a retry.
/// - [`AnyError`], the default of a fallback. It also fits error types of other crates.
/// - [`classify_fn`], for a closure.
/// - Classifiers by HTTP status, in `buttress-http`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot distinguish success from failure in `Result<{Res}, {E}>`",
    label = "the results of this service need a classifier",
    note = "for your own error type, implement `buttress::AsRefusal` (three lines: return the `buttress::Error` inside, or `None`)",
    note = "for a foreign error type use `.classify(buttress::AnyError)`, or `.classify(buttress::classify_fn(|result: &Result<{Res}, {E}>| ..))`",
    note = "for a service that cannot fail (an axum route, error `Infallible`) failures are in the response: classify by status with `.http()` or `.classify(ByStatus::route())` from buttress-http, or with `classify_fn`",
    note = "for gRPC (a tonic client or server), add `.grpc()` from buttress-http to the layer"
)]
pub trait Classify<Res, E> {
    /// Returns what `result` says about the service.
    fn classify(&self, result: &Result<Res, E>) -> Outcome;

    /// Returns how long the failure asks callers to wait: a `Retry-After` header, or the hint of an
    /// inner limiter. A retry waits at least this long. A circuit breaker can stay open this long.
    /// Default: `None`.
    fn retry_after(&self, result: &Result<Res, E>) -> Option<Duration> {
        let _ = result;
        None
    }

    /// Returns `true` if the service refused the call, although [`classify`](Self::classify) may call the result no
    /// failure. A balancer then sends fewer calls to the endpoint, and counts no failure. Default: `true` for a result
    /// with a [hint](Self::retry_after), and for an error that is [`Ignored`](Outcome::Ignored).
    ///
    /// A refusal comes faster than any answer. Without this, an endpoint that refuses every call would look fast.
    fn is_refusal(&self, result: &Result<Res, E>) -> bool {
        self.retry_after(result).is_some()
            || (result.is_err() && self.classify(result) == Outcome::Ignored)
    }
}

/// Error type that can hold the refusal of a `buttress` layer.
///
/// A refusal of an inner layer says nothing about the service behind that layer, so a breaker must
/// recognise it. For your own enum:
///
/// ```
/// enum MyError { Refused(buttress::Error), Io(std::io::Error) }
///
/// // The layers convert their refusals with it.
/// impl From<buttress::Error> for MyError {
///     fn from(refusal: buttress::Error) -> Self {
///         Self::Refused(refusal)
///     }
/// }
///
/// impl buttress::AsRefusal for MyError {
///     fn as_refusal(&self) -> Option<&buttress::Error> {
///         match self { MyError::Refused(refusal) => Some(refusal), _ => None }
///     }
/// }
/// ```
///
/// `Infallible` does not implement this trait. A breaker that classifies by errors would never open
/// over a service that cannot fail, so such a stack does not compile.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say which of its values are refusals of a buttress layer",
    note = "implement `buttress::AsRefusal` for it if the type is yours, or set a classifier with `.classify(..)`"
)]
pub trait AsRefusal {
    /// Returns the refusal or timeout in this error, or `None` if this error is neither.
    fn as_refusal(&self) -> Option<&Error>;
}

impl AsRefusal for Error {
    fn as_refusal(&self) -> Option<&Error> {
        Some(self)
    }
}

/// Implements the trait for [`BoxError`](tower::BoxError) with any lifetime. The lifetime is free because an async
/// block forgets that a box is `'static`, and its future could then not move to another thread.
///
/// Finds a refusal that was boxed directly or in a transparent wrapper. A transparent wrapper, such
/// as thiserror's `#[error(transparent)]`, returns the `source` of the error inside as its own
/// `source`. An error whose `source` is a refusal is another error, and not a refusal.
impl AsRefusal for Box<dyn std::error::Error + Send + Sync + '_> {
    fn as_refusal(&self) -> Option<&Error> {
        asked::find(|| (**self).source())
    }
}

/// A classifier that counts errors as failures of the service, except refusals. The default of a
/// circuit breaker.
///
/// A timeout is a failure. A deadline of the request that passed while the service worked is a failure too: a service
/// that hangs must open the circuit although its callers have short deadlines. A refusal is ignored unless an earlier
/// attempt of the call reached the service. A result that was not kept is ignored too, because an earlier call did the
/// work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceErrors;

#[diagnostic::do_not_recommend]
impl<Res, E: AsRefusal> Classify<Res, E> for ServiceErrors {
    fn classify(&self, result: &Result<Res, E>) -> Outcome {
        match result {
            Ok(_) => Outcome::Success,
            Err(error) => match error.as_refusal() {
                Some(refusal) if refusal.never_reached_service() => Outcome::Ignored,
                Some(refusal) if refusal.kind() == ErrorKind::ResultNotKept => Outcome::Ignored,
                _ => Outcome::Failure,
            },
        }
    }
}

/// A classifier that calls every error a failure, except those that another attempt cannot change.
/// The default of a retry.
///
/// It ignores an open circuit, and a call that costs more than a limiter can ever hold. It also
/// ignores refusals that [last](ErrorKind::is_lasting), such as a wrong idempotency key, a denied
/// request or a missing route. A retry waits at least as long as the refusal of an inner layer
/// says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryableErrors;

#[diagnostic::do_not_recommend]
impl<Res, E: AsRefusal> Classify<Res, E> for RetryableErrors {
    fn classify(&self, result: &Result<Res, E>) -> Outcome {
        match result {
            Ok(_) => Outcome::Success,
            Err(error) => match error.as_refusal().map(|error| (error.kind(), error.retry_after()))
            {
                Some((ErrorKind::CircuitOpen, _) | (ErrorKind::RateLimited, None)) => {
                    Outcome::Ignored
                }
                Some((kind, _)) if kind.is_lasting() => Outcome::Ignored,
                _ => Outcome::Failure,
            },
        }
    }

    fn retry_after(&self, result: &Result<Res, E>) -> Option<Duration> {
        result.as_ref().err()?.as_refusal()?.retry_after()
    }
}

/// A classifier that counts every error as a failure. The default of a fallback.
///
/// For other patterns it is right if no `buttress` layer is further in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnyError;

impl<Res, E> Classify<Res, E> for AnyError {
    fn classify(&self, result: &Result<Res, E>) -> Outcome {
        if result.is_ok() { Outcome::Success } else { Outcome::Failure }
    }
}

/// A closure as a classifier. [`classify_fn`] makes it.
#[derive(Clone, Copy)]
pub struct ClassifyFn<F> {
    classify: F,
}

/// Makes a classifier from the closure `classify`.
///
/// ```
/// use buttress::{classify_fn, Outcome};
/// let by_status = classify_fn(|result: &Result<u16, std::convert::Infallible>| match result {
///     Ok(status) if *status >= 500 => Outcome::Failure,
///     _ => Outcome::Success,
/// });
/// ```
pub fn classify_fn<Res, E, F>(classify: F) -> ClassifyFn<F>
where
    F: Fn(&Result<Res, E>) -> Outcome,
{
    ClassifyFn { classify }
}

impl<Res, E, F> Classify<Res, E> for ClassifyFn<F>
where
    F: Fn(&Result<Res, E>) -> Outcome,
{
    fn classify(&self, result: &Result<Res, E>) -> Outcome {
        (self.classify)(result)
    }
}

impl<F> fmt::Debug for ClassifyFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClassifyFn").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::error::RetryAfter;
    use crate::vocabulary::name::Name;

    type Boxed = Result<(), tower::BoxError>;

    /// Wrappers of other errors.
    #[derive(Debug)]
    enum Around {
        /// Has the source of the error inside.
        Transparent(Box<dyn std::error::Error + Send + Sync>),
        /// Is another failure, which the refusal caused.
        CausedBy(Error),
        /// Panics when it is asked for its source.
        Touchy,
    }

    impl fmt::Display for Around {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("around")
        }
    }

    impl std::error::Error for Around {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            match self {
                Self::Transparent(error) => error.source(),
                Self::CausedBy(error) => Some(error),
                Self::Touchy => panic!("no source"),
            }
        }
    }

    fn full() -> Error {
        Error::bulkhead_full(Name::default(), 1)
    }

    #[test]
    fn a_boxed_refusal_is_found_directly_and_through_transparent_wrappers_only() {
        let direct: tower::BoxError = full().into();
        assert_eq!(direct.as_refusal(), Some(&full()));
        let once: tower::BoxError = Around::Transparent(direct).into();
        assert_eq!(once.as_refusal(), Some(&full()));
        let twice: tower::BoxError = Around::Transparent(once).into();
        assert_eq!(twice.as_refusal(), Some(&full()));
        let shared: tower::BoxError = std::sync::Arc::new(full()).into();
        assert_eq!(shared.as_refusal(), Some(&full()));

        let caused: tower::BoxError = Around::CausedBy(full()).into();
        assert_eq!(caused.as_refusal(), None);
        assert!(caused.source().is_some_and(|source| source.is::<Error>()), "it is its source");
        let behind: tower::BoxError = Around::Transparent(caused).into();
        assert_eq!(behind.as_refusal(), None);
        assert_eq!(tower::BoxError::from("broken").as_refusal(), None);
        let failure: Boxed = Err(Around::CausedBy(full()).into());
        assert_eq!(ServiceErrors.classify(&failure), Outcome::Failure);
        assert_eq!(RetryableErrors.classify(&failure), Outcome::Failure);
    }

    #[test]
    fn a_refusal_is_found_in_a_box_that_borrows() {
        fn kind<'a>(
            error: Box<dyn std::error::Error + Send + Sync + 'a>,
            _: &'a str,
        ) -> Option<ErrorKind> {
            error.as_refusal().map(Error::kind)
        }

        let text = String::from("lives here");
        assert_eq!(kind(full().into(), &text), Some(ErrorKind::BulkheadFull));
        assert_eq!(kind("broken".into(), &text), None);
    }

    #[test]
    fn a_refusal_is_its_own_source_only_while_a_box_is_asked() {
        let refusal: tower::BoxError = full().into();
        assert!(refusal.source().is_none());
        assert!(refusal.as_refusal().is_some());
        assert!(refusal.source().is_none(), "the flag is taken back");
        let touchy: tower::BoxError = Around::Touchy.into();
        let asked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _never = touchy.as_refusal();
        }));
        assert!(asked.is_err());
        assert!(refusal.source().is_none(), "the flag is taken back when `source` panics");
        assert!(refusal.as_refusal().is_some());
    }

    #[test]
    fn a_breaker_ignores_local_refusals_and_counts_timeouts() {
        let refusal = Error::bulkhead_full(Name::default(), 1);
        let timeout = Error::timed_out(Name::default(), Duration::from_secs(1));
        let cases: [(Boxed, Outcome); 4] = [
            (Ok(()), Outcome::Success),
            (Err("broken".into()), Outcome::Failure),
            (Err(refusal.into()), Outcome::Ignored),
            (Err(timeout.into()), Outcome::Failure),
        ];
        for (result, outcome) in cases {
            assert_eq!(ServiceErrors.classify(&result), outcome, "{result:?}");
        }
    }

    #[test]
    fn a_retry_leaves_alone_what_lasts_and_a_breaker_what_is_not_the_services_doing() {
        for kind in ErrorKind::ALL {
            let hint = Duration::from_millis(1).into();
            let error = Error::idempotency(*kind, Name::default(), 0, hint);
            let result: Boxed = Err(error.into());
            let lasts = kind.is_lasting() || *kind == ErrorKind::CircuitOpen;
            let expected = if lasts { Outcome::Ignored } else { Outcome::Failure };
            assert_eq!(RetryableErrors.classify(&result), expected, "{kind}");
            let own = matches!(
                kind,
                ErrorKind::TimedOut | ErrorKind::DeadlineExceeded | ErrorKind::ClaimLost
            );
            let expected = if own { Outcome::Failure } else { Outcome::Ignored };
            assert_eq!(ServiceErrors.classify(&result), expected, "{kind}");
        }
    }

    #[test]
    fn a_retry_repeats_a_full_limiter_after_its_hint_but_not_an_open_circuit() {
        let wait = Duration::from_millis(70);
        let limited: Boxed = Err(Error::rate_limited(Name::default(), 0, wait.into()).into());
        assert_eq!(RetryableErrors.classify(&limited), Outcome::Failure);
        assert_eq!(RetryableErrors.retry_after(&limited), Some(wait));
        let never: Boxed = Err(Error::rate_limited(Name::default(), 0, RetryAfter::UNKNOWN).into());
        assert_eq!(RetryableErrors.classify(&never), Outcome::Ignored);
        let open: Boxed = Err(Error::circuit_open(Name::default(), wait.into()).into());
        assert_eq!(RetryableErrors.classify(&open), Outcome::Ignored);
    }
}
