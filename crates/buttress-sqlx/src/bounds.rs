//! What the stores can hold, and the errors for what they cannot.

use buttress::StoreError;
use buttress_durable::outbox::NewMessage;
use buttress_durable::saga::Entry;

/// The most bytes that one write of a saga, or one stored result, may bring: 16 MiB. It bounds a
/// transaction, and thereby how long others wait for theirs.
pub const LARGEST: usize = 16 << 20;

/// The most bytes of a name: of a definition, a codec, a consumer, or a step.
pub const LONGEST_NAME: usize = 512;

/// The most entries of one append.
pub(crate) const MOST_ENTRIES: usize = 4096;

/// Refuses names that are empty, too long, or hold the character that PostgreSQL's text cannot.
pub(crate) fn check_name(what: &str, name: &str) -> Result<(), StoreError> {
    if name.is_empty() || name.len() > LONGEST_NAME {
        let length = name.len();
        return Err(StoreError::invalid(format!(
            "{what}: a name of {length} bytes, between 1 and {LONGEST_NAME} are allowed"
        )));
    }
    check_text(what, name)
}

/// Refuses U+0000.
pub(crate) fn check_text(what: &str, text: &str) -> Result<(), StoreError> {
    if text.contains('\0') {
        return Err(StoreError::invalid(format!("{what}: a text with U+0000 in it")));
    }
    Ok(())
}

/// Refuses more than [`LARGEST`] bytes.
pub(crate) fn check_size(what: &str, bytes: usize) -> Result<(), StoreError> {
    if bytes > LARGEST {
        return Err(StoreError::invalid(format!(
            "{what}: {bytes} bytes, at most {LARGEST} are allowed"
        )));
    }
    Ok(())
}

/// A text for people, with what no database keeps replaced.
pub(crate) fn readable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Refuses entries that are too many or too large.
pub(crate) fn check_entries(what: &str, entries: &[Entry<Vec<u8>>]) -> Result<(), StoreError> {
    if entries.len() > MOST_ENTRIES {
        let length = entries.len();
        return Err(StoreError::invalid(format!(
            "{what}: {length} entries at once, at most {MOST_ENTRIES} are allowed"
        )));
    }
    check_size(what, bytes_of(entries))
}

/// What entries bring.
pub(crate) fn bytes_of(entries: &[Entry<Vec<u8>>]) -> usize {
    let one = |entry: &Entry<Vec<u8>>| {
        entry.payload().map_or(0, Vec::len) + entry.note().map_or(0, str::len)
    };
    entries.iter().map(one).sum()
}

/// Refuses messages that no store could hold, or that not all could.
pub(crate) fn check_message(message: &NewMessage) -> Result<(), StoreError> {
    message.check().map_err(|error| StoreError::invalid(error.to_string()).with_source(error))?;
    for text in [&message.key, &message.topic] {
        if text.contains('\0') {
            return Err(StoreError::invalid(format!(
                "message {}: a key or topic with U+0000 in it",
                message.id
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_the_bound() {
        assert!(check_size("saga", LARGEST).is_ok());
        let error = check_size("saga x", LARGEST + 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "store: invalid: saga x: 16777217 bytes, at most 16777216 are allowed"
        );
        assert!(check_name("step", &"s".repeat(LONGEST_NAME)).is_ok());
        for name in ["", "a\0b", &"s".repeat(LONGEST_NAME + 1)] {
            assert!(check_name("step", name).is_err());
        }
    }
}
