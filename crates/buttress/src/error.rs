//! [`Error`]: a call that a layer refused or cut short.

mod kind;

use std::fmt;
use std::time::Duration;

use crate::clock;
use crate::name::Name;

pub use kind::ErrorKind;

/// Until a retry makes sense, if that is known: nanoseconds in one word, so that a refusal on its way
/// to the caller needs no memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RetryAfter(u64);

impl RetryAfter {
    pub(crate) const UNKNOWN: Self = Self(u64::MAX);

    /// `nanos` is less than the stand-in for "unknown": some 584 years.
    #[inline(always)]
    pub(crate) const fn nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    const fn saturating(time: Duration) -> Self {
        let nanos = clock::to_nanos(time);
        Self(if nanos == u64::MAX { u64::MAX - 1 } else { nanos })
    }

    const fn duration(self) -> Option<Duration> {
        match self {
            Self::UNKNOWN => None,
            Self(nanos) => Some(Duration::from_nanos(nanos)),
        }
    }
}

impl From<Duration> for RetryAfter {
    fn from(time: Duration) -> Self {
        Self::saturating(time)
    }
}

/// A call that a layer refused or cut short.
///
/// One type for the whole family, so a user's error enum needs one `#[from]` variant for every layer.
/// It is made without allocating, is at most 32 bytes and cheap to clone. It carries what a caller
/// needs to act: the [`kind`](Self::kind), the [name of the layer](Self::layer), when to
/// [try again](Self::retry_after), and whether the service [can have seen](Self::never_reached_service)
/// the request.
///
/// ```
/// use buttress::{Error, ErrorKind, bulkhead::{BulkheadLayer, Config}};
///
/// let bulkhead = BulkheadLayer::new(Config::new().name("db").max_concurrent(1))?;
/// let _busy = bulkhead.handle().try_acquire()?;
/// let error: Error = bulkhead.handle().try_acquire().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::BulkheadFull);
/// assert!(error.never_reached_service());
/// assert_eq!(error.to_string(), r#"bulkhead "db" at capacity (1 concurrent call)"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct Error {
    layer: Name,
    /// Until a retry makes sense; for a timeout, the limit that passed.
    time: RetryAfter,
    /// The limit that was met over what kind of refusal it is, and [`REACHED`]. Whole words, because an
    /// error is moved on its way through every layer.
    what: u64,
}

/// Set in `what` if an earlier attempt of the same call reached the service.
const REACHED: u64 = 1 << 8;

impl Error {
    #[inline]
    const fn new(kind: ErrorKind, layer: Name, limit: u32, time: RetryAfter) -> Self {
        Self { layer, time, what: (limit as u64) << 32 | kind as u64 }
    }

    #[inline]
    pub(crate) const fn circuit_open(layer: Name, retry_after: RetryAfter) -> Self {
        Self::new(ErrorKind::CircuitOpen, layer, 0, retry_after)
    }

    /// `per_second` is the bits of an `f32`.
    #[inline]
    pub(crate) const fn rate_limited(
        layer: Name,
        per_second: u32,
        retry_after: RetryAfter,
    ) -> Self {
        Self::new(ErrorKind::RateLimited, layer, per_second, retry_after)
    }

    #[inline]
    pub(crate) const fn bulkhead_full(layer: Name, limit: u32) -> Self {
        Self::new(ErrorKind::BulkheadFull, layer, limit, RetryAfter::UNKNOWN)
    }

    pub(crate) const fn queue_timeout(layer: Name, waited: Duration) -> Self {
        let waited = RetryAfter::saturating(waited);
        Self::new(ErrorKind::QueueTimeout, layer, 0, waited)
    }

    pub(crate) const fn too_many_keys(layer: Name, limit: u32) -> Self {
        Self::new(ErrorKind::TooManyKeys, layer, limit, RetryAfter::UNKNOWN)
    }

    pub(crate) const fn timed_out(layer: Name, limit: Duration) -> Self {
        let limit = RetryAfter::saturating(limit);
        Self::new(ErrorKind::TimedOut, layer, 0, limit)
    }

    /// A refusal of an idempotency layer. `limit` is how many may run detached, for that kind.
    pub(crate) const fn idempotency(
        kind: ErrorKind,
        layer: Name,
        limit: u32,
        retry_after: RetryAfter,
    ) -> Self {
        Self::new(kind, layer, limit, retry_after)
    }

    /// An idempotency key that cannot be used, and what is wrong with it.
    pub(crate) const fn key_invalid(layer: Name, why: WrongKey) -> Self {
        let (which, number) = match why {
            WrongKey::Empty => (0, 0),
            WrongKey::TooLong(length) => (1 << 30, length),
            WrongKey::Control(character) => (2 << 30, character),
        };
        let number = if number > WrongKey::NUMBER { WrongKey::NUMBER } else { number };
        Self::new(ErrorKind::KeyInvalid, layer, which | number, RetryAfter::UNKNOWN)
    }

    /// A refusal of a gateway.
    pub(crate) const fn gateway(kind: ErrorKind, route: Name) -> Self {
        Self::new(kind, route, 0, RetryAfter::UNKNOWN)
    }

