//! Identifiers in rows.

/// Returns an identifier as a column stores it. The bytes have the order of the numbers.
pub(super) fn bytes_of_id(id: u128) -> Vec<u8> {
    id.to_be_bytes().to_vec()
}
