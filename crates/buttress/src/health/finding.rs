//! The words of a health report: [`Status`], [`Importance`], [`Group`], and the [`Finding`] of a check.

use crate::vocabulary::causes::with_causes;
use crate::vocabulary::words::words;
use std::error::Error;

/// The state of a check, of a group or of the whole service.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Status {
    /// The checked part works.
    Up,
    /// The checked part works, but worse than normal.
    Degraded,
    /// The checked part does not work.
    Down,
    /// There is no result, or the last result is too old.
    Unknown,
}

impl Status {
    /// Every status.
    pub const ALL: &'static [Self] = &[Self::Up, Self::Degraded, Self::Down, Self::Unknown];

    /// Returns the status in lower case, as the metrics name it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::Unknown => "unknown",
        }
    }

    /// Returns `true` for [`Up`](Self::Up) and [`Degraded`](Self::Degraded): a probe gets 200 for
    /// these, and 503 for the other two.
    #[must_use]
    pub const fn is_passing(self) -> bool {
        matches!(self, Self::Up | Self::Degraded)
    }
}

words! {
    /// Returns the status in upper case, as health endpoints write it.
    Status {
        Up => "UP", Degraded => "DEGRADED", Down => "DOWN", Unknown => "UNKNOWN",
    }
}

/// How much the service depends on a check.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Importance {
    /// The service cannot work without the checked part. DOWN makes the service DOWN. DOWN and
    /// UNKNOWN make the service not ready if the check is in [`Group::Ready`].
    Critical,
    /// The service works worse without it. A status other than UP makes the service DEGRADED.
    High,
    /// The check is reported. It changes no status, except the answers of [`Group::Live`] and
    /// [`Group::Startup`] if it is in that group.
    Medium,
    /// Like [`Medium`](Self::Medium), but listed as less important for the operator.
    Low,
}

words! {
    /// Returns the importance in lower case.
    Importance {
        Critical => "critical", High => "high", Medium => "medium", Low => "low",
    }
}

/// A question of a platform that starts, stops and feeds the process.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Group {
    /// Must the platform restart the process? DOWN if a check of the group is DOWN.
    Live,
    /// May the platform send requests? Only critical checks of the group count.
    Ready,
    /// Has the process started? UP forever, once every check of the group has passed once.
    Startup,
}

impl Group {
    /// Every group.
    pub const ALL: &'static [Self] = &[Self::Live, Self::Ready, Self::Startup];
}

words! {
    /// Returns the group in lower case.
    Group {
        Live => "live", Ready => "ready", Startup => "startup",
    }
}

/// The most bytes of a text that a [`Finding`] keeps.
const LONGEST_TEXT: usize = 1024;

/// The result of one run of a check.
///
/// `Result<(), E>` converts into it: `Ok` is UP, and an error is DOWN with the texts of the error
/// and of its sources.
///
/// ```
/// use buttress::health::{Finding, Status};
/// let finding = Finding::from(Err("connection refused"));
/// assert_eq!((finding.status(), finding.text()), (Status::Down, Some("connection refused")));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    status: Status,
    text: Option<String>,
}

impl Finding {
    /// Returns a finding with the status UP: the checked part works.
    #[must_use]
    pub const fn up() -> Self {
        Self { status: Status::Up, text: None }
    }

    /// Returns a finding with the status DEGRADED: the checked part works worse than normal, for the reason `text`.
    #[must_use]
    pub fn degraded(text: impl Into<String>) -> Self {
        Self { status: Status::Degraded, text: None }.with_text(text)
    }

    /// Returns a finding with the status DOWN: the checked part does not work, for the reason `text`.
    #[must_use]
    pub fn down(text: impl Into<String>) -> Self {
        Self { status: Status::Down, text: None }.with_text(text)
    }

    /// Returns a finding with the status UNKNOWN: the check cannot find out whether the part works, for
    /// the reason `text`.
    #[must_use]
    pub fn unknown(text: impl Into<String>) -> Self {
        Self { status: Status::Unknown, text: None }.with_text(text)
    }

    /// Sets the text that operators see. It is cut after 1024 bytes.
    #[must_use]
    pub fn with_text(self, text: impl Into<String>) -> Self {
        let mut text = text.into();
        if text.len() > LONGEST_TEXT {
            let end = (0..=LONGEST_TEXT).rev().find(|end| text.is_char_boundary(*end));
            text.truncate(end.unwrap_or(0));
        }
        Self { text: Some(text), ..self }
    }

    /// Returns the status.
    #[must_use]
    pub const fn status(&self) -> Status {
        self.status
    }

    /// Returns the text, if there is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<Result<(), E>> for Finding {
    fn from(result: Result<(), E>) -> Self {
        let Err(error) = result else { return Self::up() };
        let error: Box<dyn Error + Send + Sync> = error.into();
        Self::down(with_causes(&*error))
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot ping")]
    struct Outer(#[source] std::io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Repeats(#[source] std::io::Error);

    /// An error whose chain of sources is a circle.
    #[derive(Debug)]
    struct Circle(&'static str);

    impl fmt::Display for Circle {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Circle {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            static NEXT: Circle = Circle("and around");
            Some(&NEXT)
        }
    }

    #[test]
    fn an_error_is_down_with_the_texts_of_its_sources_each_once() {
        let refused = || std::io::Error::other("refused");
        assert_eq!(Finding::from(Err(Outer(refused()))), Finding::down("cannot ping: refused"));
        assert_eq!(Finding::from(Err(Repeats(refused()))), Finding::down("refused"));
        assert_eq!(Finding::from(Ok::<(), String>(())), Finding::up());
    }

    #[test]
    fn a_text_is_cut_at_a_character_and_a_cycle_of_sources_ends() {
        let long = "ä".repeat(LONGEST_TEXT);
        let finding = Finding::degraded(format!("x{long}"));
        assert_eq!(finding.text().map(str::len), Some(LONGEST_TEXT - 1));
        assert_eq!(Finding::down(&long[..LONGEST_TEXT]).text(), Some(&long[..LONGEST_TEXT]));
        assert_eq!(Finding::from(Err(Circle("around"))), Finding::down("around: and around"));
    }
}
