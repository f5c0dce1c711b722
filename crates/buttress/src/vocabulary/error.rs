//! [`Error`]: a refusal or a timeout of a layer.

pub(crate) mod asked;
mod kind;
mod no_endpoint;

use std::fmt;
use std::time::Duration;

use crate::vocabulary::clock;
use crate::vocabulary::name::Name;

pub use kind::ErrorKind;
pub(crate) use no_endpoint::NoEndpoint;

/// The time until a retry makes sense, if it is known. It is one word of nanoseconds, so that a
/// refusal needs no allocation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RetryAfter(u64);

impl RetryAfter {
    pub(crate) const UNKNOWN: Self = Self(u64::MAX);

    /// `nanos` must be less than `u64::MAX` (about 584 years), which stands for "unknown".
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

/// A refusal or a timeout of a layer.
///
/// All layers return this one type, so an error enum needs only one `#[from]` variant. An error is
/// made without allocating, has at most 32 bytes and is cheap to clone. It carries four facts that
/// a caller needs to act:
/// - the [`kind`](Self::kind) of the refusal,
/// - the [name of the layer](Self::layer),
/// - the time until a [retry](Self::retry_after) makes sense,
/// - whether the request [can have reached](Self::never_reached_service) the service.
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
    /// The time until a retry makes sense. For a timeout, the limit that passed.
    time: RetryAfter,
    /// The limit in the upper 32 bits, and the kind and the flags in the lower ones. Whole words,
    /// because every layer moves the error on its way to the caller.
    what: u64,
}

/// A flag in `what`: an earlier attempt of the same call reached the service.
const REACHED: u64 = 1 << 8;
/// A flag in `what`: the call ended before it reached the service, although others of its kind may reach it.
const ENDED_BEFORE: u64 = 1 << 9;

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

    /// Creates the error of a passed deadline. `left` is the time until the deadline when the call began.
    pub(crate) const fn deadline_exceeded(layer: Name, left: Duration) -> Self {
        let left = RetryAfter::saturating(left);
        Self::new(ErrorKind::DeadlineExceeded, layer, 0, left)
    }

    /// Creates the error of a deadline that passed before the call reached the service.
    pub(crate) const fn deadline_exceeded_before(layer: Name, left: Duration) -> Self {
        let mut error = Self::deadline_exceeded(layer, left);
        error.what |= ENDED_BEFORE;
        error
    }

    /// Creates a refusal of an idempotency layer. For [`ErrorKind::DetachedFull`], `limit` is the
    /// number of detached handlers.
    pub(crate) const fn idempotency(
        kind: ErrorKind,
        layer: Name,
        limit: u32,
        retry_after: RetryAfter,
    ) -> Self {
        Self::new(kind, layer, limit, retry_after)
    }

    /// Creates the refusal of an idempotency key that cannot be used.
    pub(crate) const fn key_invalid(layer: Name, why: WrongKey) -> Self {
        let (which, number) = match why {
            WrongKey::Empty => (0, 0),
            WrongKey::TooLong(length) => (1 << 30, length),
            WrongKey::Control(character) => (2 << 30, character),
            WrongKey::NoScope => (3 << 30, 0),
        };
        let number = if number > WrongKey::NUMBER { WrongKey::NUMBER } else { number };
        Self::new(ErrorKind::KeyInvalid, layer, which | number, RetryAfter::UNKNOWN)
    }

    /// Creates the refusal of a balancer with `endpoints`, after the call has `waited`.
    pub(crate) const fn no_endpoint(
        layer: Name,
        why: NoEndpoint,
        endpoints: usize,
        waited: Duration,
    ) -> Self {
        let most = NoEndpoint::NUMBER as usize;
        let number = if endpoints > most { most } else { endpoints } as u32;
        let why = (why as u32) << 30 | number;
        Self::new(ErrorKind::NoEndpoint, layer, why, RetryAfter::saturating(waited))
    }

    /// Creates a refusal of a gateway.
    pub(crate) const fn gateway(kind: ErrorKind, route: Name) -> Self {
        Self::new(kind, route, 0, RetryAfter::UNKNOWN)
    }

    /// Returns the kind of the refusal or timeout.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::of_number(self.what as u8)
    }

    /// Returns the limit in calls, in keys, or in tokens per second as the bits of an `f32`.
    const fn limit(&self) -> u32 {
        (self.what >> 32) as u32
    }

    /// Returns the configured name of the layer, or an empty text for a layer without a name.
    #[must_use]
    pub const fn layer(&self) -> &'static str {
        self.layer.as_str()
    }

    /// Returns the time until the same call can be admitted, or `None` if it is unknown.
    ///
    /// - A rate limiter returns the time until the tokens are refilled if no other call takes them.
    /// - An open circuit returns the time until its next probe.
    /// - A key in flight returns the rest of its lease, or the layer's
    ///   [`in_flight_hint`](crate::idempotency::Config::in_flight_hint).
    /// - A full bulkhead returns `None`.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        if self.kind().is_timeout() { None } else { self.time.duration() }
    }

    /// Returns the limit that passed, for a [timeout](ErrorKind::TimedOut) or a [queue
    /// timeout](ErrorKind::QueueTimeout). For [`NoEndpoint`](ErrorKind::NoEndpoint) it is the wait. For a [passed deadline](ErrorKind::DeadlineExceeded) it is
    /// the time that the deadline left to the call.
    #[must_use]
    pub const fn time_limit(&self) -> Option<Duration> {
        if self.kind().is_timeout() { self.time.duration() } else { None }
    }

    /// Returns `true` if this request certainly never reached the service behind the layer.
    ///
    /// `true` for every refusal before the first attempt: a repeated call cannot do its work twice.
    /// `false` for a refusal of a later attempt. `false` also for a timeout and a lost claim, whose
    /// work may have been done. `false` for a result that was not kept, because an earlier call did
    /// its work. `true` for a [deadline](ErrorKind::DeadlineExceeded) that passed before the call began, or while a balancer
    /// had no endpoint for it.
    #[must_use]
    pub const fn never_reached_service(&self) -> bool {
        let before = self.what & ENDED_BEFORE != 0 || !self.kind().may_have_reached();
        self.what & REACHED == 0 && before
    }

    /// Marks the refusal of a call whose earlier attempt reached the service.
    pub(crate) const fn after_an_attempt(mut self) -> Self {
        self.what |= REACHED;
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        if kind == ErrorKind::DeadlineExceeded {
            return self.fmt_deadline(f);
        }
        f.write_str(kind.layer())?;
        if !self.layer.as_str().is_empty() {
            write!(f, " \"{}\"", self.layer)?;
        }
        let (says, limit) = (kind.says(), self.limit());
        match (kind, self.retry_after()) {
            (ErrorKind::CircuitOpen, Some(after)) => write!(f, " is open (probes in {after:?})"),
            (ErrorKind::RateLimited, after) => {
                write!(f, "{says} ({}", Rate(f32::from_bits(limit)))?;
                match after {
                    Some(after) => write!(f, "; retry in {after:?})"),
                    None => f.write_str("; the call costs more than the limiter can ever hold)"),
                }
            }
            (ErrorKind::BulkheadFull, _) => {
                write!(f, "{says} ({})", Many(limit, "concurrent call"))
            }
            (ErrorKind::DetachedFull, _) => {
                write!(f, "{says} ({})", Many(limit, "detached handler"))
            }
            (ErrorKind::QueueTimeout, _) => {
                write!(f, "{says} within {:?}", Duration::from_nanos(self.time.0))
            }
            (ErrorKind::TooManyKeys, _) => {
                write!(f, " holds {limit} keys and none can be forgotten yet")
            }
            (ErrorKind::TimedOut, _) => {
                write!(f, " of {:?}{says}", Duration::from_nanos(self.time.0))
            }
            (ErrorKind::NoEndpoint, _) => {
                let waited = Duration::from_nanos(self.time.0);
                write!(f, "{} (waited {waited:?})", NoEndpoint::says(limit))
            }
            (ErrorKind::KeyInvalid, _) => write!(f, ": {}", WrongKey::read(limit)),
            (ErrorKind::KeyInFlight, Some(after)) => write!(f, "{says} (retry in {after:?})"),
            // The message of every other kind has no number in it.
            _ => f.write_str(says),
        }
    }
}

