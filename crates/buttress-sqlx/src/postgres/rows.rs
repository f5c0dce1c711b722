//! Identifiers in rows, and the type of queries.

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::types::Uuid;
use sqlx::{Postgres, Row as _};

/// A statement whose parameters are being bound.
pub(super) type PgQuery<'q> = Query<'q, Postgres, PgArguments>;

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
