//! Identifiers in rows, and the type of queries.

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::{Query, QueryAs, QueryScalar};
use sqlx::types::Uuid;
use sqlx::{Decode, FromRow, Postgres, Type};

use super::sql::Statement;

/// A transaction of the application.
#[cfg(any(feature = "saga", feature = "outbox", feature = "events"))]
pub(super) type Tx<'a> = sqlx::Transaction<'a, Postgres>;

/// A statement whose parameters are being bound.
pub(super) type PgQuery<'q> = Query<'q, Postgres, PgArguments>;

/// Creates a [`sqlx::query`].
pub(super) fn query<'q>(statement: Statement) -> PgQuery<'q> {
    let (text, keep) = statement.parts();
    sqlx::query(text).persistent(keep)
}

/// Creates a [`sqlx::query_as`].
pub(super) fn query_as<'q, O>(statement: Statement) -> QueryAs<'q, Postgres, O, PgArguments>
where
    O: for<'r> FromRow<'r, PgRow>,
{
    let (text, keep) = statement.parts();
    sqlx::query_as(text).persistent(keep)
}

/// Creates a [`sqlx::query_scalar`].
pub(super) fn query_scalar<'q, O>(statement: Statement) -> QueryScalar<'q, Postgres, O, PgArguments>
where
    O: for<'r> Decode<'r, Postgres> + Type<Postgres>,
    (O,): for<'r> FromRow<'r, PgRow>,
{
    let (text, keep) = statement.parts();
    sqlx::query_scalar(text).persistent(keep)
}

/// Returns an identifier as a column stores it.
pub(super) const fn uuid(id: u128) -> Uuid {
    Uuid::from_u128(id)
}