impl Error {
    /// The deadline is the request's, so the layer comes last.
    fn fmt_deadline(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, left) = (self.kind(), Duration::from_nanos(self.time.0));
        write!(f, "{}{} after {left:?}", kind.layer(), kind.says())?;
        if self.layer.as_str().is_empty() { Ok(()) } else { write!(f, ", in \"{}\"", self.layer) }
    }
}

/// A count with its noun, in the plural unless the count is 1.
struct Many(u32, &'static str);

impl fmt::Display for Many {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number, thing) = self;
        write!(f, "{number} {thing}{}", if *number == 1 { "" } else { "s" })
    }
}

/// The fault of an idempotency key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WrongKey {
    Empty,
    /// The length of the key in bytes.
    TooLong(u32),
    /// The number of the forbidden character.
    Control(u32),
    /// The request has no scope, and the layer requires one.
    NoScope,
}

impl WrongKey {
    /// The largest number that an error can carry beside the fault.
    const NUMBER: u32 = (1 << 30) - 1;

    const fn read(packed: u32) -> Self {
        match packed >> 30 {
            0 => Self::Empty,
            1 => Self::TooLong(packed & Self::NUMBER),
            2 => Self::Control(packed & Self::NUMBER),
            _ => Self::NoScope,
        }
    }
}

impl fmt::Display for WrongKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the key is empty"),
            Self::NoScope => f.write_str("the request has no scope, and the layer requires one"),
            Self::TooLong(length) => {
                write!(f, "the key has {length} bytes with its scope, at most 512 are allowed")
            }
            Self::Control(character) => {
                write!(f, "the key holds the control character U+{character:04X}")
            }
        }
    }
}

/// A rate in the largest unit that keeps it at 1 or above: 10 per second, 1 per day.
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

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // `None` except for `AsRefusal`.
        asked::answer(self)
    }
}

#[cfg(test)]
mod tests;
