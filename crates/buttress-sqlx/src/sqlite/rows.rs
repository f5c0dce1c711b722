//! Identifiers in rows.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

/// Returns an identifier as a column stores it. The bytes have the order of the numbers.
pub(super) fn bytes_of_id(id: u128) -> Vec<u8> {
    id.to_be_bytes().to_vec()
}

/// Returns the identifier in a column.
pub(super) fn id(row: &SqliteRow, column: usize) -> Result<u128, sqlx::Error> {
    let bytes: &[u8] = row.try_get(column)?;
    let bytes = bytes.try_into().map_err(|_| {
        let length = bytes.len();
        sqlx::Error::Decode(format!("an identifier of {length} bytes, not of 16").into())
    })?;
    Ok(u128::from_be_bytes(bytes))
}
