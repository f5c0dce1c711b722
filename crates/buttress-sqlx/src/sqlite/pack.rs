//! [`Pack`]: many rows as two parameters of one statement.

use std::fmt::Write;

/// Rows of numbers and bytes. The numbers are a JSON array of arrays, for `json_each(?1)`. The
/// bytes are concatenated in a blob, `?2`, and the JSON has their offset and length for `substr`.
/// JSON alone would need hexadecimal bytes.
pub(super) struct Pack {
    pub json: String,
    pub blob: Vec<u8>,
    rows: usize,
}

impl Pack {
    pub(super) fn new() -> Self {
        // Never empty, because `substr` of an empty blob is NULL.
        Self { json: String::from("["), blob: vec![0], rows: 0 }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rows == 0
    }

    pub(super) fn row(&mut self) -> Row<'_> {
        self.json.push_str(if self.rows == 0 { "[" } else { ",[" });
        self.rows += 1;
        Row { pack: self, columns: 0 }
    }

    /// Completes the JSON after the last row.
    pub(super) fn end(mut self) -> Self {
        self.json.push(']');
        self
    }
}

/// One row, whose columns are added in order.
pub(super) struct Row<'p> {
    pack: &'p mut Pack,
    columns: usize,
}

impl Row<'_> {
    /// Adds a column.
    pub(super) fn int(&mut self, number: impl Into<i64>) -> &mut Self {
        self.comma();
        // Writing to a String cannot fail.
        let _ = write!(self.pack.json, "{}", number.into());
        self
    }

    /// Adds two columns: the offset, counted from 1, and the length.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.comma();
        let _ = write!(self.pack.json, "{},{}", self.pack.blob.len() + 1, bytes.len());
        self.pack.blob.extend_from_slice(bytes);
        self
    }

    /// Adds two columns: the offset and the length, or NULL.
    pub(super) fn bytes_or_null(&mut self, bytes: Option<&[u8]>) -> &mut Self {
        match bytes {
            Some(bytes) => self.bytes(bytes),
            None => self.null().null(),
        }
    }

    fn null(&mut self) -> &mut Self {
        self.comma();
        self.pack.json.push_str("null");
        self
    }

    fn comma(&mut self) {
        if self.columns > 0 {
            self.pack.json.push(',');
        }
        self.columns += 1;
    }
}

impl Drop for Row<'_> {
    fn drop(&mut self) {
        self.pack.json.push(']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_numbers_and_places() {
        let mut pack = Pack::new();
        assert!(pack.is_empty());
        pack.row().int(-1).bytes(b"ab").int(true);
        pack.row().bytes_or_null(None).bytes(b"").bytes_or_null(Some(b"c"));
        let pack = pack.end();
        assert_eq!(pack.json, "[[-1,2,2,1],[null,null,4,0,4,1]]");
        assert_eq!(pack.blob, b"\0abc");
        assert_eq!(Pack::new().end().json, "[]");
    }
}
