//! Names of layers.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// The name of a layer, as it appears in errors, events and metrics.
///
/// A name is a `&'static str`, so an error carries it without allocating or counting references. A
/// string literal costs nothing. An owned `String`, e.g. from a configuration file, is interned:
/// the process keeps one copy until it ends. Use a bounded set of names, never user input.
///
/// ```
/// use buttress::Name;
/// assert_eq!(Name::from("db"), Name::from(String::from("db")));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(transparent))]
pub struct Name(&'static str);

impl Name {
    /// Returns the name as text, or an empty text for a layer without a name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl From<&'static str> for Name {
    fn from(name: &'static str) -> Self {
        Self(name)
    }
}

impl From<String> for Name {
    fn from(name: String) -> Self {
        static NAMES: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
        let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        let names = names.get_or_insert_with(HashSet::new);
        if let Some(known) = names.get(name.as_str()) {
            return Self(known);
        }
        let leaked: &'static str = Box::leak(name.into_boxed_str());
        names.insert(leaked);
        Self(leaked)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owned_name_is_kept_once() {
        let first = Name::from(String::from("interned-once"));
        let again = Name::from(String::from("interned-once"));
        assert!(std::ptr::eq(first.as_str(), again.as_str()));
    }
}