    /// Which refusal, or a timeout.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        const CIRCUIT_OPEN: u8 = ErrorKind::CircuitOpen as u8;
        const RATE_LIMITED: u8 = ErrorKind::RateLimited as u8;
        const BULKHEAD_FULL: u8 = ErrorKind::BulkheadFull as u8;
        const QUEUE_TIMEOUT: u8 = ErrorKind::QueueTimeout as u8;
        const TOO_MANY_KEYS: u8 = ErrorKind::TooManyKeys as u8;
        const KEY_MISSING: u8 = ErrorKind::KeyMissing as u8;
        const KEY_INVALID: u8 = ErrorKind::KeyInvalid as u8;
        const KEY_REUSED: u8 = ErrorKind::KeyReused as u8;
        const KEY_IN_FLIGHT: u8 = ErrorKind::KeyInFlight as u8;
        const CLAIM_LOST: u8 = ErrorKind::ClaimLost as u8;
        const STORE_UNAVAILABLE: u8 = ErrorKind::StoreUnavailable as u8;
        const STORE_FAILED: u8 = ErrorKind::StoreFailed as u8;
        const DETACHED_FULL: u8 = ErrorKind::DetachedFull as u8;
        const SHUTTING_DOWN: u8 = ErrorKind::ShuttingDown as u8;
        const NO_ROUTE: u8 = ErrorKind::NoRoute as u8;
        const UNAUTHORIZED: u8 = ErrorKind::Unauthorized as u8;
        const AUTH_UNAVAILABLE: u8 = ErrorKind::AuthUnavailable as u8;
        const NO_BACKEND: u8 = ErrorKind::NoBackend as u8;
        match self.what as u8 {
            CIRCUIT_OPEN => ErrorKind::CircuitOpen,
            RATE_LIMITED => ErrorKind::RateLimited,
            BULKHEAD_FULL => ErrorKind::BulkheadFull,
            QUEUE_TIMEOUT => ErrorKind::QueueTimeout,
            TOO_MANY_KEYS => ErrorKind::TooManyKeys,
            KEY_MISSING => ErrorKind::KeyMissing,
            KEY_INVALID => ErrorKind::KeyInvalid,
            KEY_REUSED => ErrorKind::KeyReused,
            KEY_IN_FLIGHT => ErrorKind::KeyInFlight,
            CLAIM_LOST => ErrorKind::ClaimLost,
            STORE_UNAVAILABLE => ErrorKind::StoreUnavailable,
            STORE_FAILED => ErrorKind::StoreFailed,
            DETACHED_FULL => ErrorKind::DetachedFull,
            SHUTTING_DOWN => ErrorKind::ShuttingDown,
            NO_ROUTE => ErrorKind::NoRoute,
            UNAUTHORIZED => ErrorKind::Unauthorized,
            AUTH_UNAVAILABLE => ErrorKind::AuthUnavailable,
            NO_BACKEND => ErrorKind::NoBackend,
            _ => ErrorKind::TimedOut,
        }
    }

    /// Calls, keys, or tokens per second as the bits of an `f32`.
    const fn limit(&self) -> u32 {
        (self.what >> 32) as u32
    }

    /// The configured name of the layer; empty if it was given none.
    #[must_use]
    pub const fn layer(&self) -> &'static str {
        self.layer.as_str()
    }

    /// How long from now the same call can be admitted, where that is known: a rate limiter says
    /// when the tokens will be there if nobody else takes them, an open circuit when it will probe.
    /// A key in flight says what is left of its lease. `None` where nothing is known, as for a full
    /// bulkhead.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self.kind() {
            ErrorKind::TimedOut | ErrorKind::QueueTimeout => None,
            _ => self.time.duration(),
        }
    }

    /// The limit that passed, for a [timeout](ErrorKind::TimedOut) or a
    /// [queue timeout](ErrorKind::QueueTimeout).
    #[must_use]
    pub const fn time_limit(&self) -> Option<Duration> {
        match self.kind() {
            ErrorKind::TimedOut | ErrorKind::QueueTimeout => self.time.duration(),
            _ => None,
        }
    }

    /// Whether the service behind the layer certainly never saw this request.
    ///
    /// True for every refusal before a first attempt: repeating the call cannot do its work twice. False
    /// for a timeout and a lost claim, whose work may have been done, and for a refusal of a later attempt.
    #[must_use]
    pub const fn never_reached_service(&self) -> bool {
        self.what & REACHED == 0
            && !matches!(self.kind(), ErrorKind::TimedOut | ErrorKind::ClaimLost)
    }

    /// The same refusal, of a call whose earlier attempt reached the service.
    pub(crate) const fn after_an_attempt(mut self) -> Self {
        self.what |= REACHED;
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind() {
            ErrorKind::CircuitOpen => "circuit breaker",
            ErrorKind::RateLimited => "rate limiter",
            ErrorKind::BulkheadFull => "bulkhead",
            ErrorKind::QueueTimeout => "queue",
            ErrorKind::TooManyKeys => "keyed layer",
            ErrorKind::TimedOut => "time limit",
            ErrorKind::KeyMissing
            | ErrorKind::KeyInvalid
            | ErrorKind::KeyReused
            | ErrorKind::KeyInFlight
            | ErrorKind::ClaimLost
            | ErrorKind::StoreUnavailable
            | ErrorKind::StoreFailed
            | ErrorKind::DetachedFull
            | ErrorKind::ShuttingDown => "idempotency",
            ErrorKind::NoRoute => "gateway",
            ErrorKind::Unauthorized | ErrorKind::AuthUnavailable | ErrorKind::NoBackend => "route",
        };
        f.write_str(what)?;
        if !self.layer.as_str().is_empty() {
            write!(f, " \"{}\"", self.layer)?;
        }
        match (self.kind(), self.retry_after()) {
            (ErrorKind::CircuitOpen, Some(after)) => write!(f, " is open (probes in {after:?})"),
            (ErrorKind::CircuitOpen, None) => f.write_str(" is not taking calls"),
            (ErrorKind::RateLimited, after) => {
                write!(f, " exhausted ({}", Rate(f32::from_bits(self.limit())))?;
                match after {
                    Some(after) => write!(f, "; retry in {after:?})"),
                    None => f.write_str("; the call costs more than the limiter can ever hold)"),
                }
            }
            (ErrorKind::BulkheadFull, _) => {
                let calls = if self.limit() == 1 { "call" } else { "calls" };
                write!(f, " at capacity ({} concurrent {calls})", self.limit())
            }
            (ErrorKind::QueueTimeout, _) => {
                write!(f, " did not move within {:?}", Duration::from_nanos(self.time.0))
            }
            (ErrorKind::TooManyKeys, _) => {
                write!(f, " holds {} keys and none can be forgotten yet", self.limit())
            }
            (ErrorKind::TimedOut, _) => {
                write!(f, " of {:?} passed", Duration::from_nanos(self.time.0))
            }
            (ErrorKind::NoRoute, _) => f.write_str(" has no route for the request"),
            (ErrorKind::Unauthorized, _) => f.write_str(" denies the request"),
            (ErrorKind::AuthUnavailable, _) => {
                f.write_str(" cannot tell whether the request is allowed")
            }
            (ErrorKind::NoBackend, _) => f.write_str(" has no backend that becomes ready"),
            (ErrorKind::KeyMissing, _) => f.write_str(": the request has no key, and needs one"),
            (ErrorKind::KeyInvalid, _) => write!(f, ": {}", WrongKey::read(self.limit())),
            (ErrorKind::KeyReused, _) => {
                f.write_str(": the key was used for a request that asks for something else")
            }
            (ErrorKind::KeyInFlight, Some(after)) => {
                write!(f, ": a call with this key is running (its lease ends in {after:?})")
            }
            (ErrorKind::KeyInFlight, None) => f.write_str(": a call with this key is running"),
            (ErrorKind::ClaimLost, _) => {
                f.write_str(": the key was taken over while its handler ran; ask again with it")
            }
            (ErrorKind::StoreUnavailable, _) => f.write_str(": the store does not answer"),
            (ErrorKind::StoreFailed, _) => {
                f.write_str(": the store cannot read or keep what belongs to the key")
            }
            (ErrorKind::DetachedFull, _) => {
                let handlers = if self.limit() == 1 { "handler" } else { "handlers" };
                write!(f, " at capacity ({} detached {handlers})", self.limit())
            }
            (ErrorKind::ShuttingDown, _) => f.write_str(" is shutting down"),
        }
    }
}

