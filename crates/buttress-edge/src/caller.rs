//! The caller of a request: its subject, or its address.

use std::fmt;
use std::sync::Arc;

use buttress_http::client_key::AddressKey;
use http::HeaderValue;

/// The longest subject, in bytes.
const LONGEST: usize = 256;

/// The name of an admitted caller, e.g. the subject of a token. An [`Admit`](crate::Admit) puts it into the extensions
/// of the request.
///
/// Debug output omits the name, because it may be personal.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Subject(Arc<str>);

/// The error of a text that cannot be a [`Subject`]. It omits the text, because logs must not have it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidSubject {
    length: usize,
}

impl fmt::Display for InvalidSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a subject of {} bytes is refused: use 1 to {LONGEST} bytes without control characters, and without spaces \
             at its ends",
            self.length
        )
    }
}

impl std::error::Error for InvalidSubject {}

impl Subject {
    /// Creates a subject.
    ///
    /// # Errors
    /// Returns an error if `name` does not have 1 to 256 bytes, has a control character, or begins or ends with white
    /// space: a header field could not carry it unchanged.
    pub fn new(name: &str) -> Result<Self, InvalidSubject> {
        let is_short = (1..=LONGEST).contains(&name.len());
        if !is_short || name.chars().any(char::is_control) || name.trim() != name {
            return Err(InvalidSubject { length: name.len() });
        }
        Ok(Self(name.into()))
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the value of a field with the name.
    pub(crate) fn value(&self) -> Option<HeaderValue> {
        HeaderValue::from_bytes(self.0.as_bytes()).ok()
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").finish_non_exhaustive()
    }
}

/// The key of a client for [`Route::per_client`](crate::Route::per_client): its subject if the route has admitted one,
/// or its address.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ClientKey {
    /// The subject of an admitted request.
    Subject(Subject),
    /// The address of a request without a subject.
    Address(AddressKey),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_that_a_field_would_change_is_refused() {
        for name in ["", " a", "a ", "a\r\nb", "a\0", "a\u{7f}", "a\u{85}b", &"a".repeat(257)] {
            let error = Subject::new(name).unwrap_err();
            assert!(error.to_string().contains(&format!("{} bytes", name.len())), "{error}");
        }
        for name in ["a", "a b", "Zoë", "auth0|7", &"a".repeat(256)] {
            let subject = Subject::new(name).unwrap();
            assert_eq!(subject.value().unwrap().as_bytes(), name.as_bytes());
            assert!(!format!("{subject:?}").contains(name) || name == "a");
        }
    }
}
