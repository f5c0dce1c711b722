//! An error and its causes.

use std::error::Error as StdError;
use std::fmt;
use std::iter::from_fn;

pub(crate) type AnyStdError = dyn StdError + 'static;

/// Returns the error and its causes.
fn chain(error: &AnyStdError) -> impl Iterator<Item = &AnyStdError> {
    let mut next = Some(error);
    from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// Returns the first error of this type among an error and its causes.
pub(crate) fn find<T: StdError + 'static>(error: &AnyStdError) -> Option<&T> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// An error with its causes, for log lines. Some errors repeat the text of their cause; it is then written once.
pub(crate) struct WithCauses<'a>(pub(crate) &'a AnyStdError);

impl fmt::Display for WithCauses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        for cause in chain(self.0).skip(1).take(8) {
            let own = cause.to_string();
            if !text.ends_with(&own) {
                text.push_str(": ");
                text.push_str(&own);
            }
        }
        f.write_str(&text)
    }
}

/// Returns the error and its causes, for people.
pub(crate) fn describe(error: &AnyStdError) -> String {
    crate::text::cut(WithCauses(error))
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use buttress::StoreError;

    use super::*;

    #[test]
    fn the_causes_of_an_error_are_written_once_each() {
        let refused = || std::io::Error::other("refused");
        let error = StoreError::transient("renewing").with_source(refused());
        assert_eq!(describe(&error), format!("{error}: refused"));
        let repeats = StoreError::transient("renewing: refused").with_source(refused());
        assert_eq!(describe(&repeats), repeats.to_string());
    }
}