/// What is wrong with an idempotency key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WrongKey {
    Empty,
    /// Its length in bytes.
    TooLong(u32),
    /// The number of a character it must not hold.
    Control(u32),
}

impl WrongKey {
    /// The largest number that an error can carry beside which of these it is.
    const NUMBER: u32 = (1 << 30) - 1;

    const fn read(packed: u32) -> Self {
        match packed >> 30 {
            0 => Self::Empty,
            1 => Self::TooLong(packed & Self::NUMBER),
            _ => Self::Control(packed & Self::NUMBER),
        }
    }
}

impl fmt::Display for WrongKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the key is empty"),
            Self::TooLong(length) => {
                write!(f, "the key has {length} bytes with its scope, too many")
            }
            Self::Control(character) => {
                write!(f, "the key holds the control character U+{character:04X}")
            }
        }
    }
}

/// A rate in the unit that makes it a number one reads: 10 per second, 1 per day.
struct Rate(f32);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_second = f64::from(self.0);
        let units = [(1.0, "second"), (60.0, "minute"), (3600.0, "hour")];
        // An f32 has some seven digits; a whole number must not print as one just below.
        let fits = |(seconds, _): &&(f64, &str)| per_second * seconds >= 0.9999;
        let (seconds, unit) = units.iter().find(fits).unwrap_or(&(86_400.0, "day"));
        let rounded = (per_second * seconds * 1000.0).round() / 1000.0;
        write!(f, "{rounded} per {unit}")
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.kind())
            .field("layer", &self.layer)
            .field("retry_after", &self.retry_after())
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests;
