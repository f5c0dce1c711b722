//! [`Report`]: a snapshot for operators.

use std::time::Duration;

use super::finding::{Group, Importance, Status};
use crate::vocabulary::name::Name;

/// A snapshot of a [`Health`](super::Health), with the texts of errors. It is for operators only.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The name of the service.
    pub name: Name,
    /// The version of the service.
    pub version: String,
    /// The status of the whole service.
    pub status: Status,
    /// Whether the process may be kept, as [`Group::Live`] says.
    pub live: Status,
    /// Whether the service takes requests, as [`Group::Ready`] says.
    pub ready: Status,
    /// Whether the service has started, as [`Group::Startup`] says.
    pub startup: Status,
    /// Whether [`Health::drain`](super::Health::drain) was called.
    pub draining: bool,
    /// The checks, in the order in which they were added.
    pub checks: Vec<CheckReport>,
}

/// The state of one check in a [`Report`].
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckReport {
    /// The name of the check.
    pub name: Name,
    /// The importance of the check.
    pub importance: Importance,
    /// The groups of the check.
    pub groups: Vec<Group>,
    /// The status of the check now.
    pub status: Status,
    /// The text of the last result, or the reason of UNKNOWN.
    pub text: Option<String>,
    /// The time since the last result. `None` before the first result.
    pub age: Option<Duration>,
    /// How long the last finished run took. `None` before the first result.
    pub took: Option<Duration>,
}
