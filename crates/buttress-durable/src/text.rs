//! Texts for people. Stores keep texts of the user's code, cut to a length that every store accepts.

use std::fmt::{self, Write as _};

/// The most characters of a text that a store receives.
pub(crate) const LONGEST: usize = 2000;

/// Returns the first [`LONGEST`] characters of a text. Replaces U+0000, which databases refuse.
pub(crate) fn cut(text: impl fmt::Display) -> String {
    let mut cut = Cut { text: String::new(), left: LONGEST };
    // `Cut` never fails. If the `Display` fails, `cut` keeps the text before the failure.
    let _ = write!(cut, "{text}");
    cut.text
}

struct Cut {
    text: String,
    left: usize,
}

impl fmt::Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars().take(self.left) {
            self.left -= 1;
            self.text.push(if character == '\0' { char::REPLACEMENT_CHARACTER } else { character });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("a\0b"), "a\u{fffd}b");
        assert_eq!(cut(format_args!("{}: {}", "name", "why")), "name: why");
        for character in ["x", "\u{e9}", "\u{1f680}"] {
            assert_eq!(cut(character.repeat(LONGEST)), character.repeat(LONGEST));
            assert_eq!(cut(character.repeat(LONGEST + 1)), character.repeat(LONGEST));
            let (one, other) = (character.repeat(1500), character.repeat(1500));
            assert_eq!(cut(format_args!("{one}{other}")), character.repeat(LONGEST));
        }
    }
}
