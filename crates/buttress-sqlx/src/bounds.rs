//! The bounds of the stores, and the errors for values beyond them.

use buttress::StoreError;
#[cfg(feature = "outbox")]
use buttress_durable::outbox::NewMessage;
#[cfg(feature = "saga")]
use buttress_durable::saga::Entry;

/// The most bytes of one write of a saga, or of one stored result: 16 MiB. The bound limits how
/// long other transactions wait.
pub const LARGEST: usize = 16 << 20;

/// The most bytes of a name: of a definition, a codec, a consumer, or a step.
pub const LONGEST_NAME: usize = 512;

/// The most entries of one append.
pub(crate) const MOST_ENTRIES: usize = 4096;

/// Refuses names that are empty or too long, or that contain U+0000, which PostgreSQL's text cannot
/// hold.
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

/// Returns a text for people, with U+0000 replaced, which databases refuse.
pub(crate) fn readable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Refuses entries that are too many or too large.
#[cfg(feature = "saga")]
pub(crate) fn check_entries(what: &str, entries: &[Entry<Vec<u8>>]) -> Result<(), StoreError> {
    if entries.len() > MOST_ENTRIES {
        let length = entries.len();
        return Err(StoreError::invalid(format!(
            "{what}: {length} entries in one write, at most {MOST_ENTRIES} are allowed"
        )));
    }
    check_size(what, bytes_of(entries))
}

/// Returns the bytes of the entries.
#[cfg(feature = "saga")]
pub(crate) fn bytes_of(entries: &[Entry<Vec<u8>>]) -> usize {
    let one = |entry: &Entry<Vec<u8>>| {
        entry.payload().map_or(0, Vec::len) + entry.note().map_or(0, str::len)
    };
    entries.iter().map(one).sum()
}

/// Refuses messages that at least one kind of store could not hold.
#[cfg(feature = "outbox")]
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
