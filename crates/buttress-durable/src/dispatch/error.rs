//! The errors of a registration and of a request without a handler.

use std::fmt;

/// The most names that an error message lists.
const LISTED: usize = 10;

/// The error of a request whose exact type has no handler.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no handler for `{name}`: register it with `on`; {}", handlers(.known))]
pub struct NoHandler {
    /// The type of the request, as [`std::any::type_name`] writes it.
    pub name: &'static str,
    /// The request types that have a handler, in alphabetical order.
    pub known: Vec<&'static str>,
}

/// The error of a second handler for one request type.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "`{name}` has a handler already: register it once, or call `replace` for the second handler"
)]
pub struct Duplicate {
    /// The type of the request, as [`std::any::type_name`] writes it.
    pub name: &'static str,
}

/// The error of a build: expected request types have no handler.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no handler for {}: register each with `on`; {}", List(.names), handlers(.known))]
pub struct Missing {
    /// The expected types without a handler, in alphabetical order.
    pub names: Vec<&'static str>,
    /// The request types that have a handler, in alphabetical order.
    pub known: Vec<&'static str>,
}

fn handlers(known: &[&'static str]) -> String {
    match known {
        [] => "no request type has a handler".to_owned(),
        known => format!("the types with a handler are {}", List(known)),
    }
}

/// Writes the first names, and how many follow.
struct List<'a>(&'a [&'static str]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.iter().take(LISTED).enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}`{name}`")?;
        }
        match self.0.len().checked_sub(LISTED) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, " and {more} more"),
        }
    }
}
