//! Identifiers in rows.

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use sqlx::types::Uuid;

/// An identifier as a column keeps it.
pub(super) const fn uuid(id: u128) -> Uuid {
    Uuid::from_u128(id)
}

/// The identifier in a column.
pub(super) fn id(row: &PgRow, column: usize) -> Result<u128, sqlx::Error> {
    Ok(row.try_get::<Uuid, _>(column)?.as_u128())
}

/// The identifier in a column, if there is one.
pub(super) fn id_or_null(row: &PgRow, column: usize) -> Result<Option<u128>, sqlx::Error> {
    Ok(row.try_get::<Option<Uuid>, _>(column)?.map(|id| id.as_u128()))
}
