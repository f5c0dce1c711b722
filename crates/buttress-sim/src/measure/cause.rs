use std::fmt;

use buttress::{AsRefusal, ErrorKind};

/// How a request ended. Each request ends with exactly one cause, unless the end of the run
/// interrupts it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Cause {
    /// The request got an answer.
    Ok,
    /// The service returned an error, or a layer refused for a reason other than load: no route,
    /// not authorized, an unusable key, an unavailable store.
    Error,
    /// A time limit interrupted the call.
    Timeout,
    /// A rate limiter refused the call.
    Limited,
    /// An open circuit refused the call.
    Open,
    /// A bulkhead or a queue refused the call, or a layer had no room for another key or detached
    /// handler.
    Full,
    /// The caller left before the answer.
    Abandoned,
}

impl Cause {
    /// All causes, in the order of reports.
    pub const ALL: [Self; 7] = [
        Self::Ok,
        Self::Error,
        Self::Timeout,
        Self::Limited,
        Self::Open,
        Self::Full,
        Self::Abandoned,
    ];

    /// Returns the cause in lower case, for reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::Limited => "limited",
            Self::Open => "open",
            Self::Full => "full",
            Self::Abandoned => "abandoned",
        }
    }

    /// Returns the cause of the result of a request.
    pub(crate) fn of<T, E: AsRefusal>(result: &Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(error) => match error.as_refusal().map(buttress::Error::kind) {
                None => Self::Error,
                Some(ErrorKind::TimedOut | ErrorKind::DeadlineExceeded) => Self::Timeout,
                Some(ErrorKind::RateLimited) => Self::Limited,
                Some(ErrorKind::CircuitOpen) => Self::Open,
                Some(
                    ErrorKind::BulkheadFull
                    | ErrorKind::QueueTimeout
                    | ErrorKind::TooManyKeys
                    | ErrorKind::DetachedFull,
                ) => Self::Full,
                Some(_) => Self::Error,
            },
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The number of ended requests per cause.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ends([u64; 7]);

impl Ends {
    pub(crate) const fn none() -> Self {
        Self([0; 7])
    }

    /// Returns the number of requests that ended with `cause`.
    #[must_use]
    pub const fn of(&self, cause: Cause) -> u64 {
        let Self([ok, error, timeout, limited, open, full, abandoned]) = self;
        match cause {
            Cause::Ok => *ok,
            Cause::Error => *error,
            Cause::Timeout => *timeout,
            Cause::Limited => *limited,
            Cause::Open => *open,
            Cause::Full => *full,
            Cause::Abandoned => *abandoned,
        }
    }

    /// Returns the number of requests that ended.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.0.iter().sum()
    }

    #[inline]
    pub(crate) fn add(&mut self, cause: Cause) {
        if let Some(count) = self.0.get_mut(cause as usize) {
            *count += 1;
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count += more;
        }
    }
}
