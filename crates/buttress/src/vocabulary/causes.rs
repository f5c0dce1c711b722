//! The text of an error with its causes.

use std::error::Error;

/// The most causes in a text. A chain of causes may be a circle.
const MOST: usize = 16;

/// Returns the text of an error and of its causes. Some errors repeat the text of their cause; it is then written once.
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| (**cause).source()).take(MOST) {
        let own = cause.to_string();
        if !text.ends_with(&own) {
            text.push_str(": ");
            text.push_str(&own);
        }
    }
    text
}
