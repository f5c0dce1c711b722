//! The first entry of a log as a row: the input is its payload, and the rest is one text.
//!
//! The first line of the text is the shape of the definition. `correlation=` and `trace=` follow on
//! their own lines.

use buttress::StoreError;
use buttress_durable::saga::Beginning;

use crate::bounds;

const CORRELATION: &str = "correlation=";
const TRACE: &str = "trace=";

/// Refuses texts that cannot be one line each.
pub(crate) fn check(what: &str, beginning: &Beginning<Vec<u8>>) -> Result<(), StoreError> {
    let Beginning { shape, correlation, trace, .. } = beginning;
    for (name, text) in [("shape", shape), ("correlation", correlation), ("trace", trace)] {
        let Some(text) = text else { continue };
        if text.chars().any(char::is_control) {
            return Err(StoreError::invalid(format!(
                "{what}: {name} {text:?} has a control character"
            )));
        }
        bounds::check_name(&format!("{what}: {name}"), text)?;
    }
    Ok(())
}

/// Returns how many bytes the first entry takes.
pub(crate) fn bytes(beginning: &Beginning<Vec<u8>>) -> usize {
    beginning.input.len() + note(beginning).map_or(0, |note| note.len())
}

/// Returns the text of the row.
pub(crate) fn note(beginning: &Beginning<Vec<u8>>) -> Option<String> {
    let Beginning { shape, correlation, trace, .. } = beginning;
    let mut note = shape.clone().unwrap_or_default();
    for (name, text) in [(CORRELATION, correlation), (TRACE, trace)] {
        if let Some(text) = text {
            note.extend(["\n", name, text]);
        }
    }
    (!note.is_empty()).then_some(note)
}

/// Reads the row. Lines of names that this release does not know are ignored.
pub(crate) fn read(input: Vec<u8>, note: Option<String>) -> Beginning<Vec<u8>> {
    let mut beginning = Beginning::new(input);
    let note = note.unwrap_or_default();
    let mut lines = note.split('\n');
    beginning.shape = lines.next().filter(|shape| !shape.is_empty()).map(str::to_owned);
    for line in lines {
        if let Some(text) = line.strip_prefix(CORRELATION) {
            beginning.correlation = Some(text.to_owned());
        } else if let Some(text) = line.strip_prefix(TRACE) {
            beginning.trace = Some(text.to_owned());
        }
    }
    beginning
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_entry_is_read_as_it_was_written() {
        let text = |text: &str| Some(text.to_owned());
        for shape in [None, text("a:c[];b:p[0];")] {
            for correlation in [None, text("order-7")] {
                for trace in [None, text("00-4bf9-00f0-01")] {
                    let mut beginning = Beginning::new(b"7".to_vec());
                    beginning.shape = shape.clone();
                    (beginning.correlation, beginning.trace) = (correlation.clone(), trace);
                    check("saga", &beginning).unwrap();
                    assert_eq!(read(b"7".to_vec(), note(&beginning)), beginning);
                }
            }
        }
        let later = read(Vec::new(), text("a:c[];\ntenant=5\ntrace=1"));
        assert_eq!((later.shape, later.trace), (text("a:c[];"), text("1")));
    }

    #[test]
    fn what_is_not_one_line_is_refused() {
        for text in ["", "a\nb", "a\0", &"x".repeat(bounds::LONGEST_NAME + 1)] {
            let mut beginning = Beginning::new(Vec::new());
            beginning.correlation = Some(text.to_owned());
            let error = check("saga 7", &beginning).unwrap_err().to_string();
            assert!(error.contains("saga 7: correlation"), "{error}");
        }
    }
}
