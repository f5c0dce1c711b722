use std::fmt;

use buttress::{AsRefusal, ErrorKind};

/// How a request ended. Each ends in exactly one way, unless the end of the run cuts it short.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Cause {
    /// With an answer.
    Ok,
    /// With an error of the service, or a refusal that says nothing of load: no route, not authorized, a key
    /// that cannot be used, a store that is away.
    Error,
    /// Cut short by a time limit.
    Timeout,
    /// Refused by a rate limiter.
    Limited,
    /// Refused by a circuit.
    Open,
    /// Refused by a bulkhead, by a queue that did not move, or for want of another place.
    Full,
    /// The caller gave up.
    Abandoned,
}

impl Cause {
    /// All of them, in the order in which reports show them.
    pub const ALL: [Self; 7] = [
        Self::Ok,
        Self::Error,
        Self::Timeout,
        Self::Limited,
        Self::Open,
        Self::Full,
        Self::Abandoned,
    ];

    /// The cause in lower case, for reports.
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

    /// What the result of a request says.
    pub(crate) fn of<T, E: AsRefusal>(result: &Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(error) => match error.as_refusal().map(buttress::Error::kind) {
                None => Self::Error,
                Some(ErrorKind::TimedOut) => Self::Timeout,
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

/// How many requests ended how.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ends([u64; 7]);

impl Ends {
    pub(crate) const fn none() -> Self {
        Self([0; 7])
    }

    /// Those that ended with `cause`.
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

    /// All that ended.
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
